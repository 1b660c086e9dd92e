// Sixteen fp32 lanes in two AVX2 registers, with the same meaning as simd_avx512.h, so that both
// give equal bits. Included by isa_avx2.cc only; see kernel_table.h for why it is anonymous.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/kernel_table.h"

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

struct Vec {
  __m256 lo;
  __m256 hi;

  static Vec Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }

  static Vec Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }

  static Vec Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }

  /// Lanes 0 .. n - 1 from p, 0 <= n; the others are zero. n >= 16 loads all.
  static Vec LoadPart(const float* p, Index n) {
    if (n >= 16) {
      return Load(p);
    }
    return {_mm256_maskload_ps(p, Mask(n)),
            n > 8 ? _mm256_maskload_ps(p + 8, Mask(n - 8)) : _mm256_setzero_ps()};
  }

  void Store(float* p) const {
    _mm256_storeu_ps(p, lo);
    _mm256_storeu_ps(p + 8, hi);
  }

  void StorePart(float* p, Index n) const {
    if (n >= 16) {
      Store(p);
      return;
    }
    _mm256_maskstore_ps(p, Mask(n), lo);
    if (n > 8) {
      _mm256_maskstore_ps(p + 8, Mask(n - 8), hi);
    }
  }

  static Vec LoadBf16(const std::uint16_t* p, Index n) {
    std::uint16_t part[16] = {};
    const std::uint16_t* from = Whole(p, n, part);
    return {FromBf16(Load8(from)), FromBf16(Load8(from + 8))};
  }

  static Vec LoadF16(const std::uint16_t* p, Index n) {
    std::uint16_t part[16] = {};
    const std::uint16_t* from = Whole(p, n, part);
    return {_mm256_cvtph_ps(Load8(from)), _mm256_cvtph_ps(Load8(from + 8))};
  }

  void StoreBf16(std::uint16_t* p, Index n) const {
    // packus works within 128-bit lanes: put the quarters back in order.
    const __m256i packed =
        _mm256_permute4x64_epi64(_mm256_packus_epi32(Bf16Bits(lo), Bf16Bits(hi)), 0xD8);
    Store16(packed, p, n);
  }

  void StoreF16(std::uint16_t* p, Index n) const {
    const __m128i low = _mm256_cvtps_ph(lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i high = _mm256_cvtps_ph(hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    Store16(_mm256_set_m128i(high, low), p, n);
  }

  static Vec LoadInt8(const unsigned char* p, Index n) {
    const __m128i bytes = LoadBytes(p, n);
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
  }

  /// fp8 e4m3 without NaN codes: the bits of an fp16 that is 2^8 too small.
  static Vec LoadFp8(const unsigned char* p, Index n) {
    const __m256i bytes = _mm256_cvtepu8_epi16(LoadBytes(p, n));
    const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(bytes, _mm256_set1_epi16(0x80)), 8);
    const __m256i rest = _mm256_slli_epi16(_mm256_and_si256(bytes, _mm256_set1_epi16(0x7F)), 7);
    const __m256i half = _mm256_or_si256(sign, rest);
    const __m256 up = _mm256_set1_ps(256.0F);
    return {_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), up),
            _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), up)};
  }

  /// Rounded to whole numbers, ties to even; all within -127 .. 127.
  void StoreInt8(unsigned char* p, Index n) const {
    StoreBytes(_mm256_cvtps_epi32(lo), _mm256_cvtps_epi32(hi), p, n);
  }

  /// Rounded to fp8 e4m3, ties to even; all within -448 .. 448.
  void StoreFp8(unsigned char* p, Index n) const {
    // Signed bytes survive the saturating packs below.
    StoreBytes(Fp8Bits(lo), Fp8Bits(hi), p, n);
  }

  /// Larger of two by their bits, which must be of absolute values: NaN above infinity above all.
  static Vec MaxOfBits(Vec a, Vec b) { return {MaxOfBits8(a.lo, b.lo), MaxOfBits8(a.hi, b.hi)}; }

  float ReduceMaxOfBits() const {
    float lanes[8];
    _mm256_storeu_ps(lanes, MaxOfBits8(lo, hi));
    int top = 0;
    for (const float& lane : lanes) {
      int bits;
      __builtin_memcpy(&bits, &lane, sizeof(bits));
      top = bits > top ? bits : top;
    }
    float out;
    __builtin_memcpy(&out, &top, sizeof(out));
    return out;
  }

  /// Even elements of the 32 bf16 at p.
  static Vec LoadEven(const std::uint16_t* p) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(LoadPairs(p), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(LoadPairs(p + 16), 16))};
  }

  /// Odd elements of the 32 bf16 at p.
  static Vec LoadOdd(const std::uint16_t* p) {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000U));
    return {_mm256_castsi256_ps(_mm256_and_si256(LoadPairs(p), upper)),
            _mm256_castsi256_ps(_mm256_and_si256(LoadPairs(p + 16), upper))};
  }

  /// The same of pairs that are in the lanes already.
  Vec EvenOfPairs() const {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(lo), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(hi), 16))};
  }

  Vec OddOfPairs() const {
    const __m256 upper = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xFFFF0000U)));
    return {_mm256_and_ps(lo, upper), _mm256_and_ps(hi, upper)};
  }

  /// Element kIndex of the four int8 in each lane.
  template <int kIndex>
  Vec Int8OfWords() const {
    constexpr int kLeft = 24 - 8 * kIndex;
    const auto widen = [](__m256 words) {
      const __m256i top = _mm256_slli_epi32(_mm256_castps_si256(words), kLeft);
      return _mm256_cvtepi32_ps(_mm256_srai_epi32(top, 24));
    };
    return {widen(lo), widen(hi)};
  }

  /// The same of fp8 e4m3 without NaN codes.
  template <int kIndex>
  Vec Fp8OfWords() const {
    constexpr int kLeft = 24 - 8 * kIndex;
    const auto widen = [](__m256 words) {
      return FromFp8(_mm256_slli_epi32(_mm256_castps_si256(words), kLeft));
    };
    return {widen(lo), widen(hi)};
  }

  /// Rounded to bf16 and back.
  Vec RoundedToBf16() const {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(Bf16Bits(lo), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(Bf16Bits(hi), 16))};
  }

  float ReduceAdd() const {
    const __m256 half = _mm256_add_ps(lo, hi);
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
  }

  float ReduceMax() const {
    const __m256 half = _mm256_max_ps(lo, hi);
    __m128 max = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    max = _mm_max_ps(max, _mm_movehl_ps(max, max));
    return _mm_cvtss_f32(_mm_max_ss(max, _mm_movehdup_ps(max)));
  }

  /// 2^n for integral n in -126 .. 127.
  static Vec PowerOfTwo(Vec n) { return {PowerOfTwo8(n.lo), PowerOfTwo8(n.hi)}; }

  /// Lanes 0, 0, 1, 1, ... 7, 7.
  Vec LowLanesTwice() const {
    return {_mm256_permutevar8x32_ps(lo, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
            _mm256_permutevar8x32_ps(lo, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
  }

  /// Lanes 1, 0, 3, 2, ...
  Vec PairsSwapped() const { return {_mm256_permute_ps(lo, 0xB1), _mm256_permute_ps(hi, 0xB1)}; }

  Vec EvenLanesNegated() const {
    const __m256 signs = _mm256_castsi256_ps(_mm256_set1_epi64x(0x80000000));
    return {_mm256_xor_ps(lo, signs), _mm256_xor_ps(hi, signs)};
  }

  /// The float whose exponent is the lanes' lowest bits.
  Vec LowBitsToExponent() const {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(lo), 23)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(hi), 23))};
  }

  Vec Round() const {
    return {_mm256_round_ps(lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
            _mm256_round_ps(hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }

  /// b where a < limit, else c.
  static Vec SelectLess(Vec a, Vec limit, Vec b, Vec c) {
    return {_mm256_blendv_ps(c.lo, b.lo, _mm256_cmp_ps(a.lo, limit.lo, _CMP_LT_OQ)),
            _mm256_blendv_ps(c.hi, b.hi, _mm256_cmp_ps(a.hi, limit.hi, _CMP_LT_OQ))};
  }

  /// Lanes begin .. end - 1 of a, the others of b.
  static Vec SelectRange(Vec a, Vec b, Index begin, Index end) {
    const __m256i low = _mm256_andnot_si256(Mask(begin), Mask(end));
    const __m256i high = _mm256_andnot_si256(Mask(begin - 8), Mask(end - 8));
    return {_mm256_blendv_ps(b.lo, a.lo, _mm256_castsi256_ps(low)),
            _mm256_blendv_ps(b.hi, a.hi, _mm256_castsi256_ps(high))};
  }

  Vec Negated() const {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    return {_mm256_xor_ps(lo, sign), _mm256_xor_ps(hi, sign)};
  }

  Vec Absolute() const {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    return {_mm256_andnot_ps(sign, lo), _mm256_andnot_ps(sign, hi)};
  }

 private:
  /// Of an e4m3 code in each lane's top byte: the bits of an fp32 of the same value but below the
  /// smallest normal code, where that is as much too large as it lacks to it.
  static __m256 FromFp8(__m256i top) {
    const __m256i rest = _mm256_and_si256(_mm256_srli_epi32(top, 4), _mm256_set1_epi32(0x07F00000));
    const __m256 value = _mm256_castsi256_ps(_mm256_add_epi32(rest, _mm256_set1_epi32(120 << 23)));
    const __m256 lacking =
        _mm256_max_ps(_mm256_setzero_ps(), _mm256_sub_ps(_mm256_set1_ps(0x1p-6F), value));
    const __m256 sign = _mm256_and_ps(_mm256_castsi256_ps(top), _mm256_set1_ps(-0.0F));
    return _mm256_or_ps(_mm256_sub_ps(value, lacking), sign);
  }

  static __m256i LoadPairs(const std::uint16_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }

  /// All ones in lanes below n.
  static __m256i Mask(Index n) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const int bound = n > 8 ? 8 : n < 0 ? 0 : static_cast<int>(n);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(bound), lanes);
  }

  static const std::uint16_t* Whole(const std::uint16_t* p, Index n, std::uint16_t (&part)[16]) {
    if (n >= 16) {
      return p;
    }
    for (Index i = 0; i < n; ++i) {
      part[i] = p[i];
    }
    return part;
  }

  static void Store16(__m256i bits, std::uint16_t* p, Index n) {
    if (n >= 16) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bits);
      return;
    }
    std::uint16_t part[16];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(part), bits);
    for (Index i = 0; i < n; ++i) {
      p[i] = part[i];
    }
  }

  static __m128i LoadBytes(const unsigned char* p, Index n) {
    if (n >= 16) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    }
    unsigned char part[16] = {};
    for (Index i = 0; i < n; ++i) {
      part[i] = p[i];
    }
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(part));
  }

  /// Sixteen whole numbers within -128 .. 127 as bytes.
  static void StoreBytes(__m256i low, __m256i high, unsigned char* p, Index n) {
    // packs works within 128-bit lanes: put the quarters back in order.
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    unsigned char part[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(part), bytes);
    for (Index i = 0; i < 16 && i < n; ++i) {
      p[i] = part[i];
    }
  }

  /// Codes of fp8 e4m3 as signed bytes in 32 bits.
  static __m256i Fp8Bits(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
    const __m256i aligned = _mm256_sub_epi32(
        _mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(0x1p14F))),
        _mm256_set1_epi32(0x46800000));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(magnitude, 20), _mm256_set1_epi32(1));
    const __m256i rebiased = _mm256_add_epi32(
        magnitude, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFFF - (120 << 23))));
    const __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3C800000), magnitude);
    const __m256i code = _mm256_blendv_epi8(_mm256_srli_epi32(rebiased, 20), aligned, small);
    const __m256i negative = _mm256_slli_epi32(_mm256_srai_epi32(bits, 31), 7);  // -128 or 0
    return _mm256_or_si256(code, negative);
  }

  static __m256 MaxOfBits8(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
  }

  static __m128i Load8(const std::uint16_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }

  static __m256 FromBf16(__m128i bits) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }

  static __m256 PowerOfTwo8(__m256 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
  }

  /// Upper halves, rounded to nearest even, in the low 16 bits of each lane; NaN stays NaN.
  static __m256i Bf16Bits(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i upper = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), quiet, nan);
  }
};

