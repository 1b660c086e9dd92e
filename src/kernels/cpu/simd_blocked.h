// Linear of many rows: register blocks of kBlockRows rows by kBlockVecs * 16 outputs, fed from L1
// and L2 only.
//
// What is multiplied comes in units of 32 bits: one fp32, or a pair of bf16. Input is packed
// [k block][row block][unit][row], or [row block][unit][row] of a K of one slab, so that a step
// broadcasts neighbouring words of one line; weights are laid out once per group of panels and slab
// of K as [column block][unit][outputs] and used by all row blocks, while the next group's weights
// are fetched to L2. Where they lie so already (a panel is a column block, and nothing is widened)
// they are read where they are. Order of sums as in simd_gemm.h: ascending in one accumulator per
// shard. Few instructions per multiply-add matter as much as ports: a busy sibling thread takes
// half of the front end. Include after simd_gemm.h. Source: Goto and van de Geijn, Anatomy of
// High-Performance Matrix Multiplication (2008).
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

// Units of K laid out at a time, so that they stay in L2.
inline constexpr Index kSlabUnits = 640;
inline constexpr Index kLayPanels = 3;  // panels laid out at a time
inline constexpr Index kLayOutputs = kLayPanels * kPanelOutputs;
inline constexpr Index kPrefetchUnits = 8;  // units between two looks ahead

/// One fp32 a unit; bf16 weights are widened when they are laid out.
struct FmaUnits {
  static constexpr Index kElements = 1;

  static Vec MultiplyAdd(Vec x, Vec w, Vec sum) { return Fma(x, w, sum); }

  /// The same with the unit at `x` in every lane.
  static Vec MultiplyAddOfUnit(const float* x, Vec w, Vec sum) { return FmaOfFloat(x, w, sum); }

  /// `count` elements of `rows` rows to [units][rows], zeros past the end.
  static void Pack(const float* in, Index stride, Index rows, Index count, Index units, bool round,
                   float* out) {
    for (Index unit = 0; unit < units; unit += 16) {
      Vec lines[16];
#pragma clang loop unroll(full)
      for (Index r = 0; r < 16; ++r) {
        if (r >= rows || unit >= count) {
          lines[r] = Vec::Zero();
          continue;
        }
        const float* at = in + r * stride + unit;
        Prefetch(at + 48);
        const Vec x = Vec::LoadPart(at, count - unit);
        lines[r] = round ? x.RoundedToBf16() : x;
      }
      Transpose(lines);
      const Index last = units - unit < 16 ? units - unit : 16;
#pragma clang loop unroll(full)
      for (Index i = 0; i < 16; ++i) {
        if (i < last) {
          lines[i].StorePart(out + (unit + i) * rows, rows);
        }
      }
    }
  }
};

/// What one register block multiplies, and what it fetches meanwhile.
struct BlockInput {
  const float* a = nullptr;  // [unit][row]
  const float* w = nullptr;  // [unit][C * 16]
  Index units = 0;
  const unsigned char* ahead = nullptr;
  Index ahead_lines = 0;  // every kPrefetchUnits units
};

template <class Units, int R, int C>
void RunBlock(const BlockInput& input, const Tile& tile) {
  Vec acc[R][C];
  BeginTile(tile, acc);
  const float* a = input.a;
  const float* w = input.w;
  const unsigned char* ahead = input.ahead;
  for (Index left = input.units; left > 0; left -= kPrefetchUnits) {
    for (Index i = 0; i < input.ahead_lines; ++i, ahead += 64) {
      PrefetchFar(ahead);
    }
    const float* end = a + (left < kPrefetchUnits ? left : kPrefetchUnits) * R;
#pragma clang loop unroll_count(2)
    for (; a != end; a += R, w += C * 16) {
      Vec weight[C];
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        weight[c] = Vec::Load(w + c * 16);
      }
#pragma clang loop unroll(full)
      for (int r = 0; r < R; ++r) {
        if (r < kBlockRowsOfFloats) {
#pragma clang loop unroll(full)
          for (int c = 0; c < C; ++c) {
            acc[r][c] = Units::MultiplyAddOfUnit(a + r, weight[c], acc[r][c]);
          }
          continue;
        }
        const Vec x = Vec::Set(a[r]);
#pragma clang loop unroll(full)
        for (int c = 0; c < C; ++c) {
          acc[r][c] = Units::MultiplyAdd(x, weight[c], acc[r][c]);
        }
      }
    }
  }
  EndTile(tile, acc);
}

