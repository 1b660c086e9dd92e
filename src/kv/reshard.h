// Where each byte of a KV block stands in a cache that is cut differently: which ranges of which
// source rank's blocks go where in the target's. docs/formats/kv_layout.md
//
// Thread: immutable once made.
// Both sides may differ in tensor and pipeline parallelism, data-parallel ranks, tokens of a block
// and, if a conversion is declared, in dtype. Layers and heads are cut by intersecting intervals,
// so no size has to divide another. Of heads that several source ranks hold, each target rank takes
// one copy: from the (target's tensor rank modulo how many hold it)-th of them, so that duplicates
// share the work. Source: spec/trtllm-backend.md 2.7 (facts); the powers of two it asks for are not
// needed here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "kv/layout_record.h"

namespace pixii::kv {

inline constexpr std::uint32_t kReshardTokensMax = std::uint32_t{1} << 30U;  // of one request

struct ReshardOptions {
  /// fp32, bf16 and fp16 may become each other, rounded to nearest even. The target's bits are then
  /// not those that it would have computed.
  bool convert = false;
};

/// A run that is contiguous on both sides. Blocks are counted along the request: block i has tokens
/// i * block_tokens and on.
struct BlockCopy {
  std::uint32_t source_rank = 0;
  std::uint32_t source_block = 0;
  std::uint32_t target_rank = 0;
  std::uint32_t target_block = 0;
  std::uint64_t source_offset_bytes = 0;
  std::uint64_t target_offset_bytes = 0;
  std::uint64_t source_size_bytes = 0;
  std::uint64_t target_size_bytes = 0;  // as the source's unless converted

  friend bool operator==(const BlockCopy&, const BlockCopy&) = default;
};

class Reshard final {
 public:
  /// Pre: CheckLayout passes for both. Errors: kUnsupported naming the field and both values: dtype
  /// without a declared conversion, head size, layers, heads, kind of attention.
  static Result<Reshard> Create(const LayoutRecord& source, const LayoutRecord& target,
                                const ReshardOptions& options = {});

  /// Whether the blocks of each rank are the same bytes on both sides.
  bool identical() const { return identical_; }

  bool converts() const { return source_.dtype != target_.dtype; }

  const LayoutRecord& source() const { return source_; }

  const LayoutRecord& target() const { return target_; }

  /// Ranks that `target_rank` takes something from, ascending.
  std::vector<std::uint32_t> Sources(std::uint32_t target_rank) const;

  /// The blocks of the source that tokens [begin, end) lie in.
  Interval SourceBlocks(Interval tokens) const;

  /// Appends what gives `target_rank` the tokens [begin, end): in order of source block, target
  /// block and target offset; each byte of theirs once. Neighbours on both sides are one copy.
  /// `tokens` need not begin or end with a block. Pre: end <= kReshardTokensMax.
  void Append(std::uint32_t target_rank, Interval tokens, std::vector<BlockCopy>& out) const;

  /// One copy's bytes: as they are, or converted. Sizes are the copy's.
  void Move(std::span<const std::byte> source, std::span<std::byte> target) const;

 private:
  /// Heads of one layer's K or V that stand side by side on both sides.
  struct Slices {
    std::uint32_t source_rank = 0;
    std::uint32_t dim = 0;
    std::uint32_t head_count = 0;
    std::uint64_t source_offset_bytes = 0;
    std::uint64_t target_offset_bytes = 0;
  };

  struct Piece;

  Reshard(const LayoutRecord& source, const LayoutRecord& target);

  void AddLayer(std::uint32_t target_rank, std::uint32_t layer, bool value);
  void AppendPiece(const Slices& slices, const Piece& piece, std::vector<BlockCopy>& out) const;
  std::uint32_t HolderOf(std::uint32_t head, std::uint32_t target_tensor_rank) const;

  LayoutRecord source_;
  LayoutRecord target_;
  bool identical_ = false;
  std::vector<std::vector<Slices>> slices_;  // [target rank] ascending in target offset
};

}  // namespace pixii::kv