inline Vec Fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

inline Vec FmaOfFloat(const float* a, Vec b, Vec c) { return Fma(Vec::Set(*a), b, c); }

inline Vec operator+(Vec a, Vec b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

inline Vec operator-(Vec a, Vec b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

inline Vec operator*(Vec a, Vec b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

inline Vec operator/(Vec a, Vec b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

/// Of two, b if either is NaN.
inline Vec Max(Vec a, Vec b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }

inline Vec Min(Vec a, Vec b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }

inline void Transpose8(__m256& r0, __m256& r1, __m256& r2, __m256& r3, __m256& r4, __m256& r5,
                       __m256& r6, __m256& r7) {
  const __m256 a0 = _mm256_unpacklo_ps(r0, r1);
  const __m256 a1 = _mm256_unpackhi_ps(r0, r1);
  const __m256 a2 = _mm256_unpacklo_ps(r2, r3);
  const __m256 a3 = _mm256_unpackhi_ps(r2, r3);
  const __m256 a4 = _mm256_unpacklo_ps(r4, r5);
  const __m256 a5 = _mm256_unpackhi_ps(r4, r5);
  const __m256 a6 = _mm256_unpacklo_ps(r6, r7);
  const __m256 a7 = _mm256_unpackhi_ps(r6, r7);
  const __m256 b0 = _mm256_shuffle_ps(a0, a2, 0x44);
  const __m256 b1 = _mm256_shuffle_ps(a0, a2, 0xEE);
  const __m256 b2 = _mm256_shuffle_ps(a1, a3, 0x44);
  const __m256 b3 = _mm256_shuffle_ps(a1, a3, 0xEE);
  const __m256 b4 = _mm256_shuffle_ps(a4, a6, 0x44);
  const __m256 b5 = _mm256_shuffle_ps(a4, a6, 0xEE);
  const __m256 b6 = _mm256_shuffle_ps(a5, a7, 0x44);
  const __m256 b7 = _mm256_shuffle_ps(a5, a7, 0xEE);
  r0 = _mm256_permute2f128_ps(b0, b4, 0x20);
  r1 = _mm256_permute2f128_ps(b1, b5, 0x20);
  r2 = _mm256_permute2f128_ps(b2, b6, 0x20);
  r3 = _mm256_permute2f128_ps(b3, b7, 0x20);
  r4 = _mm256_permute2f128_ps(b0, b4, 0x31);
  r5 = _mm256_permute2f128_ps(b1, b5, 0x31);
  r6 = _mm256_permute2f128_ps(b2, b6, 0x31);
  r7 = _mm256_permute2f128_ps(b3, b7, 0x31);
}

/// rows[i] lane j becomes rows[j] lane i.
inline void Transpose(Vec (&r)[16]) {
  Transpose8(r[0].lo, r[1].lo, r[2].lo, r[3].lo, r[4].lo, r[5].lo, r[6].lo, r[7].lo);
  Transpose8(r[0].hi, r[1].hi, r[2].hi, r[3].hi, r[4].hi, r[5].hi, r[6].hi, r[7].hi);
  Transpose8(r[8].lo, r[9].lo, r[10].lo, r[11].lo, r[12].lo, r[13].lo, r[14].lo, r[15].lo);
  Transpose8(r[8].hi, r[9].hi, r[10].hi, r[11].hi, r[12].hi, r[13].hi, r[14].hi, r[15].hi);
  for (int i = 0; i < 8; ++i) {  // the off-diagonal quarters change places
    const __m256 upper_right = r[i].hi;
    r[i].hi = r[i + 8].lo;
    r[i + 8].lo = upper_right;
  }
}

inline void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

/// Into the second level of cache.
inline void PrefetchFar(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

// Register blocks: how many accumulators fit beside what feeds them.
inline constexpr int kGemmRows = 6;
inline constexpr int kGemmVecs = 1;  // of 16 outputs
inline constexpr int kFewRows = 6;   // of few rows, whose weights are widened on the way
inline constexpr int kFewRowsOfTwoVecs = 3;
inline constexpr int kStraightRowsMax = 4;  // of more, weights are laid out first
inline constexpr int kBlockRows = 6;        // of many rows
inline constexpr int kBlockVecs = 1;
inline constexpr int kBlockRowsOfFloats = 0;
inline constexpr int kAttentionRows = 6;
inline constexpr int kAttentionVecs = 1;
inline constexpr int kAttentionFewRows = 2;  // up to so many rows, twice as many vectors

}  // namespace
}  // namespace pixii::kernels
