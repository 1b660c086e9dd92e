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

/// Memory that will be needed soon, asked for a few lines at a time in the order it was added.
class PrefetchRuns {
 public:
  static constexpr Index kRunsMax = 2 * kTileTokens;

  void Clear() {
    at_ = end_ = nullptr;
    run_ = count_ = 0;
  }

  /// A run that does not fit is left to be fetched when it is used.
  void Add(const unsigned char* data, Index size_bytes) {
    if (count_ < kRunsMax) {
      runs_[count_++] = {data, data + size_bytes};
    }
  }

  /// The next kBytes, at least one line.
  template <Index kBytes>
  void Next() {
    if (at_ >= end_) {
      if (run_ == count_) {
        return;
      }
      at_ = runs_[run_].begin;
      end_ = runs_[run_++].end;
    }
#pragma clang loop unroll(full)
    for (Index i = 0; i < kBytes; i += 64) {
      PrefetchFar(at_ + i);
    }
    at_ += kBytes;
  }

 private:
  struct Run {
    const unsigned char* begin;
    const unsigned char* end;
  };

  const unsigned char* at_ = nullptr;
  const unsigned char* end_ = nullptr;
  Index run_ = 0;
  Index count_ = 0;
  Run runs_[kRunsMax];
};

/// What a tile of K holds a 32-bit word of one position: an fp32, two bf16 or four codes.
enum class KeyWord : std::uint8_t { kFloat, kBf16, kInt8, kFp8 };

constexpr int ElementsOf(KeyWord word) {
  return word == KeyWord::kFloat ? 1 : word == KeyWord::kBf16 ? 2 : 4;
}

/// A tile that is used once is widened while it is multiplied: storing it in fp32 and reading it
/// again would need more than the first level of cache holds.
inline KeyWord KeyWordOf(const KvView& kv, bool once) {
  if (once && kv.element == Element::kBf16 && kv.k.dim % 32 == 0) {
    return KeyWord::kBf16;
  }
  const bool words_of_codes = once && kv.k.dim % 64 == 0;
  return words_of_codes && kv.element == Element::kInt8      ? KeyWord::kInt8
         : words_of_codes && kv.element == Element::kFp8E4m3 ? KeyWord::kFp8
                                                             : KeyWord::kFloat;
}

/// Elements d .. d + 15 of 16 keys, which may be null, to `out` [16][kAttentionPanel].
template <Element kElement>
void TransposeKeys(const unsigned char* const* keys, Index d, Index key_dim, float* out) {
  Vec block[16];
  for (int i = 0; i < 16; ++i) {
    block[i] = keys[i] != nullptr ? LoadCodes<kElement>(keys[i], d, key_dim - d) : Vec::Zero();
  }
  Transpose(block);
  const Index count = key_dim - d < 16 ? key_dim - d : 16;
  for (Index i = 0; i < count; ++i) {
    block[i].Store(out + i * kAttentionPanel);
  }
}

/// Words word .. word + 15 of 16 keys, which may be null, side by side.
inline void TransposeBlock(const unsigned char* const* keys, Index word, Vec (&block)[16]) {
  for (int i = 0; i < 16; ++i) {
    block[i] = keys[i] != nullptr ? Vec::Load(reinterpret_cast<const float*>(keys[i] + word * 4))
                                  : Vec::Zero();
  }
  Transpose(block);
}

/// Sixteen keys to [key_dim][kAttentionPanel] in fp32.
template <Element kElement>
void WidenKeys(const unsigned char* const* keys, Index key_dim, float* out) {
  Index d = 0;
  if constexpr (kElement == Element::kBf16) {
    for (; d + 32 <= key_dim; d += 32) {  // a pair moves as one lane, half the work
      Vec block[16];
      TransposeBlock(keys, d / 2, block);
      for (int i = 0; i < 16; ++i) {
        block[i].EvenOfPairs().Store(out + (d + 2 * i) * kAttentionPanel);
        block[i].OddOfPairs().Store(out + (d + 2 * i + 1) * kAttentionPanel);
      }
    }
  }
  for (; d < key_dim; d += 16) {
    TransposeKeys<kElement>(keys, d, key_dim, out + d * kAttentionPanel);
  }
}

