#include "model/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "model/gguf_blocks.h"
#include "wire/quoted.h"

namespace pixii::model {
namespace {

constexpr std::uint64_t kDefaultAlignment = 32;

/// Bytes of one element; 0 for strings and arrays.
std::uint64_t ElementSize(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

template <class T>
T Load(std::span<const std::byte> bytes, std::uint64_t at = 0) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

/// Element `index` of a value of numbers.
double NumberAt(const GgufValue& value, std::uint64_t index) {
  const std::span<const std::byte> bytes = value.bytes;
  switch (value.type) {
    case GgufType::kU8:
    case GgufType::kBool:
      return static_cast<double>(Load<std::uint8_t>(bytes, index));
    case GgufType::kI8:
      return static_cast<double>(Load<std::int8_t>(bytes, index));
    case GgufType::kU16:
      return static_cast<double>(Load<std::uint16_t>(bytes, index * 2));
    case GgufType::kI16:
      return static_cast<double>(Load<std::int16_t>(bytes, index * 2));
    case GgufType::kU32:
      return static_cast<double>(Load<std::uint32_t>(bytes, index * 4));
    case GgufType::kI32:
      return static_cast<double>(Load<std::int32_t>(bytes, index * 4));
    case GgufType::kF32:
      return static_cast<double>(Load<float>(bytes, index * 4));
    case GgufType::kU64:
      return static_cast<double>(Load<std::uint64_t>(bytes, index * 8));
    case GgufType::kI64:
      return static_cast<double>(Load<std::int64_t>(bytes, index * 8));
    case GgufType::kF64:
      return Load<double>(bytes, index * 8);
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  PX_ASSERT(false);
}

bool IsNumber(GgufType type) { return type != GgufType::kString && type != GgufType::kArray; }

}  // namespace

/// Reads front to back; every step checks what is left.
class GgufParser final {
 public:
  GgufParser(std::span<const std::byte> bytes, std::string name) : bytes_(bytes) {
    file_.name_ = std::move(name);
    file_.bytes_ = bytes;
  }

  Result<GgufFile> Run() {
    PX_TRY(const auto counts, ReadHeader());
    for (std::uint64_t i = 0; i < counts.second; ++i) {
      PX_CHECK_OK(ReadEntry());
    }
    for (std::uint64_t i = 0; i < counts.first; ++i) {
      PX_CHECK_OK(ReadTensor());
    }
    PX_CHECK_OK(PlaceTensors());
    return std::move(file_);
  }

 private:
  tl::unexpected<Error> Corrupt(std::uint64_t offset, std::string_view what) const {
    return Fail(Code::kDataCorrupt, fmt::format("{}: offset {}: {}", file_.name_, offset, what),
                file_.name_);
  }

  Result<std::span<const std::byte>> Take(std::uint64_t size, std::string_view what) {
    if (size > bytes_.size() - at_) {
      return Corrupt(at_, fmt::format("{} of {} bytes, the file has {} more", what, size,
                                      bytes_.size() - at_));
    }
    const auto out = bytes_.subspan(at_, size);
    at_ += size;
    return out;
  }

  template <class T>
  Result<T> Number(std::string_view what) {
    PX_TRY(const auto bytes, Take(sizeof(T), what));
    return Load<T>(bytes);
  }

  Result<std::string_view> String(std::string_view what, std::uint64_t size_max) {
    const std::uint64_t begin = at_;
    PX_TRY(const auto size, Number<std::uint64_t>(what));
    if (size > size_max) {
      return Corrupt(begin, fmt::format("{} of {} bytes, the limit is {}", what, size, size_max));
    }
    PX_TRY(const auto bytes, Take(size, what));
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  /// Counts of tensors and of metadata entries.
  Result<std::pair<std::uint64_t, std::uint64_t>> ReadHeader() {
    PX_TRY(const auto magic, Take(4, "the magic number"));
    if (std::memcmp(magic.data(), "GGUF", 4) != 0) {
      return Corrupt(0, "does not begin with GGUF");
    }
    PX_TRY(const auto version, Number<std::uint32_t>("the version"));
    if (version != 2 && version != 3) {
      const bool swapped = version != 0 && (version & 0xFFFFU) == 0;
      return Fail(Code::kUnsupported,
                  fmt::format("{}: offset 4: version {}{}; this build reads 2 and 3, little-endian",
                              file_.name_, version, swapped ? " (a big-endian file?)" : ""),
                  file_.name_);
    }
    PX_TRY(const auto tensors, Number<std::uint64_t>("the tensor count"));
    if (tensors > kGgufTensorCountMax) {
      return Corrupt(8, fmt::format("{} tensors, the limit is {}", tensors, kGgufTensorCountMax));
    }
    PX_TRY(const auto entries, Number<std::uint64_t>("the metadata count"));
    if (entries > kGgufEntryCountMax) {
      return Corrupt(
          16, fmt::format("{} metadata entries, the limit is {}", entries, kGgufEntryCountMax));
    }
    return std::pair{tensors, entries};
  }

  Result<void> SkipString() {
    PX_TRY(const auto text, String("a string", kGgufStringSizeMax));
    static_cast<void>(text);
    return {};
  }

  Result<GgufType> ReadType() {
    const std::uint64_t begin = at_;
    PX_TRY(const auto type, Number<std::uint32_t>("a value's type"));
    if (type > static_cast<std::uint32_t>(GgufType::kF64)) {
      return Corrupt(begin, fmt::format("value type {} is not defined", type));
    }
    return static_cast<GgufType>(type);
  }

  Result<void> ReadEntry() {
    const std::uint64_t entry_begin = at_;
    PX_TRY(const auto key, String("a key", kGgufKeySizeMax));
    GgufValue value;
    PX_TRY(value.type, ReadType());
    if (value.type == GgufType::kArray) {
      value.is_array = true;
      const std::uint64_t type_begin = at_;
      PX_TRY(value.type, ReadType());
      if (value.type == GgufType::kArray) {
        return Fail(Code::kUnsupported,
                    fmt::format("{}: offset {}: {} is an array of arrays, which this build does "
                                "not read",
                                file_.name_, type_begin, wire::Quoted(key)),
                    file_.name_);
      }
      PX_TRY(value.count, Number<std::uint64_t>("an array's length"));
      if (value.count > kGgufArrayCountMax) {
        return Corrupt(type_begin + 4,
                       fmt::format("{} has {} elements, the limit is {}", wire::Quoted(key),
                                   value.count, kGgufArrayCountMax));
      }
    }
    const std::uint64_t begin = at_;
    if (value.type == GgufType::kString) {
      for (std::uint64_t i = 0; i < value.count; ++i) {
        PX_CHECK_OK(SkipString());
      }
      value.bytes = bytes_.subspan(begin, at_ - begin);
    } else {
      PX_TRY(value.bytes, Take(value.count * ElementSize(value.type), wire::Quoted(key)));
    }
    if (!file_.values_.emplace(std::string(key), value).second) {
      return Corrupt(entry_begin, fmt::format("key {} stands twice", wire::Quoted(key)));
    }
    file_.keys_.emplace_back(key);
    return {};
  }

  Result<void> ReadTensor() {
    GgufTensor tensor;
    tensor.info_offset = at_;
    PX_TRY(const auto name, String("a tensor's name", kGgufKeySizeMax));
    tensor.name = name;
    PX_TRY(const auto rank, Number<std::uint32_t>("a tensor's rank"));
    if (rank < 1 || rank > kGgufRankMax) {
      return Corrupt(tensor.info_offset, fmt::format("tensor {} has {} dimensions, allowed 1 to {}",
                                                     wire::Quoted(name), rank, kGgufRankMax));
    }
    std::int64_t elements = 1;
    for (std::uint32_t i = 0; i < rank; ++i) {
      PX_TRY(const auto dim, Number<std::int64_t>("a dimension"));
      const auto product = dim < 1 ? std::nullopt : CheckedMul(elements, dim);
      if (!product) {
        return Corrupt(tensor.info_offset, fmt::format("tensor {} has dimension {}, or too many "
                                                       "elements",
                                                       wire::Quoted(name), dim));
      }
      elements = *product;
      tensor.shape.push_back(dim);
    }
    PX_TRY(tensor.type, Number<std::uint32_t>("a tensor's type"));
    PX_TRY(tensor.file_offset, Number<std::uint64_t>("a tensor's offset"));
    const GgufBlock* block = FindGgufBlock(tensor.type);
    if (block == nullptr) {
      return Fail(Code::kUnsupported,
                  fmt::format("{}: offset {}: tensor {} has ggml type {}, which this build does "
                              "not read; it reads {}",
                              file_.name_, tensor.info_offset, wire::Quoted(name), tensor.type,
                              GgufBlockNames()),
                  file_.name_);
    }
    if (tensor.shape[0] % block->elements != 0) {
      return Corrupt(
          tensor.info_offset,
          fmt::format("tensor {} of type {} has rows of {}, no multiple of {}", wire::Quoted(name),
                      block->name, tensor.shape[0], block->elements));
    }
    const auto size = CheckedMul(elements / block->elements, block->size_bytes);
    if (!size) {
      return Corrupt(tensor.info_offset,
                     fmt::format("the size of tensor {} overflows", wire::Quoted(name)));
    }
    tensor.size_bytes = static_cast<std::uint64_t>(*size);
    std::reverse(tensor.shape.begin(), tensor.shape.end());
    if (!file_.tensor_index_.emplace(tensor.name, file_.tensors_.size()).second) {
      return Corrupt(tensor.info_offset, fmt::format("tensor {} stands twice", wire::Quoted(name)));
    }
    file_.tensors_.push_back(std::move(tensor));
    return {};
  }

  /// Turns offsets within the data into offsets within the file, and checks that tensors lie there
  /// without overlap.
  Result<void> PlaceTensors() {
    PX_TRY(const auto given, file_.Int("general.alignment", 1, kGgufAlignmentMax));
    const auto alignment = static_cast<std::uint64_t>(given.value_or(kDefaultAlignment));
    if ((alignment & (alignment - 1)) != 0) {
      return file_.Bad("general.alignment", fmt::format("is {}, no power of two", alignment));
    }
    const std::uint64_t data_begin = CeilDiv(at_, alignment) * alignment;
    std::vector<GgufTensor*> order;
    for (GgufTensor& tensor : file_.tensors_) {
      const auto begin = CheckedAdd(data_begin, tensor.file_offset);
      const auto end = begin ? CheckedAdd(*begin, tensor.size_bytes) : std::nullopt;
      if (tensor.file_offset % alignment != 0 || !end || *end > bytes_.size()) {
        return Corrupt(tensor.info_offset,
                       fmt::format("tensor {} at data offset {} of {} bytes is not aligned to {} "
                                   "or leaves the file of {}",
                                   wire::Quoted(tensor.name), tensor.file_offset, tensor.size_bytes,
                                   alignment, bytes_.size()));
      }
      tensor.file_offset = *begin;
      order.push_back(&tensor);
    }
    std::sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) {
      return a->file_offset < b->file_offset;
    });
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (order[i]->file_offset < order[i - 1]->file_offset + order[i - 1]->size_bytes) {
        return Corrupt(order[i]->info_offset,
                       fmt::format("tensor {} overlaps tensor {}", wire::Quoted(order[i]->name),
                                   wire::Quoted(order[i - 1]->name)));
      }
    }
    return {};
  }

