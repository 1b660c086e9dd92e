// Paged attention without gathering: each tile of 64 positions is widened once (K transposed, V as
// rows) and used by all query rows at hand.
//
// One lane of a score is one position, summed over head_dim in ascending order; one lane of an
// output is one element, summed over positions in ascending order. Tiles and spans stand at
// absolute positions (kernel_table.h), and every query row has its own order: its bits do not
// depend on which rows share the call. Include after simd_math.h and simd_rows.h. Anonymous for the
// reason in kernel_table.h. Source: online softmax, Milakov and Gimelshein 2018 (arXiv 1805.02867).
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline constexpr Index kQueryStride =
    256 + 16;  // head_dim at most 256; a constant for the sake of addressing
inline constexpr float kMinusInfinity = -__builtin_inff();

inline Index PaddedDim(Index head_dim) { return (head_dim + 15) / 16 * 16; }

inline float ExpOf(float x) {
  float lanes[16];
  Exp(Vec::Set(x)).Store(lanes);
  return lanes[0];
}

/// Dots of R queries with 16 C positions: q [R][kQueryStride], keys [head_dim][kTileTokens], out
/// [R][kTileTokens].
template <int R, int C>
void ScoreBlock(const float* q, const float* keys, Index head_dim, float* out) {
  Vec acc[R][C];
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c] = Vec::Zero();
    }
  }
  for (Index d = 0; d < head_dim; ++d) {
    Vec key[C];
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      key[c] = Vec::Load(keys + d * kTileTokens + c * 16);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
      const Vec x = Vec::Set(q[r * kQueryStride + d]);
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
      acc[r][c].Store(out + r * kTileTokens + c * 16);
    }
  }
}

/// out [R][stride] += weights [R][kTileTokens] times values [kTileTokens][stride] of positions
/// begin .. end - 1, for 16 C elements.
template <int R, int C>
void ValueBlock(const float* weights, const float* values, Index begin, Index end, Index stride,
                float* out) {
  Vec acc[R][C];
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c] = Vec::Load(out + r * stride + c * 16);
    }
  }
  for (Index j = begin; j < end; ++j) {
    Vec value[C];
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      value[c] = Vec::Load(values + j * stride + c * 16);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
      const Vec x = Vec::Set(weights[r * kTileTokens + j]);
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
      acc[r][c].Store(out + r * stride + c * 16);
    }
  }
}

template <int R, int C>
void ScoreRows(Index rows, const float* q, const float* keys, Index head_dim, float* out) {
  if (rows == R) {
    ScoreBlock<R, C>(q, keys, head_dim, out);
  } else if constexpr (R > 1) {
    ScoreRows<R - 1, C>(rows, q, keys, head_dim, out);
  }
}

template <int R, int C>
void ValueRows(Index rows, const float* weights, const float* values, Index begin, Index end,
               Index stride, float* out) {
  if (rows == R) {
    ValueBlock<R, C>(weights, values, begin, end, stride, out);
  } else if constexpr (R > 1) {
    ValueRows<R - 1, C>(rows, weights, values, begin, end, stride, out);
  }
}

/// Softmax state of each row: largest score, sum of exponentials, weighted values [rows][padded
/// head_dim].
struct SoftmaxState {
  float* largest = nullptr;
  float* sum = nullptr;
  float* values = nullptr;
};

class AttentionLoop {
 public:
  explicit AttentionLoop(const AttentionCall& call)
      : call_(call),
        rows_(call.tokens * call.group),
        dim_(call.kv.head_dim),
        padded_(PaddedDim(dim_)) {
    auto* at = static_cast<float*>(call.scratch);
    const Index row_floats = PaddedDim(rows_);
    const auto take = [&at](Index count) {
      float* out = at;
      at += count;
      return out;
    };
    queries_ = take(rows_ * kQueryStride);
    keys_ = take(dim_ * kTileTokens);
    values_ = take(kTileTokens * padded_);
    weights_ = take(rows_ * kTileTokens);
    span_ = {take(row_floats), take(row_floats), take(rows_ * padded_)};
    all_ = {take(row_floats), take(row_floats), take(rows_ * padded_)};
    begin_ = reinterpret_cast<std::int32_t*>(take(row_floats));
    end_ = reinterpret_cast<std::int32_t*>(take(row_floats));
  }

  static Index ScratchBytes(Index rows, Index head_dim) {
    const Index per_row = kQueryStride + kTileTokens + 2 * PaddedDim(head_dim);
    return 4 * (rows * per_row + 2 * kTileTokens * PaddedDim(head_dim) + 6 * PaddedDim(rows));
  }

