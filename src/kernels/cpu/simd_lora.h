// Low-rank pairs of adapters: mid = down * in, then out += scale * up * mid, each row with its own
// pair.
//
// Include after one simd_*.h and simd_rows.h. Anonymous for the reason in kernel_table.h.
// Sums: an element of mid as a row sum in simd_rows.h (lane i adds elements i, i + 16, ...); an
// element of out over ranks in ascending order, then one fused addition. Rows that share a pair and
// stand side by side read it once; each row's order is its own, so its bits do not tell.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline constexpr int kLoraRows = 4;   // rows that share what is loaded of a pair
inline constexpr int kLoraRanks = 4;  // ranks whose sums run side by side

template <int R, int Q>
void LoraDownBlock(const LoraCall& call, const LoraView& pair, Index row, Index rank) {
  Vec acc[R][Q];
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int q = 0; q < Q; ++q) {
      acc[r][q] = Vec::Zero();
    }
  }
  for (Index k = 0; k < pair.in_features; k += 16) {
    const Index left = pair.in_features - k;
    Vec x[R];
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
      x[r] = Vec::LoadPart(call.in + (row + r) * call.in_stride + k, left);
    }
#pragma clang loop unroll(full)
    for (int q = 0; q < Q; ++q) {
      const Vec weight = LoadAs(pair.element, pair.down, (rank + q) * pair.in_features + k, left);
#pragma clang loop unroll(full)
      for (int r = 0; r < R; ++r) {
        acc[r][q] = Fma(x[r], weight, acc[r][q]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int q = 0; q < Q; ++q) {
      call.mid[(row + r) * call.mid_stride + rank + q] = acc[r][q].ReduceAdd();
    }
  }
}

template <int R>
void LoraDownRows(const LoraCall& call, const LoraView& pair, Index row) {
  Index rank = 0;
  for (; rank + kLoraRanks <= pair.rank; rank += kLoraRanks) {
    LoraDownBlock<R, kLoraRanks>(call, pair, row, rank);
  }
  for (; rank < pair.rank; ++rank) {
    LoraDownBlock<R, 1>(call, pair, row, rank);
  }
}

/// Rows [row_begin, row_end) of mid.
inline void LoraDown(const LoraCall& call) {
  for (Index row = call.row_begin; row < call.row_end;) {
    const LoraView* pair = call.rows[row];
    Index same = row + 1;
    while (same < call.row_end && same < row + kLoraRows && call.rows[same] == pair) {
      ++same;
    }
    if (pair != nullptr && same - row == kLoraRows) {
      LoraDownRows<kLoraRows>(call, *pair, row);
    } else if (pair != nullptr) {
      for (Index one = row; one < same; ++one) {
        LoraDownRows<1>(call, *pair, one);
      }
    }
    row = same;
  }
}

/// Adds 16 x C outputs from column `at` on.
template <int C>
void LoraUpBlock(const LoraCall& call, const LoraView& pair, Index row, Index at) {
  const float* mid = call.mid + row * call.mid_stride;
  float* out = call.out + row * call.out_stride;
  Vec acc[C];
#pragma clang loop unroll(full)
  for (int c = 0; c < C; ++c) {
    acc[c] = Vec::Zero();
  }
  for (Index rank = 0; rank < pair.rank; ++rank) {
    const Vec x = Vec::Set(mid[rank]);
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      const Index column = at + c * 16;
      acc[c] = Fma(x,
                   LoadAs(pair.element, pair.up, rank * pair.out_features + column,
                          pair.out_features - column),
                   acc[c]);
    }
  }
  const Vec scale = Vec::Set(pair.scale);
#pragma clang loop unroll(full)
  for (int c = 0; c < C; ++c) {
    const Index column = at + c * 16;
    const Index left = pair.out_features - column;
    Fma(acc[c], scale, Vec::LoadPart(out + column, left)).StorePart(out + column, left);
  }
}

/// Rows [row_begin, row_end) of out.
inline void LoraUp(const LoraCall& call) {
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    const LoraView* pair = call.rows[row];
    if (pair == nullptr) {
      continue;
    }
    Index at = 0;
    for (; at + 128 <= pair->out_features; at += 128) {
      LoraUpBlock<8>(call, *pair, row, at);
    }
    for (; at < pair->out_features; at += 16) {
      LoraUpBlock<1>(call, *pair, row, at);
    }
  }
}

inline void Lora(const LoraCall& call) {
  LoraDown(call);
  LoraUp(call);
}

}  // namespace
}  // namespace pixii::kernels
