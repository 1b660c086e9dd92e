// Register blocks of attention: dots of query rows with a tile of keys, and weighted sums of its
// values.
//
// Blocks only choose which lanes are computed together: the order of each lane's sum is the same in
// all of them. Included by simd_attention.h; anonymous for the reason in kernel_table.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

/// Sixteen elements of K or V at `at`, codes as they are: their scale comes later.
template <Element kElement>
Vec LoadCodes(const unsigned char* data, Index at, Index n) {
  if constexpr (kElement == Element::kFp8E4m3) {
    return Vec::LoadFp8(data + at, n);
  } else if constexpr (kElement == Element::kInt8) {
    return Vec::LoadInt8(data + at, n);
  } else {
    return LoadAs(kElement, data, at, n);
  }
}

/// Lane i of the result is the largest lane of rows[i].
inline Vec MaxAcross(Vec (&rows)[16]) {
  Transpose(rows);
#pragma clang loop unroll(full)
  for (int step = 8; step >= 1; step /= 2) {
    for (int i = 0; i < step; ++i) {
      rows[i] = Max(rows[i], rows[i + step]);
    }
  }
  return rows[0];
}

inline constexpr Index kPrefetchLines = 1024;
inline constexpr Index kPrefetchFloats = 2 * (kPrefetchLines + 8);

/// Lines of memory that will be needed soon, asked for a few at a time.
class PrefetchList {
 public:
  /// `memory`: kPrefetchFloats floats.
  void Use(float* memory) { lines_ = reinterpret_cast<const unsigned char**>(memory); }

  void Clear() { at_ = count_ = 0; }

  /// What does not fit is left to be fetched when it is used.
  void Add(const unsigned char* data, Index size_bytes) {
    for (Index i = 0; i < size_bytes && count_ < kPrefetchLines; i += 64) {
      lines_[count_++] = data + i;
    }
  }

  void Next(Index count) {
    const Index end = at_ + count < count_ ? at_ + count : count_;
    for (; at_ < end; ++at_) {
      PrefetchFar(lines_[at_]);
    }
  }

 private:
  const unsigned char** lines_ = nullptr;
  Index at_ = 0;
  Index count_ = 0;
};

struct ScoreCall {
  const float* queries = nullptr;  // [key_dim][kAttentionRows]
  const float* keys = nullptr;     // [panel][key_dim][kAttentionPanel]
  Index key_dim = 0;
  Index begin = 0;  // positions of the tile, widened to whole blocks
  Index end = 0;
  float* out = nullptr;  // [rows][kTileTokens]
  PrefetchList* ahead = nullptr;
};

/// Dots of R queries with the 16 C positions from `at` on.
template <int R, int C>
void ScoreBlock(const ScoreCall& call, Index at) {
  Vec acc[R][C];
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c] = Vec::Zero();
    }
  }
  const Index panel_size = call.key_dim * kAttentionPanel;
  const float* keys = call.keys + at / kAttentionPanel * panel_size + at % kAttentionPanel;
  const float* q = call.queries;
  for (Index d = 0; d < call.key_dim; ++d, keys += kAttentionPanel, q += kAttentionRows) {
    if constexpr (R <= kAttentionFewRows) {
      call.ahead->Next(1);
    }
    Vec key[C];
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      key[c] = Vec::Load(keys + c / 2 * panel_size + c % 2 * 16);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
      const Vec x = Vec::Set(q[r]);
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        acc[r][c] = Fma(x, key[c], acc[r][c]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c].Store(call.out + r * kTileTokens + at + c * 16);
    }
  }
}

template <int R>
void ScoreBlocks(Index rows, const ScoreCall& call) {
  if (rows != R) {
    if constexpr (R > 1) {
      ScoreBlocks<R - 1>(rows, call);
    }
    return;
  }
  constexpr int kVecs = R <= kAttentionFewRows ? 2 * kAttentionVecs : kAttentionVecs;
  constexpr Index kStep = 16 * kVecs;
  for (Index at = call.begin / kStep * kStep; at < call.end; at += kStep) {
    ScoreBlock<R, kVecs>(call, at);
  }
}

inline void ScoreBlocks(Index rows, const ScoreCall& call) {
  ScoreBlocks<kAttentionRows>(rows, call);
}

struct ValueCall {
  const float* weights = nullptr;  // [rows][kTileTokens]
  const float* values = nullptr;   // [panel][kTileTokens][kAttentionPanel]
  Index begin = 0;                 // positions of the tile
  Index end = 0;
  Index padded = 0;  // from one row of `out` to the next
  Index value_dim = 0;
  float* out = nullptr;
  PrefetchList* ahead = nullptr;
};

/// out += weights times values, for R rows and the 16 C elements from `at` on.
template <int R, int C>
void ValueBlock(const ValueCall& call, Index at) {
  constexpr Index kPanelSize = kTileTokens * kAttentionPanel;
  float* out = call.out + at;
  Vec acc[R][C];
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c] = Vec::Load(out + r * call.padded + c * 16);
    }
  }
  const float* values = call.values + at / kAttentionPanel * kPanelSize + at % kAttentionPanel +
                        call.begin * kAttentionPanel;
  const float* weights = call.weights + call.begin;
  for (Index j = call.begin; j < call.end; ++j, values += kAttentionPanel, ++weights) {
    if constexpr (R <= kAttentionFewRows) {
      call.ahead->Next(1);
    }
    Vec value[C];
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      value[c] = Vec::Load(values + c / 2 * kPanelSize + c % 2 * 16);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
      const Vec x = Vec::Set(weights[r * kTileTokens]);
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        acc[r][c] = Fma(x, value[c], acc[r][c]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c].Store(out + r * call.padded + c * 16);
    }
  }
}

template <int R>
void ValueBlocks(Index rows, const ValueCall& call) {
  if (rows != R) {
    if constexpr (R > 1) {
      ValueBlocks<R - 1>(rows, call);
    }
    return;
  }
  Index at = 0;
  if constexpr (R <= kAttentionFewRows) {
    constexpr Index kStep = 32 * kAttentionVecs;
    for (; at + kStep <= call.padded; at += kStep) {
      ValueBlock<R, 2 * kAttentionVecs>(call, at);
    }
  }
  constexpr Index kStep = 16 * kAttentionVecs;
  for (; at < call.value_dim; at += kStep) {
    ValueBlock<R, kAttentionVecs>(call, at);
  }
}

inline void ValueBlocks(Index rows, const ValueCall& call) {
  ValueBlocks<kAttentionRows>(rows, call);
}

}  // namespace
}  // namespace pixii::kernels