/// The same, `words` words as they are.
inline void TransposeWords(const unsigned char* const* keys, Index words, float* out) {
  for (Index word = 0; word < words; word += 16) {
    Vec block[16];
    TransposeBlock(keys, word, block);
    for (int i = 0; i < 16; ++i) {
      block[i].Store(out + (word + i) * kAttentionPanel);
    }
  }
}

/// Element kIndex of each lane's word.
template <KeyWord kWord, int kIndex>
Vec ElementOfWords(Vec words) {
  if constexpr (kWord == KeyWord::kFloat) {
    return words;
  } else if constexpr (kWord == KeyWord::kBf16) {
    return kIndex == 0 ? words.EvenOfPairs() : words.OddOfPairs();
  } else if constexpr (kWord == KeyWord::kInt8) {
    return words.template Int8OfWords<kIndex>();
  } else {
    return words.template Fp8OfWords<kIndex>();
  }
}

struct ScoreCall {
  const float* queries = nullptr;  // [key_dim][kAttentionRows]
  const float* keys = nullptr;     // [panel][words of key_dim][kAttentionPanel]
  Index key_dim = 0;
  Index begin = 0;  // positions of the tile, widened to whole blocks
  Index end = 0;
  float* out = nullptr;           // [rows][kTileTokens]
  PrefetchRuns* ahead = nullptr;  // or null
};

/// acc += element kIndex of each word and the ones after it, times their queries.
template <KeyWord kWord, int kIndex, int R, int C>
[[gnu::always_inline]] inline void AddElements(const Vec (&words)[C], const float* q,
                                               Vec (&acc)[R][C]) {
  Vec key[C];
#pragma clang loop unroll(full)
  for (int c = 0; c < C; ++c) {
    key[c] = ElementOfWords<kWord, kIndex>(words[c]);
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
    const Vec x = Vec::Set(q[kIndex * kAttentionRows + r]);
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c] = Fma(x, key[c], acc[r][c]);
    }
  }
  if constexpr (kIndex + 1 < ElementsOf(kWord)) {
    AddElements<kWord, kIndex + 1>(words, q, acc);
  }
}

/// Dots of R queries with the 16 C positions from `at` on.
template <KeyWord kWord, int R, int C>
void ScoreBlock(const ScoreCall& call, Index at) {
  Vec acc[R][C];
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c] = Vec::Zero();
    }
  }
  constexpr int kElements = ElementsOf(kWord);
  const Index panel_size = call.key_dim / kElements * kAttentionPanel;
  const float* keys = call.keys + at / kAttentionPanel * panel_size + at % kAttentionPanel;
  const float* q = call.queries;
  const auto multiply = [&](auto&& ahead) {
    for (Index d = 0; d < call.key_dim;
         d += kElements, keys += kAttentionPanel, q += kElements * kAttentionRows) {
      ahead();
      Vec words[C];
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        words[c] = Vec::Load(keys + c / 2 * panel_size + c % 2 * 16);
      }
      AddElements<kWord, 0>(words, q, acc);
    }
  };
  if (call.ahead != nullptr) {
    PrefetchRuns& runs = *call.ahead;
    multiply([&runs] { runs.Next<64 * C>(); });  // as many lines as positions have words here
  } else {
    multiply([] {});
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c].Store(call.out + r * kTileTokens + at + c * 16);
    }
  }
}

template <KeyWord kWord, int R>
void ScoreBlocks(Index rows, const ScoreCall& call) {
  if (rows != R) {
    if constexpr (R > 1) {
      ScoreBlocks<kWord, R - 1>(rows, call);
    }
    return;
  }
  constexpr int kVecs = R <= kAttentionFewRows ? 2 * kAttentionVecs : kAttentionVecs;
  constexpr Index kStep = 16 * kVecs;
  constexpr int kHalf = (kVecs + 1) / 2;
  Index at = call.begin / kStep * kStep;
  for (; at + 16 * kHalf < call.end || (kVecs == 1 && at < call.end); at += kStep) {
    ScoreBlock<kWord, R, kVecs>(call, at);
  }
  if (kVecs > 1 && at < call.end) {
    ScoreBlock<kWord, R, kHalf>(call, at);
  }
}

