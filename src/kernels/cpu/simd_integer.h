// Linear of integer codes: input rows rounded to int8, exact sums of products in 32 bits, scaled in
// fp32 piece by piece. The formulas are in ref/reference_integer.h.
//
// A word is four neighbouring elements of K. Packed input of a row block: [word][row], then for
// each piece three numbers a row: scale, what the codes' zero adds (an integer), scale times sum.
// Weights lie in panels of kIntegerPanelOutputs, one lane an output; with four-bit codes a stored
// word holds two words of K, the first in the low halves of its bytes. A lane's sum of a piece is
// exact and its pieces are added in ascending order, so blocking never shows in the bits. Include
// after simd_gemm.h and the simd_int_*.h of the instruction set. Anonymous for the reason in
// kernel_table.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline constexpr Index kPieceWordsMax = kPieceBytesMax / 4;
inline constexpr Index kPieceNumbers = 3;
inline constexpr Index kFetchWords = 8;   // words between two looks ahead
inline constexpr Index kFetchAhead = 16;  // words: from the second level of cache to the first
inline constexpr int kFetchRowsMax = 8;   // of more, multiplying takes longer than reading
inline constexpr Index kSpreadRowBlocks =
    3;  // row blocks that make spreading nibbles once worth it

inline Index IntegerRowBytes(const PackedIntegers& weight) {
  return weight.words * 4 + weight.piece_count * kPieceNumbers * 4;
}

inline Index IntegerInputBytes(const PackedWeight& weight, Index rows) {
  return (rows * IntegerRowBytes(weight.integers) + 63) / 64 * 64;
}

inline Index IntegerRowBlocks(const PackedWeight& /*weight*/, Index rows) {
  return (rows + kIntRows - 1) / kIntRows;
}

inline Index IntegerScratchBytes(const PackedWeight& weight, Index rows) {
  const Index spread = weight.integers.code_bits == 4 ? weight.integers.words * 4 : 0;
  return spread * kIntegerPanelOutputs +
         (rows < kBlockedRowsMin ? IntegerInputBytes(weight, rows) : 0);
}

/// One row's piece: words at `out`, `stride` apart, and its three numbers, each `stride` apart.
inline void PackPiece(const float* in, const IntegerPieceView& piece, std::int32_t zero,
                      std::int32_t* out, float* numbers, Index stride) {
  alignas(64) signed char bytes[kPieceBytesMax] = {};
  Vec most = Vec::Zero();
  for (Index i = 0; i < piece.count; i += 16) {
    most = Vec::MaxOfBits(most, Vec::LoadPart(in + i, piece.count - i).Absolute());
  }
  const float largest = most.ReduceMaxOfBits();
  float scale = 0.0F;
  std::int32_t sum = 0;
  if (!(largest < __builtin_inff())) {
    scale = __builtin_nanf("");
  } else if (largest >= kPieceMagnitudeLeast) {
    scale = largest / 127.0F;
    const Vec inverse = Vec::Set(127.0F / largest);
    for (Index i = 0; i < piece.count; i += 16) {
      (Vec::LoadPart(in + i, piece.count - i) * inverse)
          .StoreInt8(reinterpret_cast<unsigned char*>(bytes) + i, 16);
    }
    for (const signed char byte : bytes) {
      sum += byte;
    }
  }
  for (Index word = 0; word < piece.words; ++word) {
    __builtin_memcpy(out + word * stride, bytes + word * 4, 4);
  }
  const std::int32_t zeros = -zero * sum;
  numbers[0] = scale;
  __builtin_memcpy(numbers + stride, &zeros, sizeof(zeros));
  numbers[2 * stride] = scale * static_cast<float>(sum);
}

/// Packs rows [row, row + rows) of `in` as one row block at `block`.
inline void PackIntegerBlock(const PackedIntegers& weight, const float* in, Index stride,
                             Index rows, unsigned char* block) {
  auto* words = reinterpret_cast<std::int32_t*>(block);
  auto* numbers = reinterpret_cast<float*>(block + weight.words * rows * 4);
  for (Index p = 0; p < weight.piece_count; ++p) {
    const IntegerPieceView& piece = weight.pieces[p];
    for (Index r = 0; r < rows; ++r) {
      PackPiece(in + r * stride + piece.begin, piece, weight.zero, words + piece.word * rows + r,
                numbers + p * kPieceNumbers * rows + r, rows);
    }
  }
}

/// How rows are cut into blocks, and where those lie in the packed input.
struct IntegerRows {
  Index rows = 0;
  Index blocks = 0;
  Index row_bytes = 0;

