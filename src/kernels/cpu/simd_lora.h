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

inline constexpr int kLoraRows = 4;           // rows that share what is loaded of a pair
inline constexpr int kLoraAheadBytes = 2048;  // each pair is read once a step, from far away

/// Asks for `bytes` of what is read kLoraAheadBytes later.
inline void LoraPrefetch(const void* at, int bytes) {
  const char* ahead = static_cast<const char*>(at) + kLoraAheadBytes;
  for (int line = 0; line < bytes; line += 64) {
    __builtin_prefetch(ahead + line);
  }
}

template <Element kElement>
const void* LoraAt(const void* data, Index index) {
  return static_cast<const char*>(data) +
         index *
             static_cast<Index>(kElement == Element::kF32 ? sizeof(float) : sizeof(std::uint16_t));
}

template <Element kElement, int R, int Q>
void LoraDownBlock(const LoraCall& call, const LoraView& pair, Index row, Index rank) {
  Vec acc[R][Q];
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int q = 0; q < Q; ++q) {
      acc[r][q] = Vec::Zero();
    }
  }
  const Index padded = (pair.in_features + 15) / 16 * 16;
  const void* block = LoraAt<kElement>(pair.down, rank * padded);
  constexpr int kBytes = 16 * Q * (kElement == Element::kF32 ? 4 : 2);
  for (Index k = 0; k < pair.in_features; k += 16) {
    const Index left = pair.in_features - k;
    LoraPrefetch(LoraAt<kElement>(block, k * Q), kBytes);
    Vec x[R];
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
      x[r] = Vec::LoadPart(call.in + (row + r) * call.in_stride + k, left);
    }
#pragma clang loop unroll(full)
    for (int q = 0; q < Q; ++q) {
      const Vec weight = LoadAs(kElement, block, k * Q + q * 16, 16);
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

template <Element kElement, int R>
void LoraDownRanks(const LoraCall& call, const LoraView& pair, Index row) {
  Index rank = 0;
  for (; rank + kLoraRanks <= pair.rank; rank += kLoraRanks) {
    LoraDownBlock<kElement, R, kLoraRanks>(call, pair, row, rank);
  }
  for (; rank < pair.rank; ++rank) {
    LoraDownBlock<kElement, R, 1>(call, pair, row, rank);
  }
}

template <int R>
void LoraDownRows(const LoraCall& call, const LoraView& pair, Index row) {
  if (pair.element == Element::kBf16) {
    LoraDownRanks<Element::kBf16, R>(call, pair, row);
  } else {
    LoraDownRanks<Element::kF32, R>(call, pair, row);
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
template <Element kElement, int C>
void LoraUpBlock(const LoraCall& call, const LoraView& pair, Index row, Index at) {
  const float* mid = call.mid + row * call.mid_stride;
  float* out = call.out + row * call.out_stride;
  Vec acc[C];
#pragma clang loop unroll(full)
  for (int c = 0; c < C; ++c) {
    acc[c] = Vec::Zero();
  }
  const void* block = LoraAt<kElement>(pair.up, at * pair.rank);
  constexpr int kBytes = 16 * C * (kElement == Element::kF32 ? 4 : 2);
  for (Index rank = 0; rank < pair.rank; ++rank) {
    const Vec x = Vec::Set(mid[rank]);
    LoraPrefetch(LoraAt<kElement>(block, rank * 16 * C), kBytes);
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[c] = Fma(x, LoadAs(kElement, block, (rank * C + c) * 16, 16), acc[c]);
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

template <Element kElement>
void LoraUpRow(const LoraCall& call, const LoraView& pair, Index row) {
  Index at = 0;
  for (; at + kLoraColumns <= pair.out_features; at += kLoraColumns) {
    LoraUpBlock<kElement, kLoraColumns / 16>(call, pair, row, at);
  }
  for (; at < pair.out_features; at += 16) {
    LoraUpBlock<kElement, 1>(call, pair, row, at);
  }
}

/// Rows [row_begin, row_end) of out.
inline void LoraUp(const LoraCall& call) {
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    const LoraView* pair = call.rows[row];
    if (pair != nullptr && pair->element == Element::kBf16) {
      LoraUpRow<Element::kBf16>(call, *pair, row);
    } else if (pair != nullptr) {
      LoraUpRow<Element::kF32>(call, *pair, row);
    }
  }
}

inline void Lora(const LoraCall& call) {
  LoraDown(call);
  LoraUp(call);
}

}  // namespace
}  // namespace pixii::kernels
