// Linear: out = in * weight^T + bias over packed panels, in blocks that fit registers, L1 and L2.
//
// One lane is one output feature. Its sum runs over k in ascending order in one fp32 accumulator
// per shard; when K is cut into blocks the accumulator is stored and loaded again, which changes
// nothing. Blocking therefore never shows in the bits, and a row's bits do not depend on how many
// rows there are. Include after one simd_*.h. Anonymous for the reason in kernel_table.h. Layout:
// packed input [row block][k block][rows of the block][kInputStride]; a row block has at most
// Math::kRows rows.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline constexpr Index kDepth = 256;  // elements of K in a block
inline constexpr Index kInputStride =
    kDepth + 16;                         // a constant, so that a row block needs one base register
inline constexpr Index kPanelGroup = 4;  // panels that share an input block while it is in L1
inline constexpr Index kUnpackBlocks = 4;  // row blocks that make widening bf16 once worth it
inline constexpr Index kGroupOutputs = kPanelGroup * kPanelOutputs;
inline constexpr Index kBlockRowsMax = 224;  // rows whose packed input stays in L2

/// One register block of outputs: where it starts from, what joins it, where it goes.
struct Tile {
  const float* init = nullptr;  // null: zeros
  Index init_stride = 0;
  const float* joins[3] = {};  // added in this order, then the bias
  Index join_stride = 0;
  const float* bias = nullptr;
  float* out = nullptr;
  Index out_stride = 0;
  Index outputs = 0;  // valid columns from here on
};

template <int R, int C>
[[gnu::always_inline]] inline void BeginTile(const Tile& tile, Vec (&acc)[R][C]) {
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c] = Vec::Zero();
    }
  }
  if (tile.init == nullptr) {
    return;
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c] = Vec::Load(tile.init + r * tile.init_stride + c * 16);
    }
  }
}

/// Adds what joins the sums, then the bias.
template <int R, int C>
[[gnu::always_inline]] inline void JoinTile(const Tile& tile, Vec (&acc)[R][C]) {
  for (const float* join : tile.joins) {
    if (join == nullptr) {
      continue;
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        acc[r][c] = Vec::Load(join + r * tile.join_stride + c * 16) + acc[r][c];
      }
    }
  }
  if (tile.bias != nullptr) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      const Vec bias = Vec::Load(tile.bias + c * 16);
#pragma clang loop unroll(full)
      for (int r = 0; r < R; ++r) {
        acc[r][c] = acc[r][c] + bias;
      }
    }
  }
}

template <int R, int C>
[[gnu::always_inline]] inline void EndTile(const Tile& tile, Vec (&acc)[R][C]) {
  JoinTile(tile, acc);
  if (tile.outputs >= C * 16) {
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        acc[r][c].Store(tile.out + r * tile.out_stride + c * 16);
      }
    }
    return;
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c].StorePart(tile.out + r * tile.out_stride + c * 16, tile.outputs - c * 16);
    }
  }
}

/// Multiplies by fused multiply-add in fp32. kPairs: weights are bf16 pairs, widened on the way.
template <bool kPairs>
struct FmaMath {
  using Input = float;
  static constexpr int kRows = kFewRows;

  static constexpr int Vecs(int rows) { return rows <= kFewRowsOfTwoVecs ? 2 : 1; }

  template <int R, int C>
  static void Run(const float* a, const void* panel, Index k_begin, Index k_count, Index column,
                  const Tile& tile) {
    Vec acc[R][C];
    BeginTile(tile, acc);
    if constexpr (kPairs) {
      const std::uint16_t* w =
          static_cast<const std::uint16_t*>(panel) + k_begin * kPanelOutputs + column * 2;
      for (Index k = 0; k < k_count; k += 2, w += 2 * kPanelOutputs) {
        Prefetch(w + 16 * kPanelOutputs);
        Prefetch(w + 17 * kPanelOutputs);
        Vec weight[C];  // the pair is loaded twice: two registers more would not fit
#pragma clang loop unroll(full)
        for (int c = 0; c < C; ++c) {
          weight[c] = Vec::LoadEven(w + c * 32);
        }
        Step<R, C>(a + k, weight, acc);
#pragma clang loop unroll(full)
        for (int c = 0; c < C; ++c) {
          weight[c] = Vec::LoadOdd(w + c * 32);
        }
        Step<R, C>(a + k + 1, weight, acc);
      }
    } else {
      const float* w = static_cast<const float*>(panel) + k_begin * kPanelOutputs + column;
      for (Index k = 0; k < k_count; ++k, w += kPanelOutputs) {
        Vec weight[C];
#pragma clang loop unroll(full)
        for (int c = 0; c < C; ++c) {
          weight[c] = Vec::Load(w + c * 16);
        }
        Step<R, C>(a + k, weight, acc);
      }
    }
    EndTile(tile, acc);
  }

