// Loops that do nothing but read memory or multiply and add: what the kernels are measured against.
//
// Include after one simd_*.h. Anonymous for the reason in kernel_table.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

/// Reads all of `data`, a multiple of 512 bytes; returns something that depends on it. Four
/// streams, each with a prefetcher of the hardware's own, besides prefetches: 4 to 6 % faster than
/// one.
inline float ReadStream(const void* data, Index size_bytes) {
  constexpr int kStreams = 4;
  const Index quarter = size_bytes / 4 / kStreams;
  const float* at = static_cast<const float*>(data);
  Vec largest[kStreams] = {Vec::Zero(), Vec::Zero(), Vec::Zero(), Vec::Zero()};
  for (const float* end = at + quarter; at < end; at += 32) {
#pragma clang loop unroll(full)
    for (int stream = 0; stream < kStreams; ++stream) {
      const float* from = at + stream * quarter;
      Prefetch(from + 512);
      Prefetch(from + 528);
      largest[stream] = Max(largest[stream], Max(Vec::Load(from), Vec::Load(from + 16)));
    }
  }
  return Max(Max(largest[0], largest[1]), Max(largest[2], largest[3])).ReduceMax();
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