  IntegerRows(const PackedIntegers& weight, Index row_count)
      : rows(row_count),
        blocks((row_count + kIntRows - 1) / kIntRows),
        row_bytes(IntegerRowBytes(weight)) {}

  Index Row(Index block) const { return block * rows / blocks; }

  Index At(Index block) const { return Row(block) * row_bytes; }
};

inline void PackIntegers(const LinearCall& call) {
  const PackedIntegers& weight = call.weight->integers;
  const IntegerRows plan(weight, call.row_end - call.row_begin);
  for (Index block = call.block_begin; block < call.block_end; ++block) {
    const Index row = plan.Row(block);
    PackIntegerBlock(weight, call.in + (call.row_begin + row) * call.in_stride, call.in_stride,
                     plan.Row(block + 1) - row,
                     static_cast<unsigned char*>(call.packed_input) + plan.At(block));
  }
}

/// One row block against some columns of one panel.
struct IntegerBlock {
  const PackedIntegers* weight = nullptr;
  const std::int32_t* x = nullptr;   // [word][row]
  const float* numbers = nullptr;    // [piece][3][row]
  const std::uint32_t* w = nullptr;  // [stored word][kIntegerPanelOutputs]
  Index scale = 0;                   // index of the columns' first scale of the first piece
  const float* bias = nullptr;
  float* out = nullptr;
  Index out_stride = 0;
  Index outputs = 0;                     // valid columns from here on
  const unsigned char* ahead = nullptr;  // fetched to the second level of cache meanwhile
  Index ahead_lines = 0;                 // every kFetchWords words
};

inline Vec LoadScale(const PackedIntegers& weight, const void* scales, Index at) {
  return weight.f16_scales ? Vec::LoadF16(static_cast<const std::uint16_t*>(scales) + at, 16)
                           : Vec::Load(static_cast<const float*>(scales) + at);
}

template <int R, int C>
[[gnu::always_inline]] inline void MultiplyWord(const std::int32_t* x, const IntVec (&w)[C],
                                                IntVec (&acc)[R][C]) {
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
    if (r < kIntRowsOfWords) {
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        acc[r][c] = DotOfWord(acc[r][c], w[c], x + r);
      }
      continue;
    }
    const IntVec input = IntVec::Set(x[r]);
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      acc[r][c] = Dot(acc[r][c], w[c], input);
    }
  }
}

/// acc += the next `words` words of K.
template <int R, int C, bool kNibbles>
[[gnu::always_inline]] inline void MultiplyWords(const std::int32_t* x, const std::uint32_t* w,
                                                 Index words, IntVec (&acc)[R][C]) {
  constexpr Index kStep = kNibbles ? 2 : 1;
  for (Index word = 0; word < words; word += kStep, x += kStep * R, w += kIntegerPanelOutputs) {
    IntVec weight[C];
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      if constexpr (R <= kFetchRowsMax) {
        Prefetch(w + kFetchAhead * kIntegerPanelOutputs + c * 16);
      }
      weight[c] = IntVec::Load(w + c * 16);
    }
    if constexpr (kNibbles) {
#pragma clang loop unroll(full)
      for (int half = 0; half < 2; ++half) {
        IntVec codes[C];
#pragma clang loop unroll(full)
        for (int c = 0; c < C; ++c) {
          codes[c] = half == 0 ? weight[c].LowNibbles() : weight[c].HighNibbles();
        }
        MultiplyWord(x + half * R, codes, acc);
      }
    } else {
      MultiplyWord(x, weight, acc);
    }
  }
}

/// Totals of the shard at hand and of those before it, joined
/// ((0+1)+(2+3))+((4+5)+(6+7)) as they end.
template <int R, int C>
struct IntegerTotals {
  alignas(64) float shard[R][C * 16];
  alignas(64) float joined[3][R][C * 16];  // an even shard; the first half; shards 4 and 5

  /// total[r][c] += what the piece's exact sums stand for.
  [[gnu::always_inline]] void Add(const IntegerBlock& block, Index p, bool begins,
                                  const IntVec (&acc)[R][C]) {
    const PackedIntegers& weight = *block.weight;
    const float* numbers = block.numbers + p * kPieceNumbers * R;
#pragma clang loop unroll(full)
    for (int c = 0; c < C; ++c) {
      const Index at = block.scale + p * kIntegerPanelOutputs + c * 16;
      const Vec scale = weight.grouped ? LoadScale(weight, weight.scales, at) : Vec::Zero();
#pragma clang loop unroll(full)
      for (int r = 0; r < R; ++r) {
        const Vec input = Vec::Set(numbers[r]);
        const Vec before = begins ? Vec::Zero() : Vec::Load(&shard[r][c * 16]);
        Fma(acc[r][c].ToFloat(), weight.grouped ? scale * input : input, before)
            .Store(&shard[r][c * 16]);
      }
    }
    if (weight.offsets != nullptr) {
      AddOffsets(block, p);
    }
  }