template <class Units, int R, int C>
void RunBlockOf(Index rows, Index vecs, const BlockInput& input, const Tile& tile) {
  if constexpr (R > 1) {
    if (rows < R) {
      RunBlockOf<Units, R - 1, C>(rows, vecs, input, tile);
      return;
    }
  }
  if constexpr (C > 1) {
    if (vecs < C) {
      RunBlockOf<Units, R, C - 1>(rows, vecs, input, tile);
      return;
    }
  }
  RunBlock<Units, R, C>(input, tile);
}

/// How rows and K of a linear are cut.
struct BlockedPlan {
  Index rows = 0;
  Index row_blocks = 0;
  Index shard_units = 0;
  Index shard_blocks = 0;  // k blocks of a shard
  Index block_units = 0;   // of a k block, the last one of a shard may have fewer
  Index slab_blocks = 0;   // k blocks laid out at a time
  Index k_blocks = 0;
  // K is multiplied in one go and its shards lie behind each other: then so does a row block's K
  // in the packed input, and is packed in one piece.
  bool whole_k = false;

  BlockedPlan(const PackedWeight& weight, Index row_count, Index unit_elements)
      : rows(row_count), row_blocks((row_count + kBlockRows - 1) / kBlockRows) {
    shard_units = weight.shard_padded / unit_elements;
    shard_blocks = (shard_units + kSlabUnits - 1) / kSlabUnits;
    block_units = (shard_units + shard_blocks - 1) / shard_blocks;
    block_units += block_units % 2;  // bf16 weights are widened in pairs
    k_blocks = shard_blocks * weight.shard_count;
    slab_blocks = kSlabUnits / block_units;
    whole_k = k_blocks <= slab_blocks && weight.shard_padded == weight.shard_size &&
              weight.k_padded == weight.in_features;
  }

  Index BlockRow(Index block) const { return block * rows / row_blocks; }

  Index BlockUnits(Index k_block) const {
    const Index left = shard_units - k_block % shard_blocks * block_units;
    return left < block_units ? left : block_units;
  }

  /// First unit of a k block in the packed weight's K.
  Index FirstUnit(Index k_block) const {
    return k_block / shard_blocks * shard_units + k_block % shard_blocks * block_units;
  }

  /// Where a block lies in the packed input.
  Index InputAt(Index row_block, Index k_block) const {
    if (whole_k) {
      const Index row = BlockRow(row_block);
      return row * FirstUnit(k_blocks) + FirstUnit(k_block) * (BlockRow(row_block + 1) - row);
    }
    return FirstUnit(k_block) * rows + BlockRow(row_block) * BlockUnits(k_block);
  }

  Index partial_floats() const { return k_blocks > 1 ? rows * kLayOutputs : 0; }
};

inline Index BlockedScratchBytes(const PackedWeight& weight, Index rows) {
  const BlockedPlan plan(weight, rows, 1);
  return (kSlabUnits * kLayOutputs + 4 * plan.partial_floats()) * 4;
}

/// Packs the row blocks [block_begin, block_end) of a call.
template <class Units>
void PackBlocks(const LinearCall& call) {
  const PackedWeight& weight = *call.weight;
  const BlockedPlan plan(weight, call.row_end - call.row_begin, Units::kElements);
  if (plan.whole_k) {
    for (Index block = call.block_begin; block < call.block_end; ++block) {
      const Index row = plan.BlockRow(block);
      Units::Pack(call.in + (call.row_begin + row) * call.in_stride, call.in_stride,
                  plan.BlockRow(block + 1) - row, weight.in_features, plan.FirstUnit(plan.k_blocks),
                  weight.round_input,
                  static_cast<float*>(call.packed_input) + plan.InputAt(block, 0));
    }
    return;
  }
  for (Index k_block = 0; k_block < plan.k_blocks; ++k_block) {
    const Index shard = k_block / plan.shard_blocks;
    const Index begin = shard * weight.shard_size +
                        k_block % plan.shard_blocks * plan.block_units * Units::kElements;
    const Index shard_end = (shard + 1) * weight.shard_size;
    const Index end = shard_end < weight.in_features ? shard_end : weight.in_features;
    for (Index block = call.block_begin; block < call.block_end; ++block) {
      const Index row = plan.BlockRow(block);
      Units::Pack(call.in + (call.row_begin + row) * call.in_stride + begin, call.in_stride,
                  plan.BlockRow(block + 1) - row, end - begin, plan.BlockUnits(k_block),
                  weight.round_input,
                  static_cast<float*>(call.packed_input) + plan.InputAt(block, k_block));
    }
  }
}

