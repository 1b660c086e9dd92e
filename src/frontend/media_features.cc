#include "frontend/media_features.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "base/small_floats.h"
#include "wire/quoted.h"
#include "wire/safetensors.h"

namespace pixii::frontend {

namespace {

using wire::StoredTensor;
using wire::StoredType;

static_assert(std::endian::native == std::endian::little, "tensors are read as they lie in files");

constexpr std::int64_t kRowsMax = std::int64_t{1} << 20;  // model::kMediaTokensMax
constexpr std::string_view kGrid = "image_grid_thw";
// What other servers' files have beside the features.
constexpr std::array<std::string_view, 3> kBeside = {kGrid, "special_tokens",
                                                     "image_token_offsets"};
constexpr std::array<std::string_view, 2> kNames = {"mm_embeddings", "image_embeds"};
constexpr std::array<std::string_view, 5> kPrograms = {".pt", ".pth", ".bin", ".pkl", ".ckpt"};

tl::unexpected<Error> Bad(const std::string& what) { return Fail(Code::kInvalidArgument, what); }

// Of what comes before a query or fragment, in lower case.
bool EndsWith(std::string_view url, std::string_view ending) {
  url = url.substr(0, url.find_first_of("?#"));
  return url.size() >= ending.size() &&
         std::ranges::equal(url.substr(url.size() - ending.size()), ending, [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b;
         });
}

bool IsProgram(std::string_view name) {
  return std::ranges::any_of(kPrograms, [&](std::string_view one) { return EndsWith(name, one); });
}

// What a safetensors file begins with: the length of its header.
std::uint64_t HeaderBytes(std::string_view file) {
  std::uint64_t bytes = 0;
  std::memcpy(&bytes, file.data(), std::min(file.size(), sizeof bytes));
  return bytes;
}

// A pickle of protocol 2 to 5. A safetensors file whose header has 640 bytes begins like one: what
// may be a header's length is taken for that.
bool IsPickle(std::string_view file) {
  return file.size() >= 2 && file[0] == '\x80' && file[1] >= 2 && file[1] <= 5 &&
         HeaderBytes(file) > kFeatureHeaderBytesMax;
}

Result<void> RefusePrograms(std::string_view file, std::string_view name) {
  // The zip file and the pickle that torch.save writes.
  if (IsProgram(name) || file.starts_with("PK\x03\x04") || IsPickle(file)) {
    return Fail(Code::kUnsupported,
                "embeddings are taken as .safetensors alone: a .pt file (.pth, .bin, .pkl) is a "
                "program that runs when it is read; write it anew with "
                "safetensors.torch.save_file({\"mm_embeddings\": tensor}, path)");
  }
  return {};
}

Result<wire::SafetensorsHeader> ReadHeader(std::string_view file) {
  const std::uint64_t header_bytes = HeaderBytes(file);
  if (header_bytes > kFeatureHeaderBytesMax && header_bytes <= file.size()) {
    return Bad(fmt::format("embeddings: a safetensors header of {} bytes; {} are allowed",
                           header_bytes, kFeatureHeaderBytesMax));
  }
  Result<wire::SafetensorsHeader> header = wire::ParseSafetensorsHeader(
      std::as_bytes(std::span<const char>(file)), file.size(), "embeddings");
  if (!header) {
    const Code code =
        header.error().code() == Code::kUnsupported ? Code::kUnsupported : Code::kInvalidArgument;
    return Fail(code, header.error().detail());
  }
  return header;
}

const StoredTensor* Find(const wire::SafetensorsHeader& header, std::string_view name) {
  const auto found = std::ranges::find(header.tensors, name, &StoredTensor::name);
  return found == header.tensors.end() ? nullptr : &*found;
}

Result<const StoredTensor*> FindFeatures(const wire::SafetensorsHeader& header) {
  for (const std::string_view name : kNames) {
    if (const StoredTensor* tensor = Find(header, name)) {
      return tensor;
    }
  }
  const StoredTensor* only = nullptr;
  for (const StoredTensor& tensor : header.tensors) {
    if (std::ranges::find(kBeside, tensor.name) != kBeside.end()) {
      continue;
    }
    if (only != nullptr) {
      return Bad(fmt::format("embeddings: {} and {} may be the features; call them mm_embeddings",
                             wire::Quoted(only->name), wire::Quoted(tensor.name)));
    }
    only = &tensor;
  }
  if (only == nullptr) {
    return Bad("embeddings: the file has no tensor mm_embeddings");
  }
  return only;
}

std::string_view BytesOf(std::string_view file, const StoredTensor& tensor) {
  return file.substr(tensor.file_offset, tensor.size_bytes);
}

template <class Number>
Number NumberAt(std::string_view bytes, std::size_t index) {
  Number out;
  std::memcpy(&out, bytes.data() + index * sizeof(Number), sizeof(Number));
  return out;
}

// Rows and values of a row.
Result<std::uint32_t> CheckShape(const StoredTensor& tensor, const wire::VisionCard& card) {
  std::span<const std::int64_t> shape = tensor.shape;
  if (shape.size() == 3 && shape[0] == 1) {
    shape = shape.subspan(1);
  }
  if (shape.size() != 2) {
    return Bad(fmt::format("embeddings: {} has the shape [{}]; [rows, {}] is wanted",
                           wire::Quoted(tensor.name), fmt::join(tensor.shape, ", "),
                           card.row_size));
  }
  if (shape[0] < 1 || shape[0] > kRowsMax) {
    return Bad(fmt::format("embeddings: {} has {} rows; 1 to {} are allowed",
                           wire::Quoted(tensor.name), shape[0], kRowsMax));
  }
  if (shape[1] != card.row_size) {
    return Bad(fmt::format("embeddings: {} has rows of {} values; those of this model have {}",
                           wire::Quoted(tensor.name), shape[1], card.row_size));
  }
  return static_cast<std::uint32_t>(shape[0]);
}

Result<std::vector<float>> ReadFloats(std::string_view file, const StoredTensor& tensor) {
  const std::string_view bytes = BytesOf(file, tensor);
  const std::size_t count = bytes.size() / wire::StoredTypeSize(tensor.type);
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    switch (tensor.type) {
      case StoredType::kF32:
        out[i] = NumberAt<float>(bytes, i);
        break;
      case StoredType::kF64:
        out[i] = static_cast<float>(NumberAt<double>(bytes, i));
        break;
      case StoredType::kF16:
        out[i] = FloatFromF16(NumberAt<std::uint16_t>(bytes, i));
        break;
      case StoredType::kBf16:
        out[i] = FloatFromBf16(NumberAt<std::uint16_t>(bytes, i));
        break;
      default:
        return Fail(Code::kUnsupported,
                    fmt::format("embeddings: {} is of {}; F32, F16, BF16 and F64 are read",
                                wire::Quoted(tensor.name), wire::StoredTypeName(tensor.type)));
    }
    if (!std::isfinite(out[i])) {
      return Bad(
          fmt::format("embeddings: value {} of {} is {}", i, wire::Quoted(tensor.name), out[i]));
    }
  }
  return out;
}

// Rows and columns of tokens, from those of patches.
Result<std::array<std::uint32_t, 2>> ReadGrid(std::string_view file, const StoredTensor& tensor,
                                              const wire::VisionCard& card, std::uint32_t rows) {
  const std::string_view bytes = BytesOf(file, tensor);
  const bool wide = tensor.type == StoredType::kI64;
  if (!wide && tensor.type != StoredType::kI32) {
    return Fail(Code::kUnsupported, fmt::format("embeddings: {} is of {}; I64 and I32 are read",
                                                kGrid, wire::StoredTypeName(tensor.type)));
  }
  if (bytes.size() != 3 * (wide ? sizeof(std::int64_t) : sizeof(std::int32_t))) {
    return Bad(fmt::format("embeddings: {} has the shape [{}]; one picture has 3 values", kGrid,
                           fmt::join(tensor.shape, ", ")));
  }
  std::array<std::int64_t, 3> grid{};
  for (std::size_t i = 0; i < grid.size(); ++i) {
    grid[i] = wide ? NumberAt<std::int64_t>(bytes, i) : NumberAt<std::int32_t>(bytes, i);
  }
  const std::int64_t merge = card.merge_size;
  const auto side = [&](std::int64_t patches) {
    return patches >= merge && patches % merge == 0 && patches / merge <= rows ? patches / merge
                                                                               : 0;
  };
  if (grid[0] != 1 || side(grid[1]) * side(grid[2]) != rows) {
    return Bad(
        fmt::format("embeddings: {} of {} is not the grid of {} rows: frames, which is 1, "
                    "and patches, of which {} x {} are a row",
                    kGrid, fmt::join(grid, " x "), rows, merge, merge));
  }
  return std::array{static_cast<std::uint32_t>(side(grid[1])),
                    static_cast<std::uint32_t>(side(grid[2]))};
}

}  // namespace

