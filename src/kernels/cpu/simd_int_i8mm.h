// Products of four unsigned codes and four signed inputs a lane by usdot. Include after
// simd_int_neon.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline int32x4_t DotQuarter(int32x4_t sum, int32x4_t w, int32x4_t x) {
  return vusdotq_s32(sum, vreinterpretq_u8_s32(w), vreinterpretq_s8_s32(x));
}

/// sum + w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3, exact.
inline IntVec Dot(IntVec sum, IntVec w, IntVec x) {
  return {{DotQuarter(sum.q[0], w.q[0], x.q[0]), DotQuarter(sum.q[1], w.q[1], x.q[1]),
           DotQuarter(sum.q[2], w.q[2], x.q[2]), DotQuarter(sum.q[3], w.q[3], x.q[3])}};
}

inline IntVec DotOfWord(IntVec sum, IntVec w, const std::int32_t* x) {
  return Dot(sum, w, IntVec::Set(*x));
}

// Register blocks.
inline constexpr int kIntRows = 6;
inline constexpr int kIntVecs = 1;
inline constexpr int kIntRowsOfWords = 0;

}  // namespace
}  // namespace pixii::kernels