/// Linear of the rows and panels of one call.
template <class Units>
class BlockedLoop {
 public:
  explicit BlockedLoop(const LinearCall& call)
      : call_(call),
        weight_(*call.weight),
        plan_(weight_, call.row_end - call.row_begin, Units::kElements),
        input_(static_cast<const float*>(call.packed_input)),
        laid_(static_cast<float*>(call.scratch)) {
    for (Index i = 0; i < 4; ++i) {
      partials_[i] = laid_ + kSlabUnits * kLayOutputs + i * plan_.partial_floats();
    }
    element_bytes_ = weight_.bf16 ? 2 : 4;
    lies_laid_ = kBlockVecs * 16 == kPanelOutputs && !(Units::kElements == 1 && weight_.bf16);
    one_slab_ = plan_.k_blocks <= plan_.slab_blocks;
  }

  void Run() {
    for (Index panel = call_.panel_begin; panel < call_.panel_end; panel += kLayPanels) {
      const Index left = call_.panel_end - panel;
      panels_ = left < kLayPanels ? left : kLayPanels;
      panel_ = panel;
      for (Index block = 0; block < plan_.k_blocks; block += plan_.slab_blocks) {
        RunSlab(block);
      }
    }
  }

 private:
  Index FirstUnit(Index k_block) const { return plan_.FirstUnit(k_block); }

  Index BlockUnits(Index k_block) const { return plan_.BlockUnits(k_block); }

  const unsigned char* WeightAt(Index panel, Index k_block) const {
    return static_cast<const unsigned char*>(weight_.panels) +
           (panel * weight_.k_padded + FirstUnit(k_block) * Units::kElements) * kPanelOutputs *
               element_bytes_;
  }

  Index VecsOf(Index column_block) const {
    const Index left = panels_ * 2 - column_block * kBlockVecs;
    return left < kBlockVecs ? left : kBlockVecs;
  }

  /// Lays out the panels' weights of k blocks [first, last).
  void LayOut(Index first, Index last) {
    const Index base = FirstUnit(first);
    for (Index p = 0; p < panels_; ++p) {
      for (Index block = first; block < last; ++block) {
        const Index unit = FirstUnit(block) - base;
        const unsigned char* panel = WeightAt(panel_ + p, block);
        const LaidVec left = LaidAt(p * 2, unit);
        const LaidVec right = LaidAt(p * 2 + 1, unit);
        if (Units::kElements == 1 && weight_.bf16) {
          Widen(reinterpret_cast<const std::uint16_t*>(panel), BlockUnits(block), left, right);
        } else {
          Copy(reinterpret_cast<const float*>(panel), BlockUnits(block), left, right);
        }
      }
    }
  }

  struct LaidVec {
    float* at;
    Index stride;  // from unit to unit
  };

  LaidVec LaidAt(Index vec, Index unit) const {
    const Index column = vec / kBlockVecs;
    const Index stride = VecsOf(column) * 16;
    return {laid_ + column * kBlockVecs * kSlabUnits * 16 + vec % kBlockVecs * 16 + unit * stride,
            stride};
  }

  static void Widen(const std::uint16_t* w, Index units, LaidVec left, LaidVec right) {
    for (Index k = 0; k < units; k += 2, w += 2 * kPanelOutputs) {
      Prefetch(w + 16 * kPanelOutputs);
      Prefetch(w + 17 * kPanelOutputs);
      Vec::LoadEven(w).Store(left.at);
      Vec::LoadOdd(w).Store(left.at + left.stride);
      Vec::LoadEven(w + 32).Store(right.at);
      Vec::LoadOdd(w + 32).Store(right.at + right.stride);
      left.at += 2 * left.stride;
      right.at += 2 * right.stride;
    }
  }

