// Products of four unsigned codes and four signed inputs a lane in AVX512-VNNI. Include after
// simd_int_avx512.h. Source: Intel SDM volume 2, VPDPBUSD.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

/// sum + w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3, exact.
inline IntVec Dot(IntVec sum, IntVec w, IntVec x) { return {_mm512_dpbusd_epi32(sum.v, w.v, x.v)}; }

// Register blocks.
inline constexpr int kIntRows = 9;
inline constexpr int kIntVecs = 3;

}  // namespace
}  // namespace pixii::kernels