  template <int R, int C>
  static void Step(const float* a, const Vec (&weight)[C], Vec (&acc)[R][C]) {
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
      if (C == 1) {  // then a broadcast of its own would be an instruction a multiply-add
        acc[r][0] = FmaOfFloat(a + r * kInputStride, weight[0], acc[r][0]);
        continue;
      }
      const Vec x = Vec::Set(a[r * kInputStride]);
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        acc[r][c] = Fma(x, weight[c], acc[r][c]);
      }
    }
  }

  /// `count` elements of one row to `out`, zeros up to `padded`.
  static void Pack(const float* in, Index count, bool round, float* out, Index padded) {
    for (Index i = 0; i < padded; i += 16) {
      const Vec x = Vec::LoadPart(in + i, count - i);
      (round ? x.RoundedToBf16() : x).Store(out + i);
    }
  }

  /// bf16 pairs to fp32 rows of k, once for all row blocks.
  static void Unpack(const void* panel, Index k_begin, Index k_count, float* out) {
    const std::uint16_t* w = static_cast<const std::uint16_t*>(panel) + k_begin * kPanelOutputs;
    for (Index k = 0; k < k_count; k += 2) {
      for (Index c = 0; c < kPanelOutputs; c += 16) {
        const std::uint16_t* pairs = w + k * kPanelOutputs + c * 2;
        Vec::LoadEven(pairs).Store(out + k * kPanelOutputs + c);
        Vec::LoadOdd(pairs).Store(out + (k + 1) * kPanelOutputs + c);
      }
    }
  }
};

/// Runs the kernel made for exactly `rows` rows over the 32 outputs of one panel.
template <class Math, int R>
void RunPanel(Index rows, const typename Math::Input* a, const void* panel, Index k_begin,
              Index k_count, const Tile& tile) {
  if (rows < R) {
    if constexpr (R > 1) {
      RunPanel<Math, R - 1>(rows, a, panel, k_begin, k_count, tile);
    }
    return;
  }
  constexpr int kVecs = Math::Vecs(R);
  Math::template Run<R, kVecs>(a, panel, k_begin, k_count, 0, tile);
  if constexpr (kVecs == 1) {
    if (tile.outputs > 16) {
      Tile right = tile;
      right.init = tile.init != nullptr ? tile.init + 16 : nullptr;
      for (const float*& join : right.joins) {
        join = join != nullptr ? join + 16 : nullptr;
      }
      right.bias = tile.bias != nullptr ? tile.bias + 16 : nullptr;
      right.out = tile.out + 16;
      right.outputs = tile.outputs - 16;
      Math::template Run<R, kVecs>(a, panel, k_begin, k_count, 16, right);
    }
  }
}

/// Cuts of one call, and its scratch.
struct LinearPlan {
  Index rows = 0;          // at a time
  Index shard_blocks = 0;  // k blocks of a shard
  Index k_blocks = 0;
  Index input_bytes = 0;
  Index unpacked_bytes = 0;
  Index partial_bytes = 0;  // one of the four buffers of sharded sums
};

