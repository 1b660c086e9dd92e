// Sixteen fp32 lanes in one AVX-512 register. Included by isa_*.cc only; see kernel_table.h for why
// it is anonymous.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/kernel_table.h"

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

struct Vec {
  __m512 v;

  static Vec Zero() { return {_mm512_setzero_ps()}; }

  static Vec Set(float x) { return {_mm512_set1_ps(x)}; }

  static Vec Load(const float* p) { return {_mm512_loadu_ps(p)}; }

  /// Lanes 0 .. n - 1 from p, 0 <= n; the others are zero. n >= 16 loads all.
  static Vec LoadPart(const float* p, Index n) { return {_mm512_maskz_loadu_ps(Mask(n), p)}; }

  void Store(float* p) const { _mm512_storeu_ps(p, v); }

  void StorePart(float* p, Index n) const { _mm512_mask_storeu_ps(p, Mask(n), v); }

  static Vec LoadBf16(const std::uint16_t* p, Index n) {
    if (n >= 16) {  // a predicted branch is cheaper than a mask
      return FromBf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    return FromBf16(_mm256_maskz_loadu_epi16(Mask(n), p));
  }

  static Vec LoadF16(const std::uint16_t* p, Index n) {
    if (n >= 16) {
      return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
    }
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(Mask(n), p))};
  }

  void StoreBf16(std::uint16_t* p, Index n) const {
    _mm256_mask_storeu_epi16(p, Mask(n), _mm512_cvtepi32_epi16(Bf16Bits()));
  }

  void StoreF16(std::uint16_t* p, Index n) const {
    _mm256_mask_storeu_epi16(p, Mask(n),
                             _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }

  static Vec LoadInt8(const unsigned char* p, Index n) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(LoadBytes(p, n)))};
  }

  /// fp8 e4m3 without NaN codes: the bits of an fp16 that is 2^8 too small.
  static Vec LoadFp8(const unsigned char* p, Index n) {
    const __m256i bytes = _mm256_cvtepu8_epi16(LoadBytes(p, n));
    const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(bytes, _mm256_set1_epi16(0x80)), 8);
    const __m256i rest = _mm256_slli_epi16(_mm256_and_si256(bytes, _mm256_set1_epi16(0x7F)), 7);
    return {_mm512_mul_ps(_mm512_cvtph_ps(_mm256_or_si256(sign, rest)), _mm512_set1_ps(256.0F))};
  }

  /// Rounded to whole numbers, ties to even; all within -127 .. 127.
  void StoreInt8(unsigned char* p, Index n) const {
    _mm_mask_storeu_epi8(p, Mask(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  }

  /// Rounded to fp8 e4m3, ties to even; all within -448 .. 448.
  void StoreFp8(unsigned char* p, Index n) const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
    const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits, 24), _mm512_set1_epi32(0x80));
    const __m512i aligned = _mm512_sub_epi32(
        _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(0x1p14F))),
        _mm512_set1_epi32(0x46800000));
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(magnitude, 20), _mm512_set1_epi32(1));
    const __m512i rebiased = _mm512_add_epi32(
        magnitude, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFFF - (120 << 23))));
    const __mmask16 small = _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32(0x3C800000));
    const __m512i code = _mm512_mask_blend_epi32(small, _mm512_srli_epi32(rebiased, 20), aligned);
    _mm_mask_storeu_epi8(p, Mask(n), _mm512_cvtepi32_epi8(_mm512_or_si512(code, sign)));
  }

  /// Larger of two by their bits, which must be of absolute values: NaN above infinity above all.
  static Vec MaxOfBits(Vec a, Vec b) {
    return {
        _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
  }

  float ReduceMaxOfBits() const {
    float top;
    const int bits = _mm512_reduce_max_epi32(_mm512_castps_si512(v));
    __builtin_memcpy(&top, &bits, sizeof(top));
    return top;
  }

  /// Even elements of the 32 bf16 at p.
  static Vec LoadEven(const std::uint16_t* p) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
  }

  /// Odd elements of the 32 bf16 at p.
  static Vec LoadOdd(const std::uint16_t* p) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
    return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), upper))};
  }

  /// The same of pairs that are in the lanes already.
  Vec EvenOfPairs() const {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(v), 16))};
  }

  Vec OddOfPairs() const {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
    return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), upper))};
  }

  /// Element kIndex of the four int8 in each lane.
  template <int kIndex>
  Vec Int8OfWords() const {
    const __m512i top = _mm512_slli_epi32(_mm512_castps_si512(v), 24 - 8 * kIndex);
    return {_mm512_cvtepi32_ps(_mm512_srai_epi32(top, 24))};
  }

  /// The same of fp8 e4m3 without NaN codes.
  template <int kIndex>
  Vec Fp8OfWords() const {
    const __m512i top = _mm512_slli_epi32(_mm512_castps_si512(v), 24 - 8 * kIndex);
    return FromFp8(top);
  }

  /// Rounded to bf16 and back.
  Vec RoundedToBf16() const { return {_mm512_castsi512_ps(_mm512_slli_epi32(Bf16Bits(), 16))}; }

  float ReduceAdd() const {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
  }

  float ReduceMax() const {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 max = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    max = _mm_max_ps(max, _mm_movehl_ps(max, max));
    return _mm_cvtss_f32(_mm_max_ss(max, _mm_movehdup_ps(max)));
  }

  /// 2^n for integral n in -126 .. 127.
  static Vec PowerOfTwo(Vec n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
  }

  /// Lanes 0, 0, 1, 1, ... 7, 7.
  Vec LowLanesTwice() const {
    const __m512i lanes = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return {_mm512_permutexvar_ps(lanes, v)};
  }

  /// Lanes 1, 0, 3, 2, ...
  Vec PairsSwapped() const { return {_mm512_permute_ps(v, 0xB1)}; }

  Vec EvenLanesNegated() const {
    const __m512i signs = _mm512_set1_epi64(0x80000000);
    return {_mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), signs))};
  }

  /// The float whose exponent is the lanes' lowest bits.
  Vec LowBitsToExponent() const {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(v), 23))};
  }

  Vec Round() const {
    return {_mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }

  /// b where a < limit, else c.
  static Vec SelectLess(Vec a, Vec limit, Vec b, Vec c) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, limit.v, _CMP_LT_OQ), c.v, b.v)};
  }

  /// Lanes begin .. end - 1 of a, the others of b.
  static Vec SelectRange(Vec a, Vec b, Index begin, Index end) {
    const auto mask = static_cast<__mmask16>(Mask(end) & ~Mask(begin));
    return {_mm512_mask_blend_ps(mask, b.v, a.v)};
  }

  Vec Negated() const { return {_mm512_xor_ps(v, _mm512_set1_ps(-0.0F))}; }

  Vec Absolute() const { return {_mm512_abs_ps(v)}; }

 private:
  static __mmask16 Mask(Index n) {
    return static_cast<__mmask16>(n >= 16  ? 0xFFFFU
                                  : n <= 0 ? 0U
                                           : (1U << static_cast<unsigned>(n)) - 1U);
  }

  static __m128i LoadBytes(const unsigned char* p, Index n) {
    return n >= 16 ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))
                   : _mm_maskz_loadu_epi8(Mask(n), p);
  }

  /// Of an e4m3 code in each lane's top byte: the bits of an fp32 of the same value but below the
  /// smallest normal code, where that is as much too large as it lacks to it.
  static Vec FromFp8(__m512i top) {
    const __m512i rest = _mm512_and_si512(_mm512_srli_epi32(top, 4), _mm512_set1_epi32(0x07F00000));
    const __m512 value = _mm512_castsi512_ps(_mm512_add_epi32(rest, _mm512_set1_epi32(120 << 23)));
    const __m512 least = _mm512_set1_ps(0x1p-6F);
    const __mmask16 small = _mm512_cmp_ps_mask(value, least, _CMP_LT_OQ);
    const __m512 exact = _mm512_mask_sub_ps(value, small, value, _mm512_sub_ps(least, value));
    return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(
        _mm512_castps_si512(exact), top, _mm512_set1_epi32(static_cast<int>(0x80000000U)), 0xF8))};
  }

  static Vec FromBf16(__m256i bits) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }

  /// Upper halves, rounded to nearest even, in the low 16 bits of each lane; NaN stays NaN.
  __m512i Bf16Bits() const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i upper = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(_mm512_srli_epi32(sum, 16), nan, upper, _mm512_set1_epi32(0x40));
  }
};

