// Loops that do nothing but read memory or multiply and add: what the kernels are measured against.
//
// Include after one simd_*.h. Anonymous for the reason in kernel_table.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

/// Reads all of `data`, a multiple of 256 bytes; returns something that depends on it.
inline float ReadStream(const void* data, Index size_bytes) {
  const float* at = static_cast<const float*>(data);
  const float* end = at + size_bytes / 4;
  Vec a = Vec::Zero();
  Vec b = Vec::Zero();
  Vec c = Vec::Zero();
  Vec d = Vec::Zero();
  for (; at < end; at += 64) {
    Prefetch(at + 512);
    Prefetch(at + 528);
    Prefetch(at + 544);
    Prefetch(at + 560);
    a = Max(a, Vec::Load(at));
    b = Max(b, Vec::Load(at + 16));
    c = Max(c, Vec::Load(at + 32));
    d = Max(d, Vec::Load(at + 48));
  }
  return Max(Max(a, b), Max(c, d)).ReduceMax();
}

inline constexpr int kRoofChains = kGemmRows * kGemmVecs;

/// `rounds` fused multiply-adds in each of as many independent registers as the linear kernel
/// keeps; returns how many multiply-adds of one lane that was.
inline Index MultiplyAdds(Index rounds, float* result) {
  Vec acc[kRoofChains];
  for (Vec& one : acc) {
    one = Vec::Zero();
  }
  const Vec x = Vec::Set(0.5F);
  const Vec y = Vec::Set(1.0F);
  for (Index i = 0; i < rounds; ++i) {
#pragma clang loop unroll(full)
    for (int c = 0; c < kRoofChains; ++c) {
      acc[c] = Fma(acc[c], x, y);
    }
  }
  Vec sum = acc[0];
  for (int c = 1; c < kRoofChains; ++c) {
    sum = sum + acc[c];
  }
  *result = sum.ReduceAdd();
  return rounds * kRoofChains * 16;
}

}  // namespace
}  // namespace pixii::kernels
