// Products of four unsigned codes and four signed inputs a lane in AVX512-VNNI. Include after
// simd_int_avx512.h. Source: Intel SDM volume 2, VPDPBUSD.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

/// sum + w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3, exact.
inline IntVec Dot(IntVec sum, IntVec w, IntVec x) { return {_mm512_dpbusd_epi32(sum.v, w.v, x.v)}; }

/// The same with the word at `x` in every lane, read by the instruction itself: one instruction
/// less to issue, which counts while a busy sibling thread takes half of the front end. Compilers
/// load a word that several columns need once, into a register.
inline IntVec DotOfWord(IntVec sum, IntVec w, const std::int32_t* x) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum.v) : "v"(w.v), "m"(*x));
  return sum;
}

// Register blocks; of so many rows words are read by the multiplication itself.
inline constexpr int kIntRows = 14;
inline constexpr int kIntVecs = 2;
inline constexpr int kIntRowsOfWords = 6;

}  // namespace
}  // namespace pixii::kernels