inline LinearPlan MakeLinearPlan(const PackedWeight& weight, Index rows, Index input_size_bytes) {
  LinearPlan plan;
  plan.rows = rows < kBlockRowsMax ? rows : kBlockRowsMax;
  plan.shard_blocks = (weight.shard_padded + kDepth - 1) / kDepth;
  plan.k_blocks = plan.shard_blocks * weight.shard_count;
  plan.input_bytes = (plan.rows * plan.k_blocks * kInputStride * input_size_bytes + 63) / 64 * 64;
  plan.unpacked_bytes = kPanelGroup * kDepth * kPanelOutputs * 4;
  plan.partial_bytes = plan.k_blocks > 1 ? plan.rows * kGroupOutputs * 4 : 0;
  return plan;
}

inline Index FewRowsScratchBytes(const PackedWeight& weight, Index rows) {
  const LinearPlan plan = MakeLinearPlan(weight, rows, 4);
  return plan.input_bytes + plan.unpacked_bytes + 4 * plan.partial_bytes;
}

/// Linear of the rows and panels of one call with one way to multiply.
template <class Math>
class LinearLoop {
 public:
  using Input = typename Math::Input;

  explicit LinearLoop(const LinearCall& call)
      : call_(call),
        weight_(*call.weight),
        plan_(MakeLinearPlan(weight_, call.row_end - call.row_begin, sizeof(Input))) {
    auto* scratch = static_cast<unsigned char*>(call.scratch);
    input_ = reinterpret_cast<Input*>(scratch);
    unpacked_ = reinterpret_cast<float*>(scratch + plan_.input_bytes);
    for (Index i = 0; i < 4; ++i) {
      partials_[i] = reinterpret_cast<float*>(scratch + plan_.input_bytes + plan_.unpacked_bytes +
                                              i * plan_.partial_bytes);
    }
    panel_size_bytes_ = weight_.k_padded * kPanelOutputs * (weight_.bf16 ? 2 : 4);
  }

  void Run() {
    for (Index row = call_.row_begin; row < call_.row_end; row += plan_.rows) {
      rows_ = call_.row_end - row < plan_.rows ? call_.row_end - row : plan_.rows;
      row_blocks_ = (rows_ + Math::kRows - 1) / Math::kRows;
      row_ = row;
      if (!call_.scratch_packed || rows_ < call_.row_end - call_.row_begin) {
        PackRows();
      }
      const Index group = row_blocks_ > 1 ? kPanelGroup : 1;
      for (Index panel = call_.panel_begin; panel < call_.panel_end; panel += group) {
        const Index count = call_.panel_end - panel < group ? call_.panel_end - panel : group;
        for (Index k_block = 0; k_block < plan_.k_blocks; ++k_block) {
          RunBlock(panel, count, k_block);
        }
      }
    }
  }

 private:
  Index BlockRow(Index block) const { return block * rows_ / row_blocks_; }

  Input* InputAt(Index block, Index k_block) const {
    const Index first = BlockRow(block);
    const Index count = BlockRow(block + 1) - first;
    return input_ + (first * plan_.k_blocks + count * k_block) * kInputStride;
  }

  Index BlockDepth(Index k_block) const {
    const Index left = weight_.shard_padded - (k_block % plan_.shard_blocks) * kDepth;
    return left < kDepth ? left : kDepth;
  }

  void PackRows() {
    for (Index block = 0; block < row_blocks_; ++block) {
      const Index first = BlockRow(block);
      for (Index k_block = 0; k_block < plan_.k_blocks; ++k_block) {
        const Index shard = k_block / plan_.shard_blocks;
        const Index begin = shard * weight_.shard_size + (k_block % plan_.shard_blocks) * kDepth;
        const Index shard_end = (shard + 1) * weight_.shard_size;
        const Index end = shard_end < weight_.in_features ? shard_end : weight_.in_features;
        const Index depth = BlockDepth(k_block);
        const Index count = end - begin < 0 ? 0 : end - begin < depth ? end - begin : depth;
        Input* out = InputAt(block, k_block);
        for (Index row = first; row < BlockRow(block + 1); ++row, out += kInputStride) {
          Math::Pack(call_.in + (row_ + row) * call_.in_stride + begin, count, weight_.round_input,
                     out, depth);
        }
      }
    }
  }