  void Run() {
    PackQueries();
    if (call_.partials == nullptr) {
      ResetAll();
    }
    for (Index span = call_.span_begin; span < call_.span_end; ++span) {
      RunSpan(span);
      if (call_.partials == nullptr) {
        JoinSpan(span_);
      } else {
        StorePartial(call_.partials + (span - call_.span_begin) * rows_ * PartialStride());
      }
    }
    if (call_.partials == nullptr) {
      WriteOut();
    }
  }

  void Join() {
    ResetAll();
    for (Index span = call_.span_begin; span < call_.span_end; ++span) {
      const float* partial = call_.partials + (span - call_.span_begin) * rows_ * PartialStride();
      for (Index r = 0; r < rows_; ++r, partial += PartialStride()) {
        JoinRow(r, partial[padded_], partial[padded_ + 1], partial);
      }
    }
    WriteOut();
  }

 private:
  Index PartialStride() const { return padded_ + 16; }

  void PackQueries() {
    for (Index token = 0, r = 0; token < call_.tokens; ++token) {
      for (Index h = 0; h < call_.group; ++h, ++r) {
        const float* from = call_.q + token * call_.q_stride + h * dim_;
        for (Index d = 0; d < dim_; d += 16) {
          Vec::LoadPart(from + d, dim_ - d).Store(queries_ + r * kQueryStride + d);
        }
      }
    }
  }

  /// A sink is a position without a value that comes before all others.
  void ResetAll() {
    for (Index r = 0; r < rows_; ++r) {
      all_.largest[r] = call_.sinks != nullptr ? call_.sinks[r % call_.group] : kMinusInfinity;
      all_.sum[r] = call_.sinks != nullptr ? 1.0F : 0.0F;
    }
    Clear(all_.values, rows_ * padded_);
  }

  static void Clear(float* data, Index count) {
    for (Index i = 0; i < count; i += 16) {
      Vec::Zero().Store(data + i);
    }
  }

  void RunSpan(Index span) {
    for (Index r = 0; r < rows_; ++r) {
      span_.largest[r] = kMinusInfinity;
      span_.sum[r] = 0.0F;
    }
    Clear(span_.values, rows_ * padded_);
    const Index context = call_.position_first + call_.tokens;
    const Index first = FirstPosition(call_.position_first);
    Index begin = span * kSpanTokens;
    const Index end = begin + kSpanTokens < context ? begin + kSpanTokens : context;
    begin = begin > first / kTileTokens * kTileTokens ? begin : first / kTileTokens * kTileTokens;
    for (Index tile = begin; tile < end; tile += kTileTokens) {
      RunTile(tile, tile > first ? tile : first,
              tile + kTileTokens < context ? tile + kTileTokens : context);
    }
  }

  /// First position that the query at `position` sees.
  Index FirstPosition(Index position) const {
    const Index first = position - call_.window + 1;
    return call_.window > 0 && first > 0 ? first : 0;
  }

  /// The tile at absolute position `tile`, of which positions begin .. end - 1 are seen by some
  /// row.
  void RunTile(Index tile, Index begin, Index end) {
    switch (call_.kv.element) {
      case Element::kF32:
        LoadTile<Element::kF32>(tile, begin, end);
        break;
      case Element::kBf16:
        LoadTile<Element::kBf16>(tile, begin, end);
        break;
      default:
        LoadTile<Element::kF16>(tile, begin, end);
        break;
    }
    for (Index token = 0, r = 0; token < call_.tokens; ++token) {
      const Index position = call_.position_first + token;
      const Index first = FirstPosition(position);
      const Index last = position + 1 < tile + kTileTokens ? position + 1 : tile + kTileTokens;
      for (Index h = 0; h < call_.group; ++h, ++r) {
        begin_[r] = static_cast<std::int32_t>(first > tile ? first - tile : 0);
        end_[r] = static_cast<std::int32_t>(last - tile);
      }
    }
    for (Index r = 0; r < rows_; r += kAttentionRows) {
      RunRows(r, rows_ - r < kAttentionRows ? rows_ - r : kAttentionRows);
    }
  }