bool IsFeatureUrl(std::string_view url) {
  return !url.starts_with("data:") &&
         (EndsWith(url, ".safetensors") || EndsWith(url, ".pt") || EndsWith(url, ".pth"));
}

Result<wire::MediaItem> ReadFeatures(std::string_view file, std::string_view name,
                                     const wire::VisionCard& card) {
  PX_CHECK_OK(RefusePrograms(file, name));
  if (card.row_size == 0) {
    return Fail(Code::kUnsupported, "embeddings: this model's workers do not take any");
  }
  PX_TRY(const wire::SafetensorsHeader header, ReadHeader(file));
  PX_TRY(const StoredTensor* tensor, FindFeatures(header));
  wire::MediaItem item;
  PX_TRY(item.count, CheckShape(*tensor, card));
  item.height = 1;
  item.width = item.count;
  if (const StoredTensor* grid = Find(header, kGrid)) {
    PX_TRY(const auto sides, ReadGrid(file, *grid, card, item.count));
    item.height = sides[0];
    item.width = sides[1];
  } else if (card.has_axes) {
    return Bad(
        fmt::format("embeddings: {} is missing: this model has to know how the rows lie", kGrid));
  }
  PX_TRY(const std::vector<float> floats, ReadFloats(file, *tensor));
  item.features.resize(floats.size() * sizeof(float));
  std::memcpy(item.features.data(), floats.data(), item.features.size());
  item.digest = wire::MediaDigest(item);
  return item;
}

}  // namespace pixii::frontend