  void AddOffsets(const IntegerBlock& block, Index p) {
    const float* sums = block.numbers + (p * kPieceNumbers + 2) * R;
    for (int c = 0; c < C; ++c) {
      const Vec offset = LoadScale(*block.weight, block.weight->offsets,
                                   block.scale + p * kIntegerPanelOutputs + c * 16);
      for (int r = 0; r < R; ++r) {
        Fma(offset, Vec::Set(sums[r]), Vec::Load(&shard[r][c * 16])).Store(&shard[r][c * 16]);
      }
    }
  }

  /// Scales the shard by its outputs' scales and joins it.
  void EndShard(const IntegerBlock& block, std::int32_t index) {
    const PackedIntegers& weight = *block.weight;
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) {
        const int at = c * 16;
        Vec total = Vec::Load(&shard[r][at]);
        if (!weight.grouped) {
          total = total * LoadScale(weight, weight.scales, block.scale + at);
        }
        if (index % 2 == 1) {
          total = Vec::Load(&joined[0][r][at]) + total;
        }
        if (index == 7) {
          total = Vec::Load(&joined[2][r][at]) + total;
        }
        if (index % 4 == 3) {
          total = Vec::Load(&joined[1][r][at]) + total;
        }
        if (index == weight.shard_count - 1) {
          total.Store(&shard[r][at]);
        } else {
          total.Store(&joined[index % 2 == 0 ? 0 : index == 5 ? 2 : 1][r][at]);
        }
      }
    }
  }
};

template <int R, int C, bool kNibbles>
void RunIntegers(const IntegerBlock& block) {
  const PackedIntegers& weight = *block.weight;
  IntegerTotals<R, C> totals;
  const unsigned char* ahead = block.ahead;
  bool begins = true;
  for (Index p = 0; p < weight.piece_count; ++p) {
    const IntegerPieceView& piece = weight.pieces[p];
    const auto* zeros =
        reinterpret_cast<const std::int32_t*>(block.numbers + (p * kPieceNumbers + 1) * R);
    IntVec acc[R][C];
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        acc[r][c] = IntVec::Set(zeros[r]);
      }
    }
    const std::int32_t* x = block.x + piece.word * R;
    const std::uint32_t* w = block.w + piece.word / (kNibbles ? 2 : 1) * kIntegerPanelOutputs;
    for (Index word = 0; word < piece.words; word += kFetchWords) {
      for (Index i = 0; i < block.ahead_lines; ++i, ahead += 64) {
        PrefetchFar(ahead);
      }
      const Index left = piece.words - word;
      MultiplyWords<R, C, kNibbles>(x + word * R,
                                    w + word / (kNibbles ? 2 : 1) * kIntegerPanelOutputs,
                                    left < kFetchWords ? left : kFetchWords, acc);
    }
    totals.Add(block, p, begins, acc);
    begins = p + 1 == weight.piece_count || weight.pieces[p + 1].shard != piece.shard;
    if (begins) {
      totals.EndShard(block, piece.shard);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) {
      Vec total = Vec::Load(&totals.shard[r][c * 16]);
      if (block.bias != nullptr) {
        total = total + Vec::Load(block.bias + c * 16);
      }
      total.StorePart(block.out + r * block.out_stride + c * 16, block.outputs - c * 16);
    }
  }
}

template <int R, bool kNibbles>
void RunIntegerRows(Index rows, const IntegerBlock& block) {
  if constexpr (R > 1) {
    if (rows < R) {
      RunIntegerRows<R - 1, kNibbles>(rows, block);
      return;
    }
  }
  IntegerBlock part = block;
  for (Index column = 0; column < kIntegerPanelOutputs; column += kIntVecs * 16) {
    part.w = block.w + column;
    part.scale = block.scale + column;
    part.bias = block.bias != nullptr ? block.bias + column : nullptr;
    part.out = block.out + column;
    part.outputs = block.outputs - column;
    if (part.outputs > 0) {
      RunIntegers<R, kIntVecs, kNibbles>(part);
    }
    part.ahead = nullptr;  // fetched once
    part.ahead_lines = 0;
  }
}