  template <Element kElement>
  void LoadTile(Index tile, Index begin, Index end) {
    const KvView& kv = call_.kv;
    const unsigned char* keys[kTileTokens];
    const Index element_size = kElement == Element::kF32 ? 4 : 2;
    const Index value_offset = kv.v_offset_bytes - kv.k_offset_bytes;
    for (Index j = 0; j < kTileTokens; ++j) {
      keys[j] = nullptr;
    }
    for (Index position = begin; position < end; ++position) {
      const Index block = position / kv.block_tokens;
      const Index slot = position - block * kv.block_tokens;
      const unsigned char* key = kv.blocks + call_.block_table[block] * kv.block_size_bytes +
                                 kv.k_offset_bytes + call_.kv_head * kv.slice_size_bytes +
                                 slot * dim_ * element_size;
      keys[position - tile] = key;
      float* value = values_ + (position - tile) * padded_;
      for (Index d = 0; d < dim_; d += 16) {
        LoadAs(kElement, key + value_offset, d, dim_ - d).Store(value + d);
      }
    }
    for (Index j = (begin - tile) / 16 * 16; j < end - tile; j += 16) {
      Index d = 0;
      if constexpr (kElement == Element::kBf16) {
        for (; d + 32 <= dim_; d += 32) {
          TransposePairs(keys + j, d, keys_ + d * kTileTokens + j);
        }
      }
      for (; d < dim_; d += 16) {
        TransposeKeys<kElement>(keys + j, d, keys_ + d * kTileTokens + j);
      }
    }
  }

  /// Elements d .. d + 15 of 16 keys, which may be null, to `out` [16][kTileTokens].
  template <Element kElement>
  void TransposeKeys(const unsigned char* const* keys, Index d, float* out) const {
    Vec block[16];
    for (int i = 0; i < 16; ++i) {
      block[i] = keys[i] != nullptr ? LoadAs(kElement, keys[i], d, dim_ - d) : Vec::Zero();
    }
    Transpose(block);
    const Index count = dim_ - d < 16 ? dim_ - d : 16;
    for (Index i = 0; i < count; ++i) {
      block[i].Store(out + i * kTileTokens);
    }
  }

  /// The same for 32 bf16 elements: a pair moves as one lane, half the work.
  static void TransposePairs(const unsigned char* const* keys, Index d, float* out) {
    Vec block[16];
    for (int i = 0; i < 16; ++i) {
      block[i] = keys[i] != nullptr ? Vec::Load(reinterpret_cast<const float*>(keys[i] + d * 2))
                                    : Vec::Zero();
    }
    Transpose(block);
    for (int i = 0; i < 16; ++i) {
      block[i].EvenOfPairs().Store(out + 2 * i * kTileTokens);
      block[i].OddOfPairs().Store(out + (2 * i + 1) * kTileTokens);
    }
  }

  /// Rows first .. first + count - 1 against the tile at hand.
  void RunRows(Index first, Index count) {
    Index begin_low = kTileTokens;
    Index begin_high = 0;
    Index end_low = kTileTokens;
    Index end_high = 0;
    for (Index r = first; r < first + count; ++r) {
      if (begin_[r] < end_[r]) {
        begin_low = begin_[r] < begin_low ? begin_[r] : begin_low;
        end_high = end_[r] > end_high ? end_[r] : end_high;
      }
      begin_high = begin_[r] > begin_high ? begin_[r] : begin_high;
      end_low = end_[r] < end_low ? end_[r] : end_low;
    }
    if (begin_low >= end_high) {
      return;
    }
    const Index step = 16 * kAttentionVecs;
    for (Index j = begin_low / step * step; j < end_high; j += step) {
      ScoreRows<kAttentionRows, kAttentionVecs>(count, queries_ + first * kQueryStride, keys_ + j,
                                                dim_, weights_ + first * kTileTokens + j);
    }
    for (Index r = first; r < first + count; ++r) {
      if (begin_[r] < end_[r]) {
        Softmax(r);
      }
    }
    if (begin_high >= end_low) {
      for (Index r = first; r < first + count; ++r) {
        AddValues(r, 1, begin_[r], end_[r]);
      }
      return;
    }
    for (Index r = first; r < first + count; ++r) {
      AddValues(r, 1, begin_[r], begin_high);
    }
    AddValues(first, count, begin_high, end_low);
    for (Index r = first; r < first + count; ++r) {
      AddValues(r, 1, end_low, end_[r]);
    }
  }

  void AddValues(Index first, Index count, Index begin, Index end) {
    if (begin >= end) {
      return;
    }
    constexpr Index kStep = 16 * kAttentionVecs;
    Index d = 0;
    for (; d + kStep <= padded_; d += kStep) {
      ValueRows<kAttentionRows, kAttentionVecs>(count, weights_ + first * kTileTokens, values_ + d,
                                                begin, end, padded_,
                                                span_.values + first * padded_ + d);
    }
    if (kAttentionVecs > 1 && d < padded_) {
      ValueRows<kAttentionRows, 1>(count, weights_ + first * kTileTokens, values_ + d, begin, end,
                                   padded_, span_.values + first * padded_ + d);
    }
  }

