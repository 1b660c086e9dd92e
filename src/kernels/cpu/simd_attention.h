// Paged attention without gathering: each tile of 64 positions is widened once (K transposed, V as
// rows) and used by all query rows at hand; for one block of rows, as in decode, it is widened in
// registers (KeyWord, StoredValues), with the same bits.
//
// One lane of a score is one position, summed over key_dim in ascending order; one lane of an
// output is one element, summed over positions in ascending order; lane i of a row's sum of weights
// takes positions i, i + 16, i + 32, i + 48 of each tile. Scores are in powers of two. Tiles and
// spans stand at absolute positions (kernel_table.h), and every query row has its own order: its
// bits do not depend on which rows share the call. Codes are multiplied as such: a position's K
// scale multiplies its score and its V scale the weight.
// Include after simd_math.h and simd_rows.h. Anonymous for the reason in kernel_table.h.
// Source: online softmax, Milakov and Gimelshein 2018 (arXiv 1805.02867).
#pragma once

#include "kernels/cpu/simd_attention_blocks.h"

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline constexpr float kMinusInfinity = -__builtin_inff();
inline constexpr float kLog2E = 1.44269504F;

inline float Exp2Of(float x) {
  float lanes[16];
  Exp2(Vec::Set(x)).Store(lanes);
  return lanes[0];
}