inline Vec Fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }

/// a * b + c with the float at `a` in every lane, read by the instruction itself: one instruction
/// less to issue, which counts while a busy sibling thread takes half of the front end. Compilers
/// load a float that several columns need once, into a register.
inline Vec FmaOfFloat(const float* a, Vec b, Vec c) {
  asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c.v) : "v"(b.v), "m"(*a));
  return c;
}

inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }

inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }

inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }

inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }

/// Of two, b if either is NaN.
inline Vec Max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }

inline Vec Min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }

/// rows[i] lane j becomes rows[j] lane i.
inline void Transpose(Vec (&rows)[16]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  __m512 u[16];
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xEE);
    u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 a =
        _mm512_shuffle_f32x4(u[i], u[i + 4], 0x88);  // quarters 0, 2 of rows 0-3, of rows 4-7
    const __m512 b = _mm512_shuffle_f32x4(u[i], u[i + 4], 0xDD);  // quarters 1, 3
    const __m512 c = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0x88);
    const __m512 d = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0xDD);
    rows[i].v = _mm512_shuffle_f32x4(a, c, 0x88);
    rows[i + 4].v = _mm512_shuffle_f32x4(b, d, 0x88);
    rows[i + 8].v = _mm512_shuffle_f32x4(a, c, 0xDD);
    rows[i + 12].v = _mm512_shuffle_f32x4(b, d, 0xDD);
  }
}

inline void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

/// Into the second level of cache.
inline void PrefetchFar(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

// Register blocks: how many accumulators fit beside what feeds them.
inline constexpr int kGemmRows = 14;
inline constexpr int kGemmVecs = 2;  // of 16 outputs
inline constexpr int kFewRows = 16;  // of few rows, whose weights are widened on the way
inline constexpr int kFewRowsOfTwoVecs = 7;
inline constexpr int kStraightRowsMax = 32;  // of more, weights are laid out first
inline constexpr int kBlockRows = 14;        // of many rows
inline constexpr int kBlockVecs = 2;
inline constexpr int kBlockRowsOfFloats = 6;  // whose inputs the multiplication reads itself
inline constexpr int kAttentionRows = 14;
inline constexpr int kAttentionVecs = 2;
inline constexpr int kAttentionFewRows = 6;  // up to so many rows, twice as many vectors

}  // namespace
}  // namespace pixii::kernels