  /// Turns the row's dots into weights and brings its state up to the new largest score.
  void Softmax(Index r) {
    float* row = weights_ + r * kTileTokens;
    const Index begin = begin_[r];
    const Index end = end_[r];
    Vec score[4];
    Vec top = Vec::Set(kMinusInfinity);
    for (Index c = begin / 16; c * 16 < end; ++c) {
      score[c] = Vec::SelectRange(Scale(Vec::Load(row + c * 16)), Vec::Set(kMinusInfinity),
                                  begin - c * 16, end - c * 16);
      top = Max(top, score[c]);
    }
    const float tile_largest = top.ReduceMax();
    const float before = span_.largest[r];
    const float largest = tile_largest > before ? tile_largest : before;
    Vec sum[4] = {Vec::Zero(), Vec::Zero(), Vec::Zero(), Vec::Zero()};
    for (Index c = begin / 16; c * 16 < end; ++c) {
      sum[c] = Exp(score[c] - Vec::Set(largest));
      sum[c].Store(row + c * 16);
    }
    const float tile_sum = ((sum[0] + sum[1]) + (sum[2] + sum[3])).ReduceAdd();
    if (largest == before) {  // nothing to rescale; e^0 is exactly 1
      span_.sum[r] = span_.sum[r] + tile_sum;
      return;
    }
    span_.largest[r] = largest;
    const float factor = ExpOf(before - largest);
    span_.sum[r] = span_.sum[r] * factor + tile_sum;
    float* values = span_.values + r * padded_;
    for (Index d = 0; d < padded_; d += 16) {
      (Vec::Load(values + d) * Vec::Set(factor)).Store(values + d);
    }
  }

  Vec Scale(Vec dot) const {
    const Vec score = dot * Vec::Set(call_.scale);
    return call_.soft_cap > 0.0F ? Vec::Set(call_.soft_cap) * Tanh(score / Vec::Set(call_.soft_cap))
                                 : score;
  }

  void JoinSpan(const SoftmaxState& span) {
    for (Index r = 0; r < rows_; ++r) {
      JoinRow(r, span.largest[r], span.sum[r], span.values + r * padded_);
    }
  }

  void JoinRow(Index r, float largest, float sum, const float* values) {
    if (largest == kMinusInfinity) {
      return;  // the row sees nothing of this span
    }
    float* joined = all_.values + r * padded_;
    const float before = all_.largest[r];
    if (before == kMinusInfinity) {
      all_.largest[r] = largest;
      all_.sum[r] = sum;
      for (Index d = 0; d < padded_; d += 16) {
        Vec::Load(values + d).Store(joined + d);
      }
      return;
    }
    const float top = largest > before ? largest : before;
    const float old_factor = ExpOf(before - top);
    const float new_factor = ExpOf(largest - top);
    all_.largest[r] = top;
    all_.sum[r] = all_.sum[r] * old_factor + sum * new_factor;
    for (Index d = 0; d < padded_; d += 16) {
      const Vec kept = Vec::Load(joined + d) * Vec::Set(old_factor);
      Fma(Vec::Load(values + d), Vec::Set(new_factor), kept).Store(joined + d);
    }
  }

  void StorePartial(float* partial) const {
    for (Index r = 0; r < rows_; ++r, partial += PartialStride()) {
      for (Index d = 0; d < padded_; d += 16) {
        Vec::Load(span_.values + r * padded_ + d).Store(partial + d);
      }
      partial[padded_] = span_.largest[r];
      partial[padded_ + 1] = span_.sum[r];
    }
  }

  void WriteOut() {
    for (Index token = 0, r = 0; token < call_.tokens; ++token) {
      for (Index h = 0; h < call_.group; ++h, ++r) {
        float* out = call_.out + token * call_.out_stride + h * dim_;
        const Vec sum = Vec::Set(all_.sum[r]);
        for (Index d = 0; d < dim_; d += 16) {
          (Vec::Load(all_.values + r * padded_ + d) / sum).StorePart(out + d, dim_ - d);
        }
      }
    }
  }

  const AttentionCall& call_;
  Index rows_;
  Index dim_;
  Index padded_;
  float* queries_ = nullptr;       // [rows][kQueryStride]
  float* keys_ = nullptr;          // [head_dim][kTileTokens]
  float* values_ = nullptr;        // [kTileTokens][padded]
  float* weights_ = nullptr;       // [rows][kTileTokens]
  SoftmaxState span_;              // of the span at hand
  SoftmaxState all_;               // of the spans before
  std::int32_t* begin_ = nullptr;  // [rows] positions of the tile that the row sees
  std::int32_t* end_ = nullptr;
};

inline void Attention(const AttentionCall& call) { AttentionLoop(call).Run(); }

inline Index AttentionScratchBytes(Index rows, Index head_dim) {
  return AttentionLoop::ScratchBytes(rows, head_dim);
}

inline void AttentionJoin(const AttentionCall& call) { AttentionLoop(call).Join(); }

}  // namespace
}  // namespace pixii::kernels