  void RunBlock(Index panel, Index panel_count, Index k_block) {
    const Index k_begin = k_block / plan_.shard_blocks * weight_.shard_padded +
                          (k_block % plan_.shard_blocks) * kDepth;
    const Index k_count = BlockDepth(k_block);
    const bool unpack = UnpacksBf16() && row_blocks_ >= kUnpackBlocks;
    if constexpr (UnpacksBf16()) {
      for (Index p = 0; unpack && p < panel_count; ++p) {
        Math::Unpack(PanelAt(panel + p), k_begin, k_count, unpacked_ + p * kDepth * kPanelOutputs);
      }
    }
    for (Index block = 0; block < row_blocks_; ++block) {
      const Index first = BlockRow(block);
      const Index rows = BlockRow(block + 1) - first;
      for (Index p = 0; p < panel_count; ++p) {
        const Tile tile = MakeTile(panel + p, p, first, k_block);
        if (unpack) {
          if constexpr (UnpacksBf16()) {
            RunPanel<FmaMath<false>, Math::kRows>(rows, InputAt(block, k_block),
                                                  unpacked_ + p * kDepth * kPanelOutputs, 0,
                                                  k_count, tile);
          }
        } else if constexpr (requires { &Math::RunRows; }) {
          Math::RunRows(rows, InputAt(block, k_block), PanelAt(panel + p), k_begin, k_count, tile);
        } else {
          RunPanel<Math, Math::kRows>(rows, InputAt(block, k_block), PanelAt(panel + p), k_begin,
                                      k_count, tile);
        }
      }
    }
  }

  static constexpr bool UnpacksBf16() { return __is_same(Math, FmaMath<true>); }

  const void* PanelAt(Index panel) const {
    return static_cast<const unsigned char*>(weight_.panels) + panel * panel_size_bytes_;
  }

  /// Shards are joined ((0+1)+(2+3))+((4+5)+(6+7)) as they end: partial 0 holds an even shard, 1
  /// the sum of the first half so far, 2 shards 4 and 5, 3 the shard being summed.
  Tile MakeTile(Index panel, Index group_panel, Index row, Index k_block) const {
    const Index shard = k_block / plan_.shard_blocks;
    const bool begins = k_block % plan_.shard_blocks == 0;
    const bool ends = k_block % plan_.shard_blocks == plan_.shard_blocks - 1;
    const Index at = row * kGroupOutputs + group_panel * kPanelOutputs;
    Tile tile;
    tile.out = call_.out + (row_ + row) * call_.out_stride + panel * kPanelOutputs;
    tile.out_stride = call_.out_stride;
    tile.outputs = weight_.out_features - panel * kPanelOutputs;
    const bool last = k_block == plan_.k_blocks - 1;
    if (last && weight_.bias != nullptr) {
      tile.bias = weight_.bias + panel * kPanelOutputs;
    }
    tile.init = begins ? nullptr : partials_[3] + at;
    tile.init_stride = kGroupOutputs;
    tile.join_stride = kGroupOutputs;
    if (ends && shard % 2 == 1) {
      tile.joins[0] = partials_[0] + at;
      tile.joins[1] = shard == 7 ? partials_[2] + at : nullptr;
      tile.joins[2] = shard == 3 || shard == 7 ? partials_[1] + at : nullptr;
    }
    if (!last) {
      const Index target = !ends ? 3 : shard % 2 == 0 ? 0 : shard == 5 ? 2 : 1;
      tile.out = partials_[target] + at;
      tile.out_stride = kGroupOutputs;
      tile.outputs = kPanelOutputs;
    }
    return tile;
  }

  const LinearCall& call_;
  const PackedWeight& weight_;
  LinearPlan plan_;
  Input* input_ = nullptr;
  float* unpacked_ = nullptr;
  float* partials_[4] = {};
  Index panel_size_bytes_ = 0;
  Index row_ = 0;  // first row of the rows at hand
  Index rows_ = 0;
  Index row_blocks_ = 0;
};

/// For rows so few that reading the weights is all that counts.
inline void LinearFewRows(const LinearCall& call) {
  if (call.weight->bf16) {
    LinearLoop<FmaMath<true>>(call).Run();
  } else {
    LinearLoop<FmaMath<false>>(call).Run();
  }
}

}  // namespace
}  // namespace pixii::kernels
