// What the KV blocks of a worker look like, so that another one can read them: shapes, and which
// rank holds which layers and heads. docs/formats/kv_layout.md
//
// Thread: values.
// A rank's block: [layer of the rank][K heads, then V heads] slices, as kernels/kv_cache.h has
// them: a slice is [token_in_block][dim] elements and, of fp8 and int8, [token_in_block] fp32
// scales behind them, 4-byte aligned. A latent cache (`value_in_key`) has no V slices. Block ids
// are equal on all ranks of a data-parallel rank: block i is one part on each of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::kv {

/// As kernels::KvDType, number by number.
enum class ElementType : std::uint8_t { kF32, kBf16, kF16, kFp8E4m3, kInt8 };

/// "fp32", "bf16", "fp16", "fp8", "int8".
std::string_view ElementTypeName(ElementType type);
std::optional<ElementType> ElementTypeOf(std::string_view name);

constexpr std::uint32_t SizeOf(ElementType type) {
  return type == ElementType::kF32                                 ? 4
         : type == ElementType::kBf16 || type == ElementType::kF16 ? 2
                                                                   : 1;
}

constexpr bool HasScales(ElementType type) { return SizeOf(type) == 1; }

/// begin .. end - 1.
struct Interval {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  std::uint32_t size() const { return end - begin; }

  friend bool operator==(const Interval&, const Interval&) = default;
};

/// What both have, begin == end if nothing.
Interval Intersection(Interval a, Interval b);

inline constexpr std::uint32_t kLayoutLayersMax = 1024;
inline constexpr std::uint32_t kLayoutHeadsMax = 1024;
inline constexpr std::uint32_t kLayoutDimMax = 4096;         // elements of a head
inline constexpr std::uint32_t kLayoutBlockTokensMax = 512;  // as kv::BlockPool's
inline constexpr std::uint32_t kLayoutRanksMax = 64;         // of tensor or pipeline parallelism
inline constexpr std::uint32_t kLayoutDataRanksMax = 4096;

struct LayoutRecord {
  std::uint32_t layer_count = 0;    // of the model, over all stages
  std::uint32_t kv_head_count = 0;  // of a layer, each counted once
  std::uint32_t key_dim = 0;
  std::uint32_t value_dim = 0;
  bool value_in_key =
      false;  // latent: V is the first value_dim elements of K, which alone is stored
  std::uint32_t block_tokens = 0;
  ElementType dtype = ElementType::kBf16;
  std::vector<Interval> stage_layers;  // [pipeline stages] without gap or overlap
  std::vector<Interval> rank_heads;    // [tensor-parallel ranks] ascending; overlaps are duplicates
  std::uint32_t data_rank_count = 1;
  // Whose record this is.
  std::uint32_t stage = 0;
  std::uint32_t tensor_rank = 0;
  std::uint32_t data_rank = 0;

  /// Ranks that hold a part of each block; rank = stage * (tensor-parallel ranks) + tensor rank.
  std::uint32_t rank_count() const {
    return static_cast<std::uint32_t>(stage_layers.size() * rank_heads.size());
  }

  std::uint32_t tensor_rank_count() const { return static_cast<std::uint32_t>(rank_heads.size()); }

  Interval layers_of(std::uint32_t rank) const { return stage_layers[rank / rank_heads.size()]; }

  Interval heads_of(std::uint32_t rank) const { return rank_heads[rank % rank_heads.size()]; }

  /// Of a slice: offset of its scales, and its size with them.
  std::uint64_t scales_offset_bytes(std::uint32_t dim) const;
  std::uint64_t slice_size_bytes(std::uint32_t dim) const;
  /// Of `heads` heads.
  std::uint64_t layer_size_bytes(std::uint32_t heads) const;
  std::uint64_t block_size_bytes(std::uint32_t rank) const;
  /// Of a cache of one process, where a block's parts stand one behind the other: where that of
  /// `rank` begins, rank_count() being the end.
  std::uint64_t rank_offset_bytes(std::uint32_t rank) const;
  /// Sizes, in order, of all slices of such a block.
  std::vector<std::uint32_t> SliceSizes() const;

  friend bool operator==(const LayoutRecord&, const LayoutRecord&) = default;
};

/// Layers [stages]: stage s begins at floor(s * layers / stages).
std::vector<Interval> CutLayers(std::uint32_t layers, std::uint32_t stages);
/// KV heads [ranks]: rank r has floor(r * heads / ranks) .. ceil((r + 1) * heads / ranks) - 1, so
/// that ranks beyond the heads hold duplicates.
std::vector<Interval> CutHeads(std::uint32_t heads, std::uint32_t ranks);

/// Errors: kInvalidArgument naming field, value and limit.
Result<void> CheckLayout(const LayoutRecord& record);

/// Pre: CheckLayout passes.
std::string EncodeLayout(const LayoutRecord& record);
/// Reads what a peer or a file says. Errors: kDataCorrupt (cut, wrong sum, lies), kUnsupported
/// (another version, naming both).
Result<LayoutRecord> DecodeLayout(std::string_view bytes);

}  // namespace pixii::kv
