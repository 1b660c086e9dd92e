// Attention of many queries to all of a bf16 sequence in AMX: q.k and weights times V in tiles, the
// softmax between them as AttentionLoop has it.
//
// Queries and weights are rounded to bf16; sums are fp32. Order: a score sums groups of 32 elements
// of key_dim ascending, a value groups of 32 positions, each group as in simd_amx.h. Tiles of 64
// positions and spans stand where those of AttentionLoop do, so a row's bits do not depend on the
// rows beside it. Include after simd_attention.h and simd_amx.h. Anonymous for the reason in
// kernel_table.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline bool FitsAmxAttention(const KvView& kv) {
  return kv.element == Element::kBf16 && !kv.value_in_key && kv.k.dim % 32 == 0 &&
         kv.v.dim % 32 == 0;
}

inline bool UsesAmxAttention(const AttentionCall& call) {
  return FitsAmxAttention(call.kv) && call.sight_end > 0 && call.window == 0 &&
         call.soft_cap <= 0.0F && call.scale > 0.0F && call.bias == nullptr;
}

class AmxAttentionLoop final : private AttentionLoop {
 public:
  explicit AmxAttentionLoop(const AttentionCall& call)
      : AttentionLoop(call, RoundUp(call.tokens * call.group, kTileBlockRows)) {
    words_ = reinterpret_cast<std::uint16_t*>(queries_);
    // V takes half of its room: two rows are one row of pairs.
    rounded_ = reinterpret_cast<unsigned char*>(values_ + kTileTokens / 2 * padded_);
  }

  void Run() {
    RoundQueries();
    const TileConfig config;
    _tile_loadconfig(&config);
    RunSpans([this](Index span) { RunSpan(span); });
    _tile_release();
  }

 private:
  /// Query rows [rows][key_dim], zeros up to whole blocks.
  void RoundQueries() {
    Index r = 0;
    for (Index token = 0; token < call_.tokens; ++token) {
      for (Index h = 0; h < call_.group; ++h, ++r) {
        const float* from = call_.q + token * call_.q_stride + h * key_dim_;
        for (Index d = 0; d < key_dim_; d += 32) {
          PackTileRow(from + d, 32, reinterpret_cast<unsigned char*>(words_ + r * key_dim_ + d));
        }
      }
    }
    for (; r % kTileBlockRows != 0; ++r) {
      for (Index d = 0; d < key_dim_; d += 32) {
        _mm512_storeu_si512(words_ + r * key_dim_ + d, _mm512_setzero_si512());
      }
    }
  }

  void RunSpan(Index span) {
    BeginSpan();
    const Index begin = span * kSpanTokens;
    const Index end = begin + kSpanTokens < call_.sight_end ? begin + kSpanTokens : call_.sight_end;
    for (Index tile = begin; tile < end; tile += kTileTokens) {
      const Index left = end - tile;
      RunTile(tile, left < kTileTokens ? left : kTileTokens);
    }
    EndSpan();
  }

  void RunTile(Index tile, Index count) {
    LoadTile(tile, count);
    if (count < kTileTokens) {
      for (Index r = 0; r < rows_; ++r) {
        begin_[r] = 0;
        end_[r] = static_cast<std::int32_t>(count);
      }
    }
    for (Index first = 0; first < rows_; first += kTileBlockRows) {
      const Index rows = rows_ - first < kTileBlockRows ? rows_ - first : kTileBlockRows;
      if (rows > kTileRows) {
        RunBlock<true>(first, rows, count == kTileTokens);
      } else {
        RunBlock<false>(first, rows, count == kTileTokens);
      }
    }
  }