template <KeyWord kWord>
void ScoreBlocks(Index rows, const ScoreCall& call) {
  ScoreBlocks<kWord, kAttentionRows>(rows, call);
}

/// Values of a tile in fp32: [panel][kTileTokens][kAttentionPanel].
struct WidenedValues {
  const float* values = nullptr;

  template <int C>
  struct Cursor {
    const float* at = nullptr;

    void LoadNext(Vec (&value)[C]) {
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        value[c] = Vec::Load(at + c / 2 * kTileTokens * kAttentionPanel + c % 2 * 16);
      }
      at += kAttentionPanel;
    }
  };

  /// Elements `at` .. `at` + 16 C - 1 of position `first` and those after it.
  template <int C>
  Cursor<C> From(Index first, Index at) const {
    return {values + at / kAttentionPanel * kTileTokens * kAttentionPanel + at % kAttentionPanel +
            first * kAttentionPanel};
  }
};

/// Values where they lie in the cache, widened while they are multiplied; reading a tile, the same
/// part of the next one is asked for.
template <Element kElement>
struct StoredValues {
  static constexpr Index kSize = kElement == Element::kF32                                 ? 4
                                 : kElement == Element::kBf16 || kElement == Element::kF16 ? 2
                                                                                           : 1;
  const unsigned char* const* rows = nullptr;  // [kTileTokens]
  PrefetchRuns* ahead = nullptr;

  template <int C>
  struct Cursor {
    const unsigned char* const* row = nullptr;
    Index at = 0;
    PrefetchRuns* ahead = nullptr;

    void LoadNext(Vec (&value)[C]) {
      ahead->Next<C * 16 * kSize>();
      const unsigned char* from = *row++;
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        value[c] = LoadCodes<kElement>(from, at + c * 16, 16);
      }
    }
  };

  template <int C>
  Cursor<C> From(Index first, Index at) const {
    return {rows + first, at, ahead};
  }
};

struct ValueCall {
  const float* weights = nullptr;  // [rows][kTileTokens]
  Index begin = 0;                 // positions of the tile
  Index end = 0;
  Index padded = 0;  // from one row of `out` to the next
  Index value_dim = 0;
  float* out = nullptr;
};

/// out += weights times values, for R rows and the 16 C elements from `at` on.
template <int R, int C, class Source>
void ValueBlock(const ValueCall& call, const Source& source, Index at) {
  float* out = call.out + at;
  Vec acc[R][C];
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c] = Vec::Load(out + r * call.padded + c * 16);
    }
  }
  auto cursor = source.template From<C>(call.begin, at);
  const float* weights = call.weights + call.begin;
  for (Index j = call.begin; j < call.end; ++j, ++weights) {
    Vec value[C];
    cursor.LoadNext(value);
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

template <int R, class Source>
void ValueBlocks(Index rows, const ValueCall& call, const Source& source) {
  if (rows != R) {
    if constexpr (R > 1) {
      ValueBlocks<R - 1>(rows, call, source);
    }
    return;
  }
  Index at = 0;
  if constexpr (R <= kAttentionFewRows) {
    constexpr Index kStep = 32 * kAttentionVecs;
    for (; at + kStep <= call.padded; at += kStep) {
      ValueBlock<R, 2 * kAttentionVecs>(call, source, at);
    }
  }
  constexpr Index kStep = 16 * kAttentionVecs;
  for (; at < call.value_dim; at += kStep) {
    ValueBlock<R, kAttentionVecs>(call, source, at);
  }
}

template <class Source>
void ValueBlocks(Index rows, const ValueCall& call, const Source& source) {
  ValueBlocks<kAttentionRows>(rows, call, source);
}

}  // namespace
}  // namespace pixii::kernels