  std::span<const std::byte> bytes_;
  std::uint64_t at_ = 0;
  GgufFile file_;
};

Result<GgufFile> GgufFile::Parse(std::span<const std::byte> bytes, std::string name) {
  return GgufParser(bytes, std::move(name)).Run();
}

const GgufTensor* GgufFile::FindTensor(std::string_view name) const {
  const auto found = tensor_index_.find(std::string(name));
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto found = values_.find(std::string(key));
  return found == values_.end() ? nullptr : &found->second;
}

tl::unexpected<Error> GgufFile::Unsupported(std::string_view key, std::string_view why) const {
  return Fail(Code::kUnsupported, fmt::format("{}: {} {}", name_, key, why), std::string(key));
}

tl::unexpected<Error> GgufFile::Bad(std::string_view key, std::string_view why) const {
  return Fail(Code::kDataCorrupt, fmt::format("{}: {} {}", name_, key, why), std::string(key));
}

Result<std::optional<std::int64_t>> GgufFile::Int(std::string_view key, std::int64_t min,
                                                  std::int64_t max) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) {
    return std::optional<std::int64_t>();
  }
  if (value->is_array || !IsNumber(value->type) || value->type == GgufType::kF32 ||
      value->type == GgufType::kF64 || value->type == GgufType::kBool) {
    return Bad(key, "is not an integer");
  }
  const double number = NumberAt(*value, 0);
  if (number < static_cast<double>(min) || number > static_cast<double>(max)) {
    return Bad(key, fmt::format("is {}, allowed {} to {}", number, min, max));
  }
  return static_cast<std::int64_t>(number);
}

