#include "wire/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/checked.h"
#include "wire/json.h"
#include "wire/quoted.h"

namespace pixii::wire {
namespace {

struct StoredTypeRow {
  StoredType type;
  std::string_view name;
  std::size_t size_bytes;
};

constexpr std::array<StoredTypeRow, 16> kStoredTypes = {{
    {StoredType::kF64, "F64", 8},
    {StoredType::kF32, "F32", 4},
    {StoredType::kF16, "F16", 2},
    {StoredType::kBf16, "BF16", 2},
    {StoredType::kI64, "I64", 8},
    {StoredType::kI32, "I32", 4},
    {StoredType::kI16, "I16", 2},
    {StoredType::kI8, "I8", 1},
    {StoredType::kU64, "U64", 8},
    {StoredType::kU32, "U32", 4},
    {StoredType::kU16, "U16", 2},
    {StoredType::kU8, "U8", 1},
    {StoredType::kBool, "BOOL", 1},
    {StoredType::kF8E4m3, "F8_E4M3", 1},
    {StoredType::kF8E5m2, "F8_E5M2", 1},
    {StoredType::kF8E8m0, "F8_E8M0", 1},
}};

constexpr std::array<StoredTypeRow, 11> kBlockTypes = {{
    {StoredType::kQ4_0, "Q4_0", 0},
    {StoredType::kQ4_1, "Q4_1", 0},
    {StoredType::kQ5_0, "Q5_0", 0},
    {StoredType::kQ5_1, "Q5_1", 0},
    {StoredType::kQ8_0, "Q8_0", 0},
    {StoredType::kQ2K, "Q2_K", 0},
    {StoredType::kQ3K, "Q3_K", 0},
    {StoredType::kQ4K, "Q4_K", 0},
    {StoredType::kQ5K, "Q5_K", 0},
    {StoredType::kQ6K, "Q6_K", 0},
    {StoredType::kMxfp4, "MXFP4", 0},
}};

constexpr std::uint64_t kPrefixSize = 8;  // the header size field

const StoredTypeRow& RowOf(StoredType type) {
  const auto is_it = [&](const StoredTypeRow& row) { return row.type == type; };
  const auto* block = std::find_if(kBlockTypes.begin(), kBlockTypes.end(), is_it);
  return block != kBlockTypes.end()
             ? *block
             : *std::find_if(kStoredTypes.begin(), kStoredTypes.end(), is_it);
}

/// Everything an error about one file has in common.
struct Context {
  std::string_view file_name;
  std::uint64_t data_begin;
  std::uint64_t file_size;

  tl::unexpected<Error> Corrupt(std::uint64_t offset, std::string_view what) const {
    return Fail(Code::kDataCorrupt, fmt::format("{}: offset {}: {}", file_name, offset, what),
                std::string(file_name));
  }

  tl::unexpected<Error> BadTensor(std::string_view name, std::string_view what) const {
    return Corrupt(kPrefixSize, fmt::format("tensor {}: {}", Quoted(name), what));
  }
};

Result<std::vector<std::int64_t>> ParseShape(const Json* shape, const std::string& name,
                                             const Context& context) {
  if (shape == nullptr || !shape->is_array()) {
    return context.BadTensor(name, "shape is not a list");
  }
  if (shape->array().size() > kTensorRankMax) {
    return context.BadTensor(
        name, fmt::format("{} dimensions, the limit is {}", shape->array().size(), kTensorRankMax));
  }
  std::vector<std::int64_t> dims;
  for (const Json& dim : shape->array()) {
    const auto value = dim.IsIntegerLiteral() ? dim.AsInt() : std::nullopt;
    if (!value || *value < 0) {
      return context.BadTensor(name, fmt::format("dimension {} is not a size", Quoted(dim.Dump())));
    }
    dims.push_back(*value);
  }
  return dims;
}

/// Bytes that `shape` and `type` ask for; nothing if they do not fit 63 bits.
std::optional<std::uint64_t> SizeOfShape(const std::vector<std::int64_t>& shape, StoredType type) {
  auto size = static_cast<std::int64_t>(StoredTypeSize(type));
  for (const std::int64_t dim : shape) {
    const auto product = CheckedMul(size, dim);
    if (!product) {
      return std::nullopt;
    }
    size = *product;
  }
  return static_cast<std::uint64_t>(size);
}

Result<std::pair<std::uint64_t, std::uint64_t>> ParseOffsets(const Json* offsets,
                                                             const std::string& name,
                                                             const Context& context) {
  if (offsets == nullptr || !offsets->is_array() || offsets->array().size() != 2) {
    return context.BadTensor(name, "data_offsets is not a pair");
  }
  std::array<std::uint64_t, 2> ends{};
  for (std::size_t i = 0; i < 2; ++i) {
    const Json& value = offsets->array()[i];
    const auto number = value.IsIntegerLiteral() ? value.AsInt() : std::nullopt;
    if (!number || *number < 0) {
      return context.BadTensor(
          name, fmt::format("data offset {} is not an offset", Quoted(value.Dump())));
    }
    ends[i] = static_cast<std::uint64_t>(*number);
  }
  const std::uint64_t data_size = context.file_size - context.data_begin;
  if (ends[0] > ends[1] || ends[1] > data_size) {
    return context.BadTensor(name, fmt::format("data_offsets [{}, {}] leave the {} bytes of data",
                                               ends[0], ends[1], data_size));
  }
  return std::pair{ends[0], ends[1]};
}

Result<StoredTensor> ParseTensor(const std::string& name, const Json& fields,
                                 const Context& context) {
  if (name.empty() || name.size() > kTensorNameSizeMax) {
    return context.BadTensor(
        name, fmt::format("name of {} bytes, allowed 1 to {}", name.size(), kTensorNameSizeMax));
  }
  if (!fields.is_object()) {
    return context.BadTensor(name, "description is not an object");
  }
  for (const auto& [key, value] : fields.object()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      return context.BadTensor(name, fmt::format("unknown key {}", Quoted(key)));
    }
  }
  const Json* dtype = fields.Find("dtype");
  if (dtype == nullptr || !dtype->is_string()) {
    return context.BadTensor(name, "dtype is not a string");
  }
  const auto row =
      std::find_if(kStoredTypes.begin(), kStoredTypes.end(),
                   [&](const auto& candidate) { return candidate.name == dtype->string(); });
  if (row == kStoredTypes.end()) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: tensor {} has dtype {}, which this build does not read",
                            context.file_name, Quoted(name), Quoted(dtype->string())),
                std::string(context.file_name));
  }
  PX_TRY(auto shape, ParseShape(fields.Find("shape"), name, context));
  PX_TRY(const auto ends, ParseOffsets(fields.Find("data_offsets"), name, context));
  const auto size = SizeOfShape(shape, row->type);
  if (!size) {
    return context.BadTensor(name, "the product of its shape overflows");
  }
  if (*size != ends.second - ends.first) {
    return context.BadTensor(
        name, fmt::format("shape and dtype ask for {} bytes, data_offsets [{}, {}] give {}", *size,
                          ends.first, ends.second, ends.second - ends.first));
  }
  return StoredTensor{name, row->type, std::move(shape), context.data_begin + ends.first, *size};
}

