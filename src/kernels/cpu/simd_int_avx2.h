// Sixteen 32-bit lanes, each four codes or a sum of products, in two AVX2 registers, and products
// in 16 bits, since vpmaddubsw saturates. Include after simd_avx2.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

struct IntVec {
  __m256i lo;
  __m256i hi;

  static IntVec Zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }

  static IntVec Set(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }

  static IntVec Load(const std::uint32_t* p) {
    const auto* at = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
  }

  void Store(std::uint32_t* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), lo);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p) + 1, hi);
  }

  IntVec LowNibbles() const { return {Nibbles(lo), Nibbles(hi)}; }

  IntVec HighNibbles() const {
    return {Nibbles(_mm256_srli_epi16(lo, 4)), Nibbles(_mm256_srli_epi16(hi, 4))};
  }

  Vec ToFloat() const { return {_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi)}; }

 private:
  static __m256i Nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(0x0F)); }
};

inline IntVec operator+(IntVec a, IntVec b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}

inline __m256i DotHalf(__m256i sum, __m256i w, __m256i x) {
  const __m256i even_w = _mm256_and_si256(w, _mm256_set1_epi32(0x00FF00FF));
  const __m256i odd_w = _mm256_srli_epi16(w, 8);
  const __m256i even_x = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
  const __m256i odd_x = _mm256_srai_epi16(x, 8);
  return _mm256_add_epi32(_mm256_add_epi32(sum, _mm256_madd_epi16(even_w, even_x)),
                          _mm256_madd_epi16(odd_w, odd_x));
}

/// sum + w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3, exact.
inline IntVec Dot(IntVec sum, IntVec w, IntVec x) {
  return {DotHalf(sum.lo, w.lo, x.lo), DotHalf(sum.hi, w.hi, x.hi)};
}

inline IntVec DotOfWord(IntVec sum, IntVec w, const std::int32_t* x) {
  return Dot(sum, w, IntVec::Set(*x));
}

// Register blocks.
inline constexpr int kIntRows = 3;
inline constexpr int kIntVecs = 1;
inline constexpr int kIntRowsOfWords = 0;

}  // namespace
}  // namespace pixii::kernels