  /// K as words of pairs [panel][word][32 positions], V as pairs of rows [pair][value_dim]; zeros
  /// behind the last position.
  void LoadTile(Index tile, Index count) {
    const KvView& kv = call_.kv;
    const unsigned char* keys[kTileTokens];
    const unsigned char* values[kTileTokens];
    for (Index j = 0; j < kTileTokens; ++j) {
      if (j >= count) {
        keys[j] = values[j] = nullptr;
        continue;
      }
      const Index block = (tile + j) / kv.block_tokens;
      const Index slot = tile + j - block * kv.block_tokens;
      const unsigned char* base = kv.blocks + call_.block_table[block] * kv.block_size_bytes;
      keys[j] = base + kv.k.offset_bytes + call_.kv_head * kv.k.slice_size_bytes +
                slot * kv.k.row_elements * 2;
      values[j] = base + kv.v.offset_bytes + call_.kv_head * kv.v.slice_size_bytes +
                  slot * kv.v.row_elements * 2;
    }
    const Index words = key_dim_ / 2;
    for (Index j = 0; j < kTileTokens; j += 16) {
      TransposeWords(keys + j, words,
                     keys_ + j / kAttentionPanel * kAttentionPanel * words + j % kAttentionPanel);
    }
    float* pairs = values_;
    for (Index j = 0; j < kTileTokens; j += 2, pairs += value_dim_) {
      for (Index d = 0; d < value_dim_; d += 16) {
        const __m512i even = LoadValue(values[j], d);
        const __m512i odd = LoadValue(values[j + 1], d);
        _mm512_storeu_si512(pairs + d, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
      }
    }
  }

  /// Sixteen bf16, each in the low half of a lane.
  static __m512i LoadValue(const unsigned char* row, Index d) {
    return row == nullptr ? _mm512_setzero_si512()
                          : _mm512_cvtepu16_epi32(
                                _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + d * 2)));
  }

  template <bool kBoth>
  void RunBlock(Index first, Index rows, bool whole) {
    Scores<kBoth>(first);
    for (Index r = first; r < first + rows; r += kTileRows) {
      const Index count = first + rows - r < kTileRows ? first + rows - r : kTileRows;
      if (whole) {
        FindLargest<true, true>(r, count);
        Weigh<true, true>(r, count);
      } else {
        FindLargest<true, false>(r, count);
        Weigh<true, false>(r, count);
      }
    }
    for (Index r = 0; r < rows; ++r) {
      for (Index j = 0; j < kTileTokens; j += 32) {
        PackTileRow(weights_ + (first + r) * kTileTokens + j, 32,
                    rounded_ + r * kRoundedBytes + j * 2);
      }
    }
    Values<kBoth>(first);
  }

  template <bool kBoth>
  [[gnu::always_inline]] static void Multiply(const unsigned char* a, Index a_stride,
                                              const unsigned char* b, Index b_stride) {
    _tile_loadd(4, a, a_stride);
    _tile_loadd(6, b, b_stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + kTileRowBytes, b_stride);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kBoth) {
      _tile_loadd(5, a + kTileRows * a_stride, a_stride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }

  template <bool kBoth>
  [[gnu::always_inline]] static void StoreTiles(float* out, Index stride) {
    _tile_stored(0, out, stride * 4);
    _tile_stored(1, out + 16, stride * 4);
    if constexpr (kBoth) {
      _tile_stored(2, out + kTileRows * stride, stride * 4);
      _tile_stored(3, out + kTileRows * stride + 16, stride * 4);
    }
  }

  template <bool kBoth>
  void Scores(Index first) const {
    const Index words = key_dim_ / 2;
    for (Index j = 0; j < kTileTokens; j += kAttentionPanel) {
      const auto* a = reinterpret_cast<const unsigned char*>(words_ + first * key_dim_);
      const auto* b = reinterpret_cast<const unsigned char*>(keys_ + j * words);
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (Index word = 0; word < words; word += 16, a += kTileRowBytes) {
        Multiply<kBoth>(a, key_dim_ * 2, b + word * kAttentionPanel * 4, kAttentionPanel * 4);
      }
      StoreTiles<kBoth>(weights_ + first * kTileTokens + j, kTileTokens);
    }
  }

  template <bool kBoth>
  void Values(Index first) const {
    for (Index d = 0; d < value_dim_; d += 32) {
      float* out = span_.values + first * padded_ + d;
      _tile_loadd(0, out, padded_ * 4);
      _tile_loadd(1, out + 16, padded_ * 4);
      if constexpr (kBoth) {
        _tile_loadd(2, out + kTileRows * padded_, padded_ * 4);
        _tile_loadd(3, out + kTileRows * padded_ + 16, padded_ * 4);
      }
      for (Index j = 0; j < kTileTokens; j += 32) {
        Multiply<kBoth>(rounded_ + j * 2, kRoundedBytes,
                        reinterpret_cast<const unsigned char*>(values_ + j / 2 * value_dim_ + d),
                        value_dim_ * 4);
      }
      StoreTiles<kBoth>(out, padded_);
    }
  }

  static constexpr Index kRoundedBytes = kTileTokens * 2;  // of a row of weights

  std::uint16_t* words_ = nullptr;    // [rows][key_dim] queries
  unsigned char* rounded_ = nullptr;  // [kTileBlockRows][kTileTokens] weights of a block
};

inline Index AmxAttentionScratchBytes(const KvView& kv, Index rows) {
  return AttentionScratchBytes(kv, FitsAmxAttention(kv) ? RoundUp(rows, kTileBlockRows) : rows);
}

inline void AmxAttention(const AttentionCall& call) {
  if (UsesAmxAttention(call)) {
    AmxAttentionLoop(call).Run();
  } else {
    AttentionLoop(call).Run();
  }
}

}  // namespace
}  // namespace pixii::kernels