  static void Copy(const float* w, Index units, LaidVec left, LaidVec right) {
    for (Index k = 0; k < units; ++k, w += kPanelOutputs) {
      Prefetch(w + 8 * kPanelOutputs);
      Prefetch(w + 8 * kPanelOutputs + 16);
      Vec::Load(w).Store(left.at);
      Vec::Load(w + 16).Store(right.at);
      left.at += left.stride;
      right.at += right.stride;
    }
  }

  void RunSlab(Index first) {
    const Index end = first + plan_.slab_blocks;
    const Index last = end < plan_.k_blocks ? end : plan_.k_blocks;
    if (!lies_laid_) {
      LayOut(first, last);
    }
    const Index column_blocks = (panels_ * 2 + kBlockVecs - 1) / kBlockVecs;
    const Index calls = plan_.row_blocks * column_blocks;
    const Index units = FirstUnit(last - 1) + BlockUnits(last - 1) - FirstUnit(first);
    PlanAhead(last, calls, units);
    for (Index call = 0; call < calls; ++call) {
      const Index row_block = call / column_blocks;
      const Index column = call % column_blocks;
      const Index row = plan_.BlockRow(row_block);
      const Index vecs = VecsOf(column);
      const float* w = lies_laid_ ? reinterpret_cast<const float*>(WeightAt(panel_ + column, first))
                                  : laid_ + column * kBlockVecs * kSlabUnits * 16;
      const unsigned char* ahead = AheadOf(call);
      for (Index block = first; block < last; ++block) {
        const BlockInput input{.a = input_ + plan_.InputAt(row_block, block),
                               .w = w + (FirstUnit(block) - FirstUnit(first)) * vecs * 16,
                               .units = BlockUnits(block),
                               .ahead = ahead,
                               .ahead_lines = ahead != nullptr ? ahead_lines_ : 0};
        RunBlockOf<Units, kBlockRows, kBlockVecs>(plan_.BlockRow(row_block + 1) - row, vecs, input,
                                                  MakeTile(column, row, block));
        if (ahead != nullptr) {
          ahead += ahead_lines_ * ((input.units + kPrefetchUnits - 1) / kPrefetchUnits) * 64;
        }
      }
    }
  }

  /// Spreads the fetching of what is laid out next over the calls of this slab, each of `units`
  /// units: one piece if whole panels come next, which lie behind each other, else one a panel.
  void PlanAhead(Index next_block, Index calls, Index units) {
    const bool next_group = next_block >= plan_.k_blocks;
    const Index panel = next_group ? panel_ + kLayPanels : panel_;
    const Index left = call_.panel_end - panel;
    ahead_pieces_ = 0;
    if (left <= 0) {
      return;
    }
    const Index panels = left < kLayPanels ? left : kLayPanels;
    const Index first = next_group ? 0 : next_block;
    const Index end = first + plan_.slab_blocks;
    const bool whole = first == 0 && end >= plan_.k_blocks;
    const Index piece_units =
        (end < plan_.k_blocks ? FirstUnit(end) : plan_.shard_units * weight_.shard_count) -
        FirstUnit(first);
    ahead_pieces_ = whole ? 1 : panels;
    ahead_calls_ = calls / ahead_pieces_ > 0 ? calls / ahead_pieces_ : 1;
    ahead_piece_ = weight_.k_padded * kPanelOutputs * element_bytes_;
    ahead_ = WeightAt(panel, first);
    const Index lines = piece_units * Units::kElements * element_bytes_ / 2 * (whole ? panels : 1);
    ahead_lines_ = (lines * kPrefetchUnits + ahead_calls_ * units - 1) / (ahead_calls_ * units);
    ahead_call_bytes_ = ahead_lines_ * ((units + kPrefetchUnits - 1) / kPrefetchUnits) * 64;
  }