Result<std::optional<double>> GgufFile::Number(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) {
    return std::optional<double>();
  }
  if (value->is_array || !IsNumber(value->type) || value->type == GgufType::kBool) {
    return Bad(key, "is not a number");
  }
  const double number = NumberAt(*value, 0);
  if (!std::isfinite(number)) {
    return Bad(key, fmt::format("is {}", number));
  }
  return number;
}

Result<std::optional<bool>> GgufFile::Bool(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) {
    return std::optional<bool>();
  }
  if (value->is_array || value->type != GgufType::kBool || NumberAt(*value, 0) > 1.0) {
    return Bad(key, "is not a bool");
  }
  return NumberAt(*value, 0) == 1.0;
}

Result<std::optional<std::string_view>> GgufFile::String(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) {
    return std::optional<std::string_view>();
  }
  if (value->is_array || value->type != GgufType::kString) {
    return Bad(key, "is not a string");
  }
  const auto text = value->bytes.subspan(8);
  return std::string_view(reinterpret_cast<const char*>(text.data()), text.size());
}

Result<std::vector<std::string_view>> GgufFile::Strings(std::string_view key) const {
  std::vector<std::string_view> out;
  const GgufValue* value = Find(key);
  if (value == nullptr) {
    return out;
  }
  if (!value->is_array || value->type != GgufType::kString) {
    return Bad(key, "is not a list of strings");
  }
  out.reserve(value->count);
  std::span<const std::byte> rest = value->bytes;
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto size = Load<std::uint64_t>(rest);
    out.emplace_back(reinterpret_cast<const char*>(rest.data()) + 8, size);
    rest = rest.subspan(8 + size);
  }
  return out;
}

Result<std::vector<double>> GgufFile::Numbers(std::string_view key) const {
  std::vector<double> out;
  const GgufValue* value = Find(key);
  if (value == nullptr) {
    return out;
  }
  if (!value->is_array || !IsNumber(value->type)) {
    return Bad(key, "is not a list of numbers");
  }
  out.reserve(value->count);
  for (std::uint64_t i = 0; i < value->count; ++i) {
    out.push_back(NumberAt(*value, i));
    if (!std::isfinite(out.back())) {
      return Bad(key, fmt::format("has {} as element {}", out.back(), i));
    }
  }
  return out;
}

}  // namespace pixii::model
