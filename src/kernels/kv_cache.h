// Paged KV cache: one buffer of equal blocks; a block holds all layers, so that it can move as one
// piece.
//
// Block layout: [layer][K heads, then V heads] slices. A slice is [token_in_block][dim] elements
// and, of quantised dtypes, [token_in_block] fp32 scales behind them (4-byte aligned). Heads stand
// outside tokens, so a (layer, K or V, head) slice is contiguous and describes itself: the unit of
// checksums and TP cuts. A latent cache (`value_in_key`) has no V slices: V is the leading part of
// K.
// Source: architecture.md section 5 (scales per token and head, never per block); MLA's latent,
// DeepSeek-V2 report (arXiv 2405.04434).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/tensor.h"

namespace pixii::kernels {

/// What the cache stores. kFp8E4m3 and kInt8 are codes with one scale per (token, head): value =
/// code * scale. They are defined in kernels/ref/reference_attention.cc.
enum class KvDType : std::uint8_t { kF32, kBf16, kF16, kFp8E4m3, kInt8 };

/// "fp32", "bf16", "fp16", "fp8", "int8": options, model card and block identity say so.
std::string_view KvDTypeName(KvDType dtype);
std::optional<KvDType> KvDTypeOf(std::string_view name);

constexpr std::int64_t SizeOf(KvDType dtype) {
  return dtype == KvDType::kF32 ? 4 : dtype == KvDType::kBf16 || dtype == KvDType::kF16 ? 2 : 1;
}

constexpr bool HasScales(KvDType dtype) { return SizeOf(dtype) == 1; }

struct KvLayout {
  std::int32_t layer_count = 0;
  std::int32_t kv_head_count = 0;
  std::int32_t key_dim = 0;
  std::int32_t value_dim = 0;
  bool value_in_key = false;      // V is the first value_dim elements of K, which alone is stored
  std::int32_t block_tokens = 0;  // tokens of one block
  KvDType dtype = KvDType::kBf16;
  /// Of a cache whose blocks are cut over ranks, the rest being the whole model's: bytes of a block
  /// over all of them, which stand in it one behind the other, each in its own layout. 0: one rank.
  std::size_t parts_size_bytes = 0;

  /// Bytes of a slice before its scales.
  std::int64_t scales_offset_bytes(std::int32_t dim) const {
    const std::int64_t data = std::int64_t{block_tokens} * dim * SizeOf(dtype);
    return HasScales(dtype) ? (data + 3) / 4 * 4 : data;
  }

  std::int64_t slice_size_bytes(std::int32_t dim) const {
    return scales_offset_bytes(dim) + (HasScales(dtype) ? std::int64_t{4} * block_tokens : 0);
  }

  /// Offset in a block of a layer's first K and first V slice; with value_in_key V begins where K
  /// does.
  std::int64_t key_offset_bytes(std::int32_t layer) const { return layer * layer_size_bytes(); }

  std::int64_t value_offset_bytes(std::int32_t layer) const {
    return key_offset_bytes(layer) + (value_in_key ? 0 : kv_head_count * slice_size_bytes(key_dim));
  }

  std::int64_t layer_size_bytes() const {
    return kv_head_count *
           (slice_size_bytes(key_dim) + (value_in_key ? 0 : slice_size_bytes(value_dim)));
  }

  std::size_t block_size_bytes() const {
    return parts_size_bytes != 0 ? parts_size_bytes
                                 : static_cast<std::size_t>(layer_count * layer_size_bytes());
  }

  std::size_t token_size_bytes() const {
    return block_size_bytes() / static_cast<std::size_t>(block_tokens);
  }
};

struct KvCache {
  KvLayout layout;
  Buffer buffer;  // block_count * block_stride_bytes()
  std::int32_t block_count = 0;
  std::size_t whole_block_bytes = 0;  // of a rank's part: from one block to the next; 0: its size

  std::size_t block_stride_bytes() const {
    return whole_block_bytes != 0 ? whole_block_bytes : layout.block_size_bytes();
  }

  std::byte* block(std::int32_t index) const {
    return static_cast<std::byte*>(buffer.data()) +
           static_cast<std::size_t>(index) * block_stride_bytes();
  }
};

}  // namespace pixii::kernels
