// Paged KV cache: one buffer of equal blocks; a block holds all layers, so that it can move as one
// piece.
//
// Block layout, row-major: [layer][kv = 2][kv_head][token_in_block][head_dim], element = dtype.
// Heads stand outside tokens, so a (layer, K or V, head) slice is contiguous: the unit of checksums
// and TP cuts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/tensor.h"

namespace pixii::kernels {

struct KvLayout {
  std::int32_t layer_count = 0;
  std::int32_t kv_head_count = 0;
  std::int32_t head_dim = 0;
  std::int32_t block_tokens = 0;  // tokens of one block
  DType dtype = DType::kBf16;

  std::int64_t slice_elements() const { return std::int64_t{block_tokens} * head_dim; }

  std::int64_t layer_elements() const { return 2 * kv_head_count * slice_elements(); }

  std::int64_t block_elements() const { return layer_count * layer_elements(); }

  std::size_t block_size_bytes() const {
    return static_cast<std::size_t>(block_elements()) * SizeOf(dtype);
  }

  std::size_t token_size_bytes() const {
    return block_size_bytes() / static_cast<std::size_t>(block_tokens);
  }
};

struct KvCache {
  KvLayout layout;
  Buffer buffer;  // block_count * layout.block_size_bytes()
  std::int32_t block_count = 0;

  std::byte* block(std::int32_t index) const {
    return static_cast<std::byte*>(buffer.data()) +
           static_cast<std::size_t>(index) * layout.block_size_bytes();
  }
};

}  // namespace pixii::kernels
