// Products of four unsigned codes and four signed inputs a lane where there is no I8MM: in 16 bits.
// Include after simd_int_neon.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline int32x4_t DotQuarter(int32x4_t sum, int32x4_t w, int32x4_t x) {
  const uint16x8_t codes = vreinterpretq_u16_s32(w);
  const int16x8_t inputs = vreinterpretq_s16_s32(x);
  const int16x8_t even_w = vreinterpretq_s16_u16(vandq_u16(codes, vdupq_n_u16(0x00FF)));
  const int16x8_t odd_w = vreinterpretq_s16_u16(vshrq_n_u16(codes, 8));
  const int16x8_t even_x = vshrq_n_s16(vshlq_n_s16(inputs, 8), 8);
  const int16x8_t odd_x = vshrq_n_s16(inputs, 8);
  int32x4_t low = vmull_s16(vget_low_s16(even_w), vget_low_s16(even_x));
  int32x4_t high = vmull_high_s16(even_w, even_x);
  low = vmlal_s16(low, vget_low_s16(odd_w), vget_low_s16(odd_x));
  high = vmlal_high_s16(high, odd_w, odd_x);
  return vaddq_s32(sum, vpaddq_s32(low, high));
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
inline constexpr int kIntRows = 3;
inline constexpr int kIntVecs = 1;
inline constexpr int kIntRowsOfWords = 0;

}  // namespace
}  // namespace pixii::kernels
