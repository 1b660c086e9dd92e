// Linear in AVX512-BF16: vdpbf16ps multiplies a pair of bf16 by a pair and adds both products to an
// fp32 lane.
//
// Order: pairs (k, k + 1) ascending in one accumulator per shard; within a pair as the instruction
// does it. Denormals count as zero there. So bits differ from the fused multiply-add kernels, hence
// another numerics name, but they are as independent of the row count. Include after simd_avx512.h
// and simd_gemm.h. Anonymous for the reason in kernel_table.h. Source: Intel SDM volume 2,
// VDPBF16PS.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

/// bf16 pair at `p` in all lanes.
inline __m512bh BroadcastPair(const std::uint16_t* p) {
  int pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
}

struct DotMath {
  using Input = std::uint16_t;
  static constexpr int kRows = kGemmRows;

  static constexpr int Vecs(int /*rows*/) { return kGemmVecs; }

  template <int R, int C>
  static void Run(const Input* a, const void* panel, Index k_begin, Index k_count, Index column,
                  const Tile& tile) {
    Vec acc[R][C];
    BeginTile(tile, acc);
    const std::uint16_t* w =
        static_cast<const std::uint16_t*>(panel) + k_begin * kPanelOutputs + column * 2;
    for (Index k = 0; k < k_count; k += 2, w += 2 * kPanelOutputs) {
      Prefetch(w + 16 * kPanelOutputs);
      Prefetch(w + 17 * kPanelOutputs);
      __m512bh weight[C];
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        weight[c] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + c * 32));
      }
#pragma clang loop unroll(full)
      for (int r = 0; r < R; ++r) {
        const __m512bh x = BroadcastPair(a + r * kInputStride + k);
#pragma clang loop unroll(full)
        for (int c = 0; c < C; ++c) {
          acc[r][c].v = _mm512_dpbf16_ps(acc[r][c].v, x, weight[c]);
        }
      }
    }
    EndTile(tile, acc);
  }

  static void Pack(const float* in, Index count, bool /*round*/, Input* out, Index padded) {
    for (Index i = 0; i < padded; i += 16) {
      Vec::LoadPart(in + i, count - i).StoreBf16(out + i, padded - i);
    }
  }
};

/// A pair of bf16 a unit: what many rows are multiplied in.
struct DotUnits {
  static constexpr Index kElements = 2;

  static Vec MultiplyAdd(Vec x, Vec w, Vec sum) {
    return {
        _mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(x.v), reinterpret_cast<__m512bh>(w.v))};
  }

  static Vec MultiplyAddOfUnit(const float* x, Vec w, Vec sum) {
    asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum.v) : "v"(w.v), "m"(*x));
    return sum;
  }

  /// `count` elements of `rows` rows to [units][rows] pairs, zeros past the end.
  static void Pack(const float* in, Index stride, Index rows, Index count, Index units,
                   bool /*round*/, float* out) {
    for (Index unit = 0; unit < units; unit += 16) {
      Vec lines[16];
      for (Index r = 0; r < 16; ++r) {
        alignas(64) std::uint16_t pairs[32] = {};
        const Index at = unit * 2;
        if (r < rows && at < count) {
          Vec::LoadPart(in + r * stride + at, count - at).StoreBf16(pairs, 16);
          if (count - at > 16) {
            Vec::LoadPart(in + r * stride + at + 16, count - at - 16).StoreBf16(pairs + 16, 16);
          }
        }
        lines[r] = Vec::Load(reinterpret_cast<const float*>(pairs));
      }
      Transpose(lines);
      for (Index i = 0; i < 16 && unit + i < units; ++i) {
        lines[i].StorePart(out + (unit + i) * rows, rows);
      }
    }
  }
};

inline bool UsesDot(const PackedWeight& weight) { return weight.bf16 && weight.round_input; }

inline Index DotInputBytes(const PackedWeight& weight, Index rows) {
  return UsesDot(weight) ? BlockedInputBytes(weight, rows) : FmaInputBytes(weight, rows);
}

inline void PackDot(const LinearCall& call) {
  if (UsesDot(*call.weight)) {
    PackBlocks<DotUnits>(call);
  } else {
    PackBlocks<FmaUnits>(call);
  }
}

inline void LinearDot(const LinearCall& call) {
  if (!UsesDot(*call.weight)) {
    LinearFma(call);
  } else if (call.packed_input != nullptr) {
    BlockedLoop<DotUnits>(call).Run();
  } else {
    LinearLoop<DotMath>(call).Run();
  }
}

inline Index MultiplyAddsDot(Index rounds, float* result) {
  Vec acc[kRoofChains];
  for (Vec& one : acc) {
    one = Vec::Zero();
  }
  const __m512bh ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3F80));
  for (Index i = 0; i < rounds; ++i) {
#pragma clang loop unroll(full)
    for (int c = 0; c < kRoofChains; ++c) {
      acc[c].v = _mm512_dpbf16_ps(acc[c].v, ones, ones);
    }
  }
  Vec sum = acc[0];
  for (int c = 1; c < kRoofChains; ++c) {
    sum = sum + acc[c];
  }
  *result = sum.ReduceAdd();
  return rounds * kRoofChains * 32;
}

}  // namespace
}  // namespace pixii::kernels
