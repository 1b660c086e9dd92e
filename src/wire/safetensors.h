// The header of one safetensors file: names, dtypes, shapes and where the bytes lie.
//
// Thread: values. The file is hostile until parsed: every offset is checked before a tensor can be
// seen. Layout: u64 little-endian header size N; N bytes of JSON; tensor bytes, which the tensors
// cover without gap or overlap. Source: the safetensors format description (Hugging Face); limits
// stricter than its are named below.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pixii::wire {

inline constexpr std::uint64_t kSafetensorsHeaderSizeMax =
    100'000'000;                                                   // bytes, as the reference reader
inline constexpr std::uint64_t kSafetensorsValuesMax = 8'000'000;  // JSON values of a header
inline constexpr std::size_t kTensorRankMax = 8;
inline constexpr std::size_t kTensorNameSizeMax = 1024;  // bytes

/// What a file of tensors may hold.
enum class StoredType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBf16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kF8E4m3,
  kF8E5m2,
  kF8E8m0,
  // Blocks of GGUF files (gguf_blocks.h); safetensors files cannot hold them.
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2K,
  kQ3K,
  kQ4K,
  kQ5K,
  kQ6K,
  kMxfp4
};

/// "F32", "BF16", …: as the format spells it.
std::string_view StoredTypeName(StoredType type);
/// Bytes of an element; 0 of blocks.
std::size_t StoredTypeSize(StoredType type);

struct StoredTensor {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<std::int64_t> shape;  // each >= 0; the product fits 63 bits
  std::uint64_t file_offset = 0;    // bytes from the start of the file
  std::uint64_t size_bytes = 0;
};

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;                          // by file_offset
  std::vector<std::pair<std::string, std::string>> metadata;  // __metadata__
};

/// Parses the header of a whole file of `file_size` bytes of which `bytes` are at hand: the file
/// itself, or a beginning of it that holds the header. `file_name` stands in errors. Cost:
/// O(header). Errors: kDataCorrupt naming file and byte offset; kUnsupported naming a dtype.
Result<SafetensorsHeader> ParseSafetensorsHeader(std::span<const std::byte> bytes,
                                                 std::uint64_t file_size,
                                                 std::string_view file_name);

}  // namespace pixii::wire
