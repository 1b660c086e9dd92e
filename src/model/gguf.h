// One GGUF file: metadata by key, and where each tensor's bytes lie. docs/formats/gguf.md
//
// Thread: immutable after Parse; views into the caller's bytes. The file is hostile until parsed:
// every length is checked against the bytes that are there before anything is allocated for it.
// Layout, little-endian: "GGUF", u32 version (2 or 3), u64 tensors, u64 metadata entries; entries;
// tensor descriptions; padding to general.alignment; tensor bytes.
// Source: the GGUF specification of the ggml project.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace pixii::model {

inline constexpr std::uint64_t kGgufTensorCountMax = 1 << 18;
inline constexpr std::uint64_t kGgufEntryCountMax = 1 << 16;    // metadata entries
inline constexpr std::uint64_t kGgufArrayCountMax = 1 << 23;    // elements of one array
inline constexpr std::uint64_t kGgufKeySizeMax = 65'535;        // bytes, the format's own limit
inline constexpr std::uint64_t kGgufStringSizeMax = 256 << 20;  // bytes of one value
inline constexpr std::uint64_t kGgufAlignmentMax = 1 << 20;     // bytes
inline constexpr std::uint32_t kGgufRankMax = 4;

enum class GgufType : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12
};

/// A value, or an array of values: `bytes` are its elements as they lie in the file.
struct GgufValue {
  GgufType type = GgufType::kU8;  // of the elements, if is_array
  bool is_array = false;
  std::uint64_t count = 1;
  std::span<const std::byte> bytes;
};

struct GgufTensor {
  std::string name;
  std::uint32_t type = 0;           // ggml's number, gguf_blocks.h
  std::vector<std::int64_t> shape;  // row-major, so the file's order reversed; each >= 1
  std::uint64_t info_offset = 0;    // bytes from the start of the file to the description
  std::uint64_t file_offset = 0;    // and to the tensor's own bytes
  std::uint64_t size_bytes = 0;
};

class GgufFile final {
 public:
  /// Parses the whole file. `name` stands in errors. Errors: kDataCorrupt with file and offset;
  /// kUnsupported naming version, byte order or tensor type.
  static Result<GgufFile> Parse(std::span<const std::byte> bytes, std::string name);

  const std::string& name() const { return name_; }

  std::span<const std::byte> bytes() const { return bytes_; }

  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  const GgufTensor* FindTensor(std::string_view name) const;

  /// Keys in the file's order.
  const std::vector<std::string>& keys() const { return keys_; }

  const GgufValue* Find(std::string_view key) const;

  bool Has(std::string_view key) const { return Find(key) != nullptr; }

  /// Nothing if the key is absent. Errors: kDataCorrupt naming file and key if it has another type,
  /// is out of the range, or is not finite.
  Result<std::optional<std::int64_t>> Int(std::string_view key, std::int64_t min,
                                          std::int64_t max) const;
  Result<std::optional<double>> Number(std::string_view key) const;
  Result<std::optional<bool>> Bool(std::string_view key) const;
  Result<std::optional<std::string_view>> String(std::string_view key) const;
  /// Arrays; empty if absent.
  Result<std::vector<std::string_view>> Strings(std::string_view key) const;
  Result<std::vector<double>> Numbers(std::string_view key) const;

  /// kUnsupported and kDataCorrupt naming file and key.
  tl::unexpected<Error> Unsupported(std::string_view key, std::string_view why) const;
  tl::unexpected<Error> Bad(std::string_view key, std::string_view why) const;

 private:
  friend class GgufParser;

  std::string name_;
  std::span<const std::byte> bytes_;
  std::vector<std::string> keys_;
  std::unordered_map<std::string, GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string, std::size_t> tensor_index_;
};

}  // namespace pixii::model