/// Sorts by offset and asserts the format's own rule: no gap, no overlap, nothing left over.
Result<void> CheckCoverage(std::vector<StoredTensor>& tensors, const Context& context) {
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::pair(a.file_offset, a.size_bytes) < std::pair(b.file_offset, b.size_bytes);
  });
  std::uint64_t end = context.data_begin;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.file_offset < end) {
      return context.Corrupt(tensor.file_offset, fmt::format("tensor {} overlaps the one before it",
                                                             Quoted(tensor.name)));
    }
    if (tensor.file_offset > end) {
      return context.Corrupt(end,
                             fmt::format("{} bytes belong to no tensor", tensor.file_offset - end));
    }
    end += tensor.size_bytes;
  }
  if (end != context.file_size) {
    return context.Corrupt(end,
                           fmt::format("{} bytes after the last tensor", context.file_size - end));
  }
  return {};
}

Result<std::uint64_t> ReadHeaderSize(std::span<const std::byte> bytes, const Context& context) {
  if (context.file_size < kPrefixSize || bytes.size() < kPrefixSize) {
    return context.Corrupt(
        0, fmt::format("{} bytes are too few for a safetensors file", context.file_size));
  }
  std::uint64_t size = 0;
  for (std::size_t i = kPrefixSize; i-- > 0;) {
    size = size << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  }
  if (size < 2) {
    return context.Corrupt(0, fmt::format("header of {} bytes, the least is 2", size));
  }
  if (size > kSafetensorsHeaderSizeMax) {
    return context.Corrupt(
        0, fmt::format("header of {} bytes, the limit is {}", size, kSafetensorsHeaderSizeMax));
  }
  if (size > context.file_size - kPrefixSize || size > bytes.size() - kPrefixSize) {
    return context.Corrupt(
        0, fmt::format("header of {} bytes in a file of {}", size, context.file_size));
  }
  return size;
}

}  // namespace

std::string_view StoredTypeName(StoredType type) { return RowOf(type).name; }

std::size_t StoredTypeSize(StoredType type) { return RowOf(type).size_bytes; }

Result<SafetensorsHeader> ParseSafetensorsHeader(std::span<const std::byte> bytes,
                                                 std::uint64_t file_size,
                                                 std::string_view file_name) {
  Context context{file_name, 0, file_size};
  PX_TRY(const std::uint64_t header_size, ReadHeaderSize(bytes, context));
  context.data_begin = kPrefixSize + header_size;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kPrefixSize,
                              header_size);
  if (text.front() != '{') {
    return context.Corrupt(kPrefixSize, "the header does not begin with '{'");
  }
  const auto json = ParseJson(text, {.depth_max = 4, .values_max = kSafetensorsValuesMax});
  if (!json) {
    return context.Corrupt(kPrefixSize,
                           fmt::format("the header is not JSON: {}", json.error().detail()));
  }
  if (!json->is_object()) {
    return context.Corrupt(kPrefixSize, "the header is not an object");
  }
  SafetensorsHeader header;
  for (const auto& [name, fields] : json->object()) {
    if (name != "__metadata__") {
      PX_TRY(auto tensor, ParseTensor(name, fields, context));
      header.tensors.push_back(std::move(tensor));
      continue;
    }
    if (!fields.is_object()) {
      return context.Corrupt(kPrefixSize, "__metadata__ is not an object");
    }
    for (const auto& [key, value] : fields.object()) {
      if (!value.is_string()) {
        return context.Corrupt(
            kPrefixSize, fmt::format("__metadata__ value of {} is not a string", Quoted(key)));
      }
      header.metadata.emplace_back(key, value.string());
    }
  }
  PX_CHECK_OK(CheckCoverage(header.tensors, context));
  return header;
}

}  // namespace pixii::wire