  const unsigned char* AheadOf(Index call) const {
    const Index piece = ahead_pieces_ > 0 ? call / ahead_calls_ : 0;
    return piece < ahead_pieces_
               ? ahead_ + piece * ahead_piece_ + call % ahead_calls_ * ahead_call_bytes_
               : nullptr;
  }

  /// Shards are joined ((0+1)+(2+3))+((4+5)+(6+7)) as they end: partial 0 holds an even shard, 1
  /// the sum of the first half so far, 2 shards 4 and 5, 3 the shard being summed.
  Tile MakeTile(Index column_block, Index row, Index k_block) const {
    const Index shard = k_block / plan_.shard_blocks;
    const bool begins = k_block % plan_.shard_blocks == 0;
    const bool ends = k_block % plan_.shard_blocks == plan_.shard_blocks - 1;
    const Index column = column_block * kBlockVecs * 16;
    const Index output = panel_ * kPanelOutputs + column;
    // A block whose K is summed in one go leaves its partial sums to the next one, in L1.
    const Index at = one_slab_ ? 0 : row * kLayOutputs + column;
    Tile tile;
    tile.out = call_.out + (call_.row_begin + row) * call_.out_stride + output;
    tile.out_stride = call_.out_stride;
    tile.outputs = weight_.out_features - output;
    const bool last = k_block == plan_.k_blocks - 1;
    if (last && weight_.bias != nullptr) {
      tile.bias = weight_.bias + output;
    }
    tile.init = begins ? nullptr : partials_[3] + at;
    tile.init_stride = kLayOutputs;
    tile.join_stride = kLayOutputs;
    if (ends && shard % 2 == 1) {
      tile.joins[0] = partials_[0] + at;
      tile.joins[1] = shard == 7 ? partials_[2] + at : nullptr;
      tile.joins[2] = shard == 3 || shard == 7 ? partials_[1] + at : nullptr;
    }
    if (!last) {
      const Index target = !ends ? 3 : shard % 2 == 0 ? 0 : shard == 5 ? 2 : 1;
      tile.out = partials_[target] + at;
      tile.out_stride = kLayOutputs;
      tile.outputs = kLayOutputs;
    }
    return tile;
  }

  const LinearCall& call_;
  const PackedWeight& weight_;
  BlockedPlan plan_;
  const float* input_;
  float* laid_;
  float* partials_[4] = {};
  Index element_bytes_ = 0;
  bool lies_laid_ = false;  // panels are read where they lie
  bool one_slab_ = false;   // of all of K
  Index panel_ = 0;         // first panel of the group at hand
  Index panels_ = 0;
  const unsigned char* ahead_ = nullptr;  // what the next slab reads, in pieces
  Index ahead_pieces_ = 0;
  Index ahead_piece_ = 0;       // bytes from one piece to the next
  Index ahead_calls_ = 1;       // that share the fetching of a piece
  Index ahead_call_bytes_ = 0;  // fetched in a call
  Index ahead_lines_ = 0;       // every kPrefetchUnits units
};

inline Index BlockedInputBytes(const PackedWeight& weight, Index rows) {
  return rows * weight.k_padded * 4;
}

/// Of fp32 multiply-adds: up to kStraightRowsMax rows, widening a weight for each row block costs
/// less than laying it out.
inline Index FmaInputBytes(const PackedWeight& weight, Index rows) {
  return rows <= kStraightRowsMax ? 0 : BlockedInputBytes(weight, rows);
}

inline Index BlockedRowBlocks(const PackedWeight& /*weight*/, Index rows) {
  return (rows + kBlockRows - 1) / kBlockRows;
}

inline void LinearFma(const LinearCall& call) {
  if (call.packed_input != nullptr) {
    BlockedLoop<FmaUnits>(call).Run();
  } else {
    LinearFewRows(call);
  }
}

inline Index LinearScratchBytes(const PackedWeight& weight, Index rows) {
  const Index straight =
      rows < kBlockedRowsMin || rows <= kStraightRowsMax ? FewRowsScratchBytes(weight, rows) : 0;
  const Index blocked = rows < kBlockedRowsMin ? 0 : BlockedScratchBytes(weight, rows);
  return straight > blocked ? straight : blocked;
}

}  // namespace
}  // namespace pixii::kernels
