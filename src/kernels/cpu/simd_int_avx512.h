// Sixteen 32-bit lanes, each four codes or a sum of products, in one AVX-512 register. What
// multiplies them is in simd_int_madd.h or simd_int_vnni.h. Include after simd_avx512.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

struct IntVec {
  __m512i v;

  static IntVec Zero() { return {_mm512_setzero_si512()}; }

  static IntVec Set(std::int32_t x) { return {_mm512_set1_epi32(x)}; }

  static IntVec Load(const std::uint32_t* p) { return {_mm512_loadu_si512(p)}; }

  void Store(std::uint32_t* p) const { _mm512_storeu_si512(p, v); }

  IntVec LowNibbles() const { return {_mm512_and_si512(v, _mm512_set1_epi8(0x0F))}; }

  IntVec HighNibbles() const {
    return {_mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(0x0F))};
  }

  Vec ToFloat() const { return {_mm512_cvtepi32_ps(v)}; }
};

inline IntVec operator+(IntVec a, IntVec b) { return {_mm512_add_epi32(a.v, b.v)}; }

}  // namespace
}  // namespace pixii::kernels
