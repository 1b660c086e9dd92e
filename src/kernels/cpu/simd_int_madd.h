// Products of four unsigned codes and four signed inputs a lane where there is no VNNI: in 16 bits,
// since vpmaddubsw saturates. Include after simd_int_avx512.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

/// sum + w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3, exact.
inline IntVec Dot(IntVec sum, IntVec w, IntVec x) {
  const __m512i even_w = _mm512_and_si512(w.v, _mm512_set1_epi32(0x00FF00FF));
  const __m512i odd_w = _mm512_srli_epi16(w.v, 8);
  const __m512i even_x = _mm512_srai_epi16(_mm512_slli_epi16(x.v, 8), 8);
  const __m512i odd_x = _mm512_srai_epi16(x.v, 8);
  return {_mm512_add_epi32(_mm512_add_epi32(sum.v, _mm512_madd_epi16(even_w, even_x)),
                           _mm512_madd_epi16(odd_w, odd_x))};
}

inline IntVec DotOfWord(IntVec sum, IntVec w, const std::int32_t* x) {
  return Dot(sum, w, IntVec::Set(*x));
}

// Register blocks.
inline constexpr int kIntRows = 8;
inline constexpr int kIntVecs = 2;
inline constexpr int kIntRowsOfWords = 0;

}  // namespace
}  // namespace pixii::kernels