inline Index RoundUp(Index value, Index multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// What is known of each row after some positions: the largest score, the sum of weights, the
/// weighted values [rows][padded value dim].
struct SoftmaxState {
  float* largest = nullptr;
  float* sum = nullptr;
  float* values = nullptr;
};

class AttentionLoop {
 public:
  explicit AttentionLoop(const AttentionCall& call)
      : AttentionLoop(call, call.tokens * call.group) {}

  /// With scratch as of `scratch_rows` rows.
  AttentionLoop(const AttentionCall& call, Index scratch_rows)
      : call_(call),
        rows_(call.tokens * call.group),
        key_dim_(call.kv.k.dim),
        value_dim_(call.kv.v.dim),
        padded_(RoundUp(value_dim_, kAttentionPanel)),
        score_factor_(call.soft_cap > 0.0F ? call.scale : call.scale * kLog2E),
        coded_(call.kv.element == Element::kInt8 || call.kv.element == Element::kFp8E4m3),
        plain_(!coded_ && call.soft_cap <= 0.0F && call.scale > 0.0F && call.bias == nullptr),
        once_(rows_ <= kAttentionRows),
        key_word_(KeyWordOf(call.kv, once_)),
        stored_values_(once_ && value_dim_ % kAttentionPanel == 0) {
    auto* at = static_cast<float*>(call.scratch);
    const auto take = [&at](Index count) {
      float* out = at;
      at += count;
      return out;
    };
    const Index blocked_rows = BlockedRows(scratch_rows);
    queries_ = take(RoundUp(blocked_rows * key_dim_, 16));
    keys_ = take(RoundUp(key_dim_, 16) * kTileTokens);
    values_ = take(kTileTokens * padded_);
    key_scales_ = take(kTileTokens);
    value_scales_ = take(kTileTokens);
    weights_ = take(blocked_rows * kTileTokens);
    sums_ = take(blocked_rows * 16);
    span_ = {take(RoundUp(blocked_rows, 16) + 16), take(RoundUp(blocked_rows, 16)),
             take(blocked_rows * padded_)};
    all_ = {take(RoundUp(blocked_rows, 16)), take(RoundUp(blocked_rows, 16)),
            take(blocked_rows * padded_)};
    begin_ = reinterpret_cast<std::int32_t*>(take(RoundUp(blocked_rows, 16)));
    end_ = reinterpret_cast<std::int32_t*>(take(RoundUp(blocked_rows, 16)));
  }

  static Index ScratchBytes(const KvView& kv, Index rows) {
    const Index padded = RoundUp(kv.v.dim, kAttentionPanel);
    const Index blocked_rows = BlockedRows(rows);
    const Index floats =
        RoundUp(blocked_rows * kv.k.dim, 16) + blocked_rows * (kTileTokens + 16 + 2 * padded) +
        kTileTokens * (RoundUp(kv.k.dim, 16) + padded + 2) + 6 * RoundUp(blocked_rows, 16) + 16;
    return 4 * floats;
  }

  void Run() {
    PackQueries();
    RunSpans([this](Index span) { RunSpan(span); });
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

 protected:
  /// run(span) leaves a span's sums in span_.
  template <class RunOne>
  void RunSpans(const RunOne& run) {
    if (call_.partials == nullptr) {
      ResetAll();
    }
    for (Index span = call_.span_begin; span < call_.span_end; ++span) {
      run(span);
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

  static Index BlockedRows(Index rows) { return RoundUp(rows, kAttentionRows); }

  Index PartialStride() const { return padded_ + 16; }

  /// Query rows in blocks of kAttentionRows, each [key_dim][kAttentionRows].
  void PackQueries() {
    Index token = 0;
    Index head = 0;
    for (Index first = 0; first < rows_; first += kAttentionRows) {
      const Index count = rows_ - first < kAttentionRows ? rows_ - first : kAttentionRows;
      const float* from[kAttentionRows];
      for (Index r = 0; r < count; ++r) {
        from[r] = call_.q + token * call_.q_stride + head * key_dim_;
        head = head + 1 < call_.group ? head + 1 : 0;
        token += head == 0 ? 1 : 0;
      }
      PackQueryBlock(from, count, QueryBlock(first));
    }
  }

  void PackQueryBlock(const float* const* from, Index count, float* to) const {
    for (Index d = 0; d < key_dim_; d += 16) {
      const Index left = key_dim_ - d < 16 ? key_dim_ - d : 16;
      Vec lines[16];
#pragma clang loop unroll(full)
      for (Index r = 0; r < 16; ++r) {
        lines[r] = r < count ? Vec::LoadPart(from[r] + d, left) : Vec::Zero();
      }
      Transpose(lines);
      for (Index i = 0; i < left; ++i) {
        lines[i].StorePart(to + (d + i) * kAttentionRows, count);
      }
    }
  }

  float* QueryBlock(Index first_row) const { return queries_ + first_row * key_dim_; }

  /// A sink is a position without a value that comes before all others.
  void ResetAll() {
    for (Index r = 0; r < rows_; ++r) {
      all_.largest[r] =
          call_.sinks != nullptr ? call_.sinks[r % call_.group] * kLog2E : kMinusInfinity;
      all_.sum[r] = call_.sinks != nullptr ? 1.0F : 0.0F;
    }
    Clear(all_.values, rows_ * padded_);
  }

  static void Clear(float* data, Index count) {
    for (Index i = 0; i < count; i += 16) {
      Vec::Zero().Store(data + i);
    }
  }

  /// One past the last position that the query at `position` sees.
  Index SightEnd(Index position) const {
    if (call_.mutual_end > 0) {
      return call_.mutual_end;
    }
    if (call_.sight_end == 0) {
      return position + 1;
    }
    const Index end = position + call_.window;
    return call_.window > 0 && end < call_.sight_end ? end : call_.sight_end;
  }

  /// First position that the query at `position` sees.
  Index SightBegin(Index position) const {
    const Index behind = position - call_.window + 1;
    const Index first = call_.window > 0 && behind > 0 ? behind : 0;
    return call_.mutual_end > 0 && call_.mutual_begin < first ? call_.mutual_begin : first;
  }

  void BeginSpan() {
    for (Index r = 0; r < RoundUp(rows_, 16); ++r) {
      span_.largest[r] = kMinusInfinity;
    }
    Clear(sums_, rows_ * 16);
    Clear(span_.values, rows_ * padded_);
  }

  void EndSpan() {
    for (Index r = 0; r < rows_; ++r) {
      span_.sum[r] = Vec::Load(sums_ + r * 16).ReduceAdd();
    }
  }

  void RunSpan(Index span) {
    BeginSpan();
    const Index context = SightEnd(call_.position_first + call_.tokens - 1);
    const Index first = SightBegin(call_.position_first);
    Index begin = span * kSpanTokens;
    const Index end = begin + kSpanTokens < context ? begin + kSpanTokens : context;
    begin = begin > first / kTileTokens * kTileTokens ? begin : first / kTileTokens * kTileTokens;
    for (Index tile = begin; tile < end; tile += kTileTokens) {
      RunTile(tile, tile > first ? tile : first,
              tile + kTileTokens < context ? tile + kTileTokens : context, context);
    }
    EndSpan();
  }

  /// The tile at absolute position `tile`, of which positions begin .. end - 1 are seen by some
  /// row.
  void RunTile(Index tile, Index begin, Index end, Index context) {
    switch (call_.kv.element) {
      case Element::kF32:
        LoadTile<Element::kF32>(tile, begin, end, context);
        break;
      case Element::kBf16:
        LoadTile<Element::kBf16>(tile, begin, end, context);
        break;
      case Element::kF16:
        LoadTile<Element::kF16>(tile, begin, end, context);
        break;
      case Element::kFp8E4m3:
        LoadTile<Element::kFp8E4m3>(tile, begin, end, context);
        break;
      case Element::kInt8:
        LoadTile<Element::kInt8>(tile, begin, end, context);
        break;
    }
    for (Index token = 0, r = 0; token < call_.tokens; ++token) {
      const Index position = call_.position_first + token;
      const Index first = SightBegin(position);
      const Index last = SightEnd(position);
      for (Index h = 0; h < call_.group; ++h, ++r) {
        begin_[r] = static_cast<std::int32_t>(first > tile ? first - tile : 0);
        end_[r] = static_cast<std::int32_t>(last < tile + kTileTokens ? last - tile : kTileTokens);
      }
    }
    tile_ = tile;
    // All scores first, then all values: the first level of cache holds a tile of one of them.
    for (Index r = 0; r < rows_; r += kAttentionRows) {
      ScoreRows(r, rows_ - r < kAttentionRows ? rows_ - r : kAttentionRows);
    }
    for (Index r = 0; r < rows_; r += kAttentionRows) {
      ValueRows(r, rows_ - r < kAttentionRows ? rows_ - r : kAttentionRows);
    }
  }

  template <Element kElement>
  void LoadTile(Index tile, Index begin, Index end, Index context) {
    constexpr Index kSize = kElement == Element::kF32                                 ? 4
                            : kElement == Element::kBf16 || kElement == Element::kF16 ? 2
                                                                                      : 1;
    const KvView& kv = call_.kv;
    const Index k_head = kv.k.offset_bytes + call_.kv_head * kv.k.slice_size_bytes;
    const Index v_head = kv.v.offset_bytes + call_.kv_head * kv.v.slice_size_bytes;
    ahead_.Clear();
    if (once_ && tile + kTileTokens < context) {
      PlanAhead(tile + kTileTokens, context, k_head, v_head, kSize);
    }
    const unsigned char* keys[kTileTokens];
    for (Index j = 0; j < kTileTokens; ++j) {
      keys[j] = nullptr;
    }
    Index position = begin;
    while (position < end) {  // block by block
      const Index block = position / kv.block_tokens;
      Index slot = position - block * kv.block_tokens;
      const unsigned char* base = kv.blocks + call_.block_table[block] * kv.block_size_bytes;
      const unsigned char* k_slice = base + k_head;
      const unsigned char* v_slice = base + v_head;
      const Index block_end = (block + 1) * kv.block_tokens;
      for (; position < end && position < block_end; ++position, ++slot) {
        keys[position - tile] = k_slice + slot * kv.k.row_elements * kSize;
        const unsigned char* value = v_slice + slot * kv.v.row_elements * kSize;
        value_rows_[position - tile] = value;
        if (!stored_values_) {
          LoadValues<kElement>(value, values_ + (position - tile) * kAttentionPanel);
        }
        if constexpr (kSize == 1) {
          key_scales_[position - tile] =
              reinterpret_cast<const float*>(k_slice + kv.k.scales_offset_bytes)[slot];
          value_scales_[position - tile] =
              reinterpret_cast<const float*>(v_slice + kv.v.scales_offset_bytes)[slot];
        }
      }
    }
    for (Index j = (begin - tile) / 16 * 16; j < end - tile; j += 16) {
      const Index words = key_dim_ / ElementsOf(key_word_);
      float* out = keys_ + j / kAttentionPanel * kAttentionPanel * words + j % kAttentionPanel;
      if (key_word_ == KeyWord::kFloat) {
        WidenKeys<kElement>(keys + j, key_dim_, out);
      } else {
        TransposeWords(keys + j, words, out);
      }
    }
  }

  /// Lists K and then V of the tile that comes next: they are asked for while this one is worked
  /// on, so that memory is never idle nor asked for too much at once.
  void PlanAhead(Index tile, Index context, Index k_head, Index v_head, Index size) {
    const Index end = tile + kTileTokens < context ? tile + kTileTokens : context;
    AddAhead(tile, end, call_.kv.k, k_head, size);
    if (!call_.kv.value_in_key) {
      AddAhead(tile, end, call_.kv.v, v_head, size);
    }
  }

  void AddAhead(Index begin, Index end, const KvSlices& slices, Index head, Index size) {
    const KvView& kv = call_.kv;
    for (Index position = begin; position < end;) {
      const Index block = position / kv.block_tokens;
      const Index slot = position - block * kv.block_tokens;
      const Index block_end = (block + 1) * kv.block_tokens;
      const Index count = (end < block_end ? end : block_end) - position;
      const unsigned char* base = kv.blocks + call_.block_table[block] * kv.block_size_bytes;
      ahead_.Add(base + head + slot * slices.row_elements * size,
                 count * slices.row_elements * size);
      position += count;
    }
  }

  /// One token's values to its row of every panel.
  template <Element kElement>
  void LoadValues(const unsigned char* from, float* row) const {
    Index d = 0;
    for (; d + kAttentionPanel <= value_dim_; d += kAttentionPanel) {
      LoadCodes<kElement>(from, d, 16).Store(row + d * kTileTokens);
      LoadCodes<kElement>(from, d + 16, 16).Store(row + d * kTileTokens + 16);
    }
    row += d * kTileTokens;
    for (Index i = 0; d + i < value_dim_; i += 16) {
      LoadCodes<kElement>(from, d + i, value_dim_ - d - i).Store(row + i);
    }
  }

  /// What the rows of a block see of the tile: from the first to the last position that any row
  /// sees, and those that all rows see.
  struct Sight {
    Index begin_low = kTileTokens;
    Index begin_high = 0;
    Index end_low = kTileTokens;
    Index end_high = 0;
  };

  Sight SightOf(Index first, Index count) const {
    Sight sight;
    for (Index r = first; r < first + count; ++r) {
      if (begin_[r] < end_[r]) {
        sight.begin_low = begin_[r] < sight.begin_low ? begin_[r] : sight.begin_low;
        sight.end_high = end_[r] > sight.end_high ? end_[r] : sight.end_high;
      }
      sight.begin_high = begin_[r] > sight.begin_high ? begin_[r] : sight.begin_high;
      sight.end_low = end_[r] < sight.end_low ? end_[r] : sight.end_low;
    }
    return sight;
  }

  /// Weights of rows first .. first + count - 1 for the tile at hand.
  void ScoreRows(Index first, Index count) {
    const Sight sight = SightOf(first, count);
    if (sight.begin_low >= sight.end_high) {
      return;
    }
    float* weights = weights_ + first * kTileTokens;
    Dots(count, {.queries = QueryBlock(first),
                 .keys = keys_,
                 .key_dim = key_dim_,
                 .begin = sight.begin_low,
                 .end = sight.end_high,
                 .out = weights,
                 .ahead = once_ ? &ahead_ : nullptr});
    const bool whole = sight.begin_high == 0 && sight.end_low == kTileTokens;
    if (!plain_) {
      FindLargest<false, false>(first, count);
      Weigh<false, false>(first, count);
    } else if (whole) {
      FindLargest<true, true>(first, count);
      Weigh<true, true>(first, count);
    } else {
      FindLargest<true, false>(first, count);
      Weigh<true, false>(first, count);
    }
  }

  void Dots(Index count, const ScoreCall& call) const {
    switch (key_word_) {
      case KeyWord::kFloat:
        return ScoreBlocks<KeyWord::kFloat>(count, call);
      case KeyWord::kBf16:
        return ScoreBlocks<KeyWord::kBf16>(count, call);
      case KeyWord::kInt8:
        return ScoreBlocks<KeyWord::kInt8>(count, call);
      case KeyWord::kFp8:
        return ScoreBlocks<KeyWord::kFp8>(count, call);
    }
  }

  /// Brings each row's largest score up to this tile and scales what it has summed so far. Unless
  /// kPlain, leaves scores in place of the dots. kWhole: every row sees the whole tile; bits are
  /// those of the general case.
  template <bool kPlain, bool kWhole>
  void FindLargest(Index first, Index count) {
    Vec top[16];
    for (Index r = 0; r < 16; ++r) {
      top[r] = r >= count ? Vec::Zero()
               : kPlain   ? LargestDot<kWhole>(first + r)
                          : FinishScores(first + r);
    }
    const Vec tile_largest = MaxAcross(top);
    const Vec before = Vec::Load(span_.largest + first);
    const Vec scaled = kPlain ? tile_largest * Vec::Set(score_factor_) : tile_largest;
    const Vec largest = Max(before, scaled);
    const Vec factor = Exp2(Vec::SelectLess(before, largest, before - largest, Vec::Zero()));
    largest.StorePart(span_.largest + first, count);
    float factors[16];
    factor.Store(factors);
    for (Index r = 0; r < count; ++r) {
      if (factors[r] != 1.0F) {
        Rescale(first + r, Vec::Set(factors[r]));
      }
    }
  }

  template <bool kWhole>
  Vec LargestDot(Index r) const {
    Vec dot[4];
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; ++c) {
      if (!kWhole && c * 16 >= end_[r]) {
        dot[c] = Vec::Set(kMinusInfinity);
        continue;
      }
      dot[c] = Vec::Load(weights_ + r * kTileTokens + c * 16);
      if constexpr (!kWhole) {
        dot[c] = Vec::SelectRange(dot[c], Vec::Set(kMinusInfinity), begin_[r] - c * 16,
                                  end_[r] - c * 16);
      }
    }
    return Max(Max(dot[0], dot[1]), Max(dot[2], dot[3]));
  }

  /// Row r's dots become scores, minus infinity where it is blind; returns the largest by lane.
  Vec FinishScores(Index r) {
    float* row = weights_ + r * kTileTokens;
    Vec top = Vec::Set(kMinusInfinity);
    for (Index j = 0; j < kTileTokens; j += 16) {
      Vec dot = Vec::Load(row + j);
      if (coded_) {
        dot = dot * Vec::Load(key_scales_ + j);
      }
      Vec score = dot * Vec::Set(score_factor_);
      if (call_.soft_cap > 0.0F) {
        score =
            Vec::Set(call_.soft_cap) * Tanh(score / Vec::Set(call_.soft_cap)) * Vec::Set(kLog2E);
      }
      if (call_.bias != nullptr && j < end_[r]) {
        const float* bias = call_.bias + r % call_.group * call_.bias_stride - r / call_.group;
        score = Fma(Vec::LoadPart(bias + tile_ + j, end_[r] - j), Vec::Set(kLog2E), score);
      }
      score = Vec::SelectRange(score, Vec::Set(kMinusInfinity), begin_[r] - j, end_[r] - j);
      score.Store(row + j);
      top = Max(top, score);
    }
    return top;
  }

  void Rescale(Index r, Vec factor) {
    (Vec::Load(sums_ + r * 16) * factor).Store(sums_ + r * 16);
    float* values = span_.values + r * padded_;
    for (Index d = 0; d < padded_; d += 16) {
      (Vec::Load(values + d) * factor).Store(values + d);
    }
  }

  /// Scores become weights, and count in their row's sum.
  template <bool kPlain, bool kWhole>
  void Weigh(Index first, Index count) {
    const Vec factor = Vec::Set(score_factor_);
    for (Index r = first; r < first + count; ++r) {
      float* row = weights_ + r * kTileTokens;
      if (!kWhole && begin_[r] >= end_[r]) {
        continue;
      }
      const Vec largest = Vec::Set(-span_.largest[r]);
      Vec part[4];
#pragma clang loop unroll(full)
      for (int c = 0; c < 4; ++c) {
        if (!kWhole && c * 16 >= end_[r]) {  // nobody reads their weights
          part[c] = Vec::Zero();
          continue;
        }
        const Vec score = Vec::Load(row + c * 16);
        Vec weight = Exp2(kPlain ? Fma(score, factor, largest) : score + largest);
        if constexpr (!kWhole) {
          weight = Vec::SelectRange(weight, Vec::Zero(), begin_[r] - c * 16, end_[r] - c * 16);
        }
        part[c] = weight;
        if (!kPlain && coded_) {
          weight = weight * Vec::Load(value_scales_ + c * 16);
        }
        weight.Store(row + c * 16);
      }
      (Vec::Load(sums_ + r * 16) + ((part[0] + part[1]) + (part[2] + part[3])))
          .Store(sums_ + r * 16);
    }
  }

  void ValueRows(Index first, Index count) {
    const Sight sight = SightOf(first, count);
    if (sight.begin_high >= sight.end_low) {
      for (Index r = first; r < first + count; ++r) {
        AddValues(r, 1, begin_[r], end_[r]);
      }
      return;
    }
    for (Index r = first; r < first + count; ++r) {
      AddValues(r, 1, begin_[r], sight.begin_high);
    }
    AddValues(first, count, sight.begin_high, sight.end_low);
    for (Index r = first; r < first + count; ++r) {
      AddValues(r, 1, sight.end_low, end_[r]);
    }
  }

  void AddValues(Index first, Index count, Index begin, Index end) {
    if (begin >= end) {
      return;
    }
    const ValueCall call = {.weights = weights_ + first * kTileTokens,
                            .begin = begin,
                            .end = end,
                            .padded = padded_,
                            .value_dim = value_dim_,
                            .out = span_.values + first * padded_};
    if (!stored_values_) {
      return ValueBlocks(count, call, WidenedValues{values_});
    }
    switch (call_.kv.element) {
      case Element::kF32:
        return AddStored<Element::kF32>(count, call);
      case Element::kBf16:
        return AddStored<Element::kBf16>(count, call);
      case Element::kF16:
        return AddStored<Element::kF16>(count, call);
      case Element::kFp8E4m3:
        return AddStored<Element::kFp8E4m3>(count, call);
      case Element::kInt8:
        return AddStored<Element::kInt8>(count, call);
    }
  }

  template <Element kElement>
  void AddStored(Index count, const ValueCall& call) {
    ValueBlocks(count, call, StoredValues<kElement>{value_rows_, &ahead_});
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
    const float old_factor = Exp2Of(before - top);
    const float new_factor = Exp2Of(largest - top);
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
        float* out = call_.out + token * call_.out_stride + h * value_dim_;
        const Vec sum = Vec::Set(all_.sum[r]);
        for (Index d = 0; d < value_dim_; d += 16) {
          (Vec::Load(all_.values + r * padded_ + d) / sum).StorePart(out + d, value_dim_ - d);
        }
      }
    }
  }

  const AttentionCall& call_;
  Index rows_;
  Index key_dim_;
  Index value_dim_;
  Index padded_;
  PrefetchRuns ahead_;
  float score_factor_;  // multiplies a dot: scale, and log2 e unless soft-capped
  bool coded_;          // K and V have scales
  bool plain_;          // a score is a dot times a positive factor
  bool once_;           // one block of rows uses each tile
  KeyWord key_word_;    // what keys_ holds
  bool stored_values_;  // V is read where it lies
  const unsigned char* value_rows_[kTileTokens];  // V of each position
  float* queries_ = nullptr;                      // [row blocks][key_dim][kAttentionRows]
  float* keys_ = nullptr;          // [kTileTokens / kAttentionPanel][words][kAttentionPanel]
  float* values_ = nullptr;        // [padded / kAttentionPanel][kTileTokens][kAttentionPanel]
  float* key_scales_ = nullptr;    // [kTileTokens], of codes
  float* value_scales_ = nullptr;  // likewise
  float* weights_ = nullptr;       // [rows][kTileTokens]: dots, then scores, then weights
  float* sums_ = nullptr;          // [rows][16] weights of the span at hand by lane
  SoftmaxState span_;              // of the span at hand
  SoftmaxState all_;               // of the spans before
  Index tile_ = 0;                 // absolute position of the tile at hand
  std::int32_t* begin_ = nullptr;  // [rows] positions of the tile that the row sees
  std::int32_t* end_ = nullptr;
};

inline void Attention(const AttentionCall& call) { AttentionLoop(call).Run(); }

inline bool AttentionRounds(const AttentionCall& /*call*/) { return false; }

inline Index AttentionScratchBytes(const KvView& kv, Index rows) {
  return AttentionLoop::ScratchBytes(kv, rows);
}

inline void AttentionJoin(const AttentionCall& call) { AttentionLoop(call).Join(); }

}  // namespace
}  // namespace pixii::kernels