/// One code a byte from two.
inline void SpreadNibbles(const std::uint32_t* w, Index words, std::uint32_t* out) {
  for (Index word = 0; word < words; word += 2, w += kIntegerPanelOutputs) {
    for (Index c = 0; c < kIntegerPanelOutputs; c += 16, out += 16) {
      Prefetch(w + kFetchAhead * kIntegerPanelOutputs + c);
      const IntVec both = IntVec::Load(w + c);
      both.LowNibbles().Store(out);
      both.HighNibbles().Store(out + kIntegerPanelOutputs);
    }
    out += kIntegerPanelOutputs;
  }
}

/// The packed input of the call: made already, or made here at the end of the scratch.
inline const unsigned char* InputOf(const LinearCall& call, const IntegerRows& plan) {
  if (call.packed_input != nullptr) {
    return static_cast<const unsigned char*>(call.packed_input);
  }
  const PackedIntegers& weight = call.weight->integers;
  const Index spread = weight.code_bits == 4 ? weight.words * 4 * kIntegerPanelOutputs : 0;
  LinearCall own = call;
  own.packed_input = static_cast<unsigned char*>(call.scratch) + spread;
  own.block_begin = 0;
  own.block_end = plan.blocks;
  if (!call.scratch_packed) {
    PackIntegers(own);
  }
  return static_cast<const unsigned char*>(own.packed_input);
}

inline void LinearIntegers(const LinearCall& call) {
  const PackedIntegers& weight = call.weight->integers;
  const IntegerRows plan(weight, call.row_end - call.row_begin);
  const unsigned char* input = InputOf(call, plan);
  const bool nibbles = weight.code_bits == 4;
  const bool spread = nibbles && plan.blocks >= kSpreadRowBlocks;
  const Index stored_words = weight.words / (nibbles ? 2 : 1);
  const Index panel_words = stored_words * kIntegerPanelOutputs;
  const Index fetches = plan.blocks * (weight.words / kFetchWords + weight.piece_count);
  const Index ahead_lines = plan.blocks > 1 ? (panel_words / 16 + fetches - 1) / fetches : 0;
  for (Index panel = call.panel_begin; panel < call.panel_end; ++panel) {
    IntegerBlock block;
    block.weight = &weight;
    block.w = static_cast<const std::uint32_t*>(call.weight->panels) + panel * panel_words;
    const auto* next = reinterpret_cast<const unsigned char*>(block.w + panel_words);
    if (spread) {
      auto* codes = static_cast<std::uint32_t*>(call.scratch);
      SpreadNibbles(block.w, weight.words, codes);
      block.w = codes;
    }
    const Index output = panel * kIntegerPanelOutputs;
    block.scale = output * (weight.grouped ? weight.piece_count : 1);
    block.bias = call.weight->bias != nullptr ? call.weight->bias + output : nullptr;
    block.outputs = call.weight->out_features - output;
    block.out_stride = call.out_stride;
    block.ahead_lines = panel + 1 < call.panel_end ? ahead_lines : 0;
    for (Index b = 0; b < plan.blocks; ++b) {
      const Index row = plan.Row(b);
      const Index rows = plan.Row(b + 1) - row;
      block.x = reinterpret_cast<const std::int32_t*>(input + plan.At(b));
      block.numbers = reinterpret_cast<const float*>(block.x + weight.words * rows);
      block.out = call.out + (call.row_begin + row) * call.out_stride + output;
      block.ahead = next + b * panel_words * 4 / plan.blocks / 64 * 64;
      if (nibbles && !spread) {
        RunIntegerRows<kIntRows, true>(rows, block);
      } else {
        RunIntegerRows<kIntRows, false>(rows, block);
      }
    }
  }
}

inline Index MultiplyAddsInteger(Index rounds, float* result) {
  IntVec acc[kIntRows * kIntVecs];
  for (IntVec& one : acc) {
    one = IntVec::Zero();
  }
  const IntVec w = IntVec::Set(static_cast<std::int32_t>(rounds | 1));
  const IntVec x = IntVec::Set(static_cast<std::int32_t>(rounds | 3));
  for (Index i = 0; i < rounds; ++i) {
#pragma clang loop unroll(full)
    for (IntVec& one : acc) {
      one = Dot(one, w, x);
    }
  }
  IntVec sum = acc[0];
  for (int i = 1; i < kIntRows * kIntVecs; ++i) {
    sum = sum + acc[i];
  }
  *result = sum.ToFloat().ReduceAdd();
  return rounds * kIntRows * kIntVecs * 64;
}

constexpr LinearKernels MakeIntegerKernels() {
  return {.scratch_bytes = IntegerScratchBytes,
          .input_bytes = IntegerInputBytes,
          .row_blocks = IntegerRowBlocks,
          .pack = PackIntegers,
          .run = LinearIntegers,
          .multiply_adds = MultiplyAddsInteger};
}

}  // namespace
}  // namespace pixii::kernels
