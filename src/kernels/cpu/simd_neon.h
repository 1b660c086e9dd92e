// Sixteen fp32 lanes in four NEON registers, with the same meaning as simd_avx2.h, so that both
// give equal bits. Included by isa_neon*.cc only; see kernel_table.h for why it is anonymous.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "kernels/cpu/kernel_table.h"

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

struct Vec {
  float32x4_t q[4];

  static Vec Zero() { return Set(0.0F); }

  static Vec Set(float x) {
    const float32x4_t all = vdupq_n_f32(x);
    return {{all, all, all, all}};
  }

  static Vec Load(const float* p) {
    return {{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
  }

  /// Lanes 0 .. n - 1 from p; the others are zero. n >= 16 loads all.
  static Vec LoadPart(const float* p, Index n) {
    if (n >= 16) {
      return Load(p);
    }
    float part[16] = {};
    for (Index i = 0; i < n; ++i) {
      part[i] = p[i];
    }
    return Load(part);
  }

  void Store(float* p) const {
    vst1q_f32(p, q[0]);
    vst1q_f32(p + 4, q[1]);
    vst1q_f32(p + 8, q[2]);
    vst1q_f32(p + 12, q[3]);
  }

  void StorePart(float* p, Index n) const {
    if (n >= 16) {
      Store(p);
      return;
    }
    float part[16];
    Store(part);
    for (Index i = 0; i < n; ++i) {
      p[i] = part[i];
    }
  }

  static Vec LoadBf16(const std::uint16_t* p, Index n) {
    std::uint16_t part[16] = {};
    const std::uint16_t* from = Whole(p, n, part);
    const auto widen = [](const std::uint16_t* at) {
      return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(at), 16));
    };
    return {{widen(from), widen(from + 4), widen(from + 8), widen(from + 12)}};
  }

  static Vec LoadF16(const std::uint16_t* p, Index n) {
    std::uint16_t part[16] = {};
    const std::uint16_t* from = Whole(p, n, part);
    const auto widen = [](const std::uint16_t* at) { return FromF16(vld1_u16(at)); };
    return {{widen(from), widen(from + 4), widen(from + 8), widen(from + 12)}};
  }

  void StoreBf16(std::uint16_t* p, Index n) const {
    const auto narrow = [](float32x4_t x) { return vmovn_u32(Bf16Bits(x)); };
    Store16(narrow(q[0]), narrow(q[1]), narrow(q[2]), narrow(q[3]), p, n);
  }

  void StoreF16(std::uint16_t* p, Index n) const {
    const auto narrow = [](float32x4_t x) { return vreinterpret_u16_f16(vcvt_f16_f32(x)); };
    Store16(narrow(q[0]), narrow(q[1]), narrow(q[2]), narrow(q[3]), p, n);
  }

  static Vec LoadInt8(const unsigned char* p, Index n) {
    const int8x16_t bytes = vreinterpretq_s8_u8(LoadBytes(p, n));
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes));
    const int16x8_t high = vmovl_high_s8(bytes);
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))}};
  }

  /// fp8 e4m3 without NaN codes: the bits of an fp16 that is 2^8 too small.
  static Vec LoadFp8(const unsigned char* p, Index n) {
    const uint8x16_t bytes = LoadBytes(p, n);
    const uint16x8_t low = HalvesOfFp8(vmovl_u8(vget_low_u8(bytes)));
    const uint16x8_t high = HalvesOfFp8(vmovl_high_u8(bytes));
    const auto widen = [](uint16x4_t half) { return vmulq_n_f32(FromF16(half), 256.0F); };
    return {{widen(vget_low_u16(low)), widen(vget_high_u16(low)), widen(vget_low_u16(high)),
             widen(vget_high_u16(high))}};
  }

  /// Rounded to whole numbers, ties to even; all within -127 .. 127.
  void StoreInt8(unsigned char* p, Index n) const {
    StoreBytes(vcvtnq_s32_f32(q[0]), vcvtnq_s32_f32(q[1]), vcvtnq_s32_f32(q[2]),
               vcvtnq_s32_f32(q[3]), p, n);
  }

  /// Rounded to fp8 e4m3, ties to even; all within -448 .. 448.
  void StoreFp8(unsigned char* p, Index n) const {
    // Signed bytes survive the saturating narrowing below.
    StoreBytes(Fp8Bits(q[0]), Fp8Bits(q[1]), Fp8Bits(q[2]), Fp8Bits(q[3]), p, n);
  }

  /// Larger of two by their bits, which must be of absolute values: NaN above infinity above all.
  static Vec MaxOfBits(Vec a, Vec b) {
    const auto larger = [](float32x4_t x, float32x4_t y) {
      return vreinterpretq_f32_s32(vmaxq_s32(vreinterpretq_s32_f32(x), vreinterpretq_s32_f32(y)));
    };
    return {{larger(a.q[0], b.q[0]), larger(a.q[1], b.q[1]), larger(a.q[2], b.q[2]),
             larger(a.q[3], b.q[3])}};
  }

  float ReduceMaxOfBits() const {
    const auto bits = [](float32x4_t x) { return vmaxvq_s32(vreinterpretq_s32_f32(x)); };
    int top = 0;
    for (const float32x4_t& part : q) {
      top = bits(part) > top ? bits(part) : top;
    }
    float out;
    __builtin_memcpy(&out, &top, sizeof(out));
    return out;
  }

  /// Even elements of the 32 bf16 at p.
  static Vec LoadEven(const std::uint16_t* p) { return LoadPairs(p).EvenOfPairs(); }

  /// Odd elements of the 32 bf16 at p.
  static Vec LoadOdd(const std::uint16_t* p) { return LoadPairs(p).OddOfPairs(); }

  /// The same of pairs that are in the lanes already.
  Vec EvenOfPairs() const {
    return OfWords([](uint32x4_t word) { return vreinterpretq_f32_u32(vshlq_n_u32(word, 16)); });
  }

  Vec OddOfPairs() const {
    return OfWords([](uint32x4_t word) {
      return vreinterpretq_f32_u32(vandq_u32(word, vdupq_n_u32(0xFFFF0000U)));
    });
  }

  /// Element kIndex of the four int8 in each lane.
  template <int kIndex>
  Vec Int8OfWords() const {
    return OfWords([](uint32x4_t word) {
      const int32x4_t top = vreinterpretq_s32_u32(vshlq_n_u32(word, 24 - 8 * kIndex));
      return vcvtq_f32_s32(vshrq_n_s32(top, 24));
    });
  }

  /// The same of fp8 e4m3 without NaN codes.
  template <int kIndex>
  Vec Fp8OfWords() const {
    return OfWords([](uint32x4_t word) { return FromFp8(vshlq_n_u32(word, 24 - 8 * kIndex)); });
  }

  /// Rounded to bf16 and back.
  Vec RoundedToBf16() const {
    return Map([](float32x4_t x) { return vreinterpretq_f32_u32(vshlq_n_u32(Bf16Bits(x), 16)); });
  }

  /// Lanes i and i + 8, i and i + 4, i and i + 2, i and i + 1.
  float ReduceAdd() const {
    const float32x4_t sum = vaddq_f32(vaddq_f32(q[0], q[2]), vaddq_f32(q[1], q[3]));
    const float32x2_t pair = vadd_f32(vget_low_f32(sum), vget_high_f32(sum));
    return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
  }

  float ReduceMax() const {
    const float32x4_t max = Larger(Larger(q[0], q[2]), Larger(q[1], q[3]));
    const float32x4_t two = Larger(max, vextq_f32(max, max, 2));
    return vgetq_lane_f32(Larger(two, vextq_f32(two, two, 1)), 0);
  }

  /// 2^n for integral n in -126 .. 127.
  static Vec PowerOfTwo(Vec n) {
    return n.Map([](float32x4_t x) {
      const int32x4_t biased = vaddq_s32(vcvtnq_s32_f32(x), vdupq_n_s32(127));
      return vreinterpretq_f32_s32(vshlq_n_s32(biased, 23));
    });
  }

  /// Lanes 0, 0, 1, 1, ... 7, 7.
  Vec LowLanesTwice() const {
    return {{vzip1q_f32(q[0], q[0]), vzip2q_f32(q[0], q[0]), vzip1q_f32(q[1], q[1]),
             vzip2q_f32(q[1], q[1])}};
  }

  /// Lanes 1, 0, 3, 2, ...
  Vec PairsSwapped() const {
    return Map([](float32x4_t x) { return vrev64q_f32(x); });
  }

  Vec EvenLanesNegated() const {
    return OfWords([](uint32x4_t word) {
      const uint32x4_t signs = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000U));
      return vreinterpretq_f32_u32(veorq_u32(word, signs));
    });
  }

  /// The float whose exponent is the lanes' lowest bits.
  Vec LowBitsToExponent() const {
    return OfWords([](uint32x4_t word) { return vreinterpretq_f32_u32(vshlq_n_u32(word, 23)); });
  }

  Vec Round() const {
    return Map([](float32x4_t x) { return vrndnq_f32(x); });
  }

  /// b where a < limit, else c.
  static Vec SelectLess(Vec a, Vec limit, Vec b, Vec c) {
    const auto choose = [&](int i) {
      return vbslq_f32(vcltq_f32(a.q[i], limit.q[i]), b.q[i], c.q[i]);
    };
    return {{choose(0), choose(1), choose(2), choose(3)}};
  }

  /// Lanes begin .. end - 1 of a, the others of b.
  static Vec SelectRange(Vec a, Vec b, Index begin, Index end) {
    const auto within = [](Index x) { return static_cast<int>(x < 0 ? 0 : x > 16 ? 16 : x); };
    const int32x4_t first = vdupq_n_s32(within(begin));
    const int32x4_t last = vdupq_n_s32(within(end));
    const int32_t numbers[4] = {0, 1, 2, 3};
    const int32x4_t lanes = vld1q_s32(numbers);
    const auto choose = [&](int i) {
      const int32x4_t lane = vaddq_s32(lanes, vdupq_n_s32(4 * i));
      return vbslq_f32(vandq_u32(vcgeq_s32(lane, first), vcltq_s32(lane, last)), a.q[i], b.q[i]);
    };
    return {{choose(0), choose(1), choose(2), choose(3)}};
  }

  Vec Negated() const {
    return Map([](float32x4_t x) { return vnegq_f32(x); });
  }

  Vec Absolute() const {
    return Map([](float32x4_t x) { return vabsq_f32(x); });
  }

  /// Of two, y if either is NaN or both are zeros.
  static float32x4_t Larger(float32x4_t x, float32x4_t y) {
    return vbslq_f32(vcgtq_f32(x, y), x, y);
  }

  static float32x4_t Smaller(float32x4_t x, float32x4_t y) {
    return vbslq_f32(vcltq_f32(x, y), x, y);
  }

 private:
  template <class Function>
  Vec Map(Function function) const {
    return {{function(q[0]), function(q[1]), function(q[2]), function(q[3])}};
  }

  template <class Function>
  Vec OfWords(Function function) const {
    return Map([&](float32x4_t x) { return function(vreinterpretq_u32_f32(x)); });
  }

  static Vec LoadPairs(const std::uint16_t* p) {
    const auto load = [](const std::uint16_t* at) { return vreinterpretq_f32_u16(vld1q_u16(at)); };
    return {{load(p), load(p + 8), load(p + 16), load(p + 24)}};
  }

  static float32x4_t FromF16(uint16x4_t bits) { return vcvt_f32_f16(vreinterpret_f16_u16(bits)); }

  static uint16x8_t HalvesOfFp8(uint16x8_t codes) {
    const uint16x8_t sign = vshlq_n_u16(vandq_u16(codes, vdupq_n_u16(0x80)), 8);
    const uint16x8_t rest = vshlq_n_u16(vandq_u16(codes, vdupq_n_u16(0x7F)), 7);
    return vorrq_u16(sign, rest);
  }

  /// Of an e4m3 code in each lane's top byte: the bits of an fp32 of the same value but below the
  /// smallest normal code, where that is as much too large as it lacks to it.
  static float32x4_t FromFp8(uint32x4_t top) {
    const uint32x4_t rest = vandq_u32(vshrq_n_u32(top, 4), vdupq_n_u32(0x07F00000));
    const float32x4_t value = vreinterpretq_f32_u32(vaddq_u32(rest, vdupq_n_u32(120U << 23)));
    const float32x4_t lacking = Larger(vdupq_n_f32(0.0F), vsubq_f32(vdupq_n_f32(0x1p-6F), value));
    const uint32x4_t sign = vandq_u32(top, vdupq_n_u32(0x80000000U));
    return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(vsubq_f32(value, lacking)), sign));
  }

  static const std::uint16_t* Whole(const std::uint16_t* p, Index n, std::uint16_t (&part)[16]) {
    if (n >= 16) {
      return p;
    }
    for (Index i = 0; i < n; ++i) {
      part[i] = p[i];
    }
    return part;
  }

  static void Store16(uint16x4_t a, uint16x4_t b, uint16x4_t c, uint16x4_t d, std::uint16_t* p,
                      Index n) {
    std::uint16_t part[16];
    std::uint16_t* to = n >= 16 ? p : part;
    vst1_u16(to, a);
    vst1_u16(to + 4, b);
    vst1_u16(to + 8, c);
    vst1_u16(to + 12, d);
    for (Index i = 0; n < 16 && i < n; ++i) {
      p[i] = part[i];
    }
  }

  static uint8x16_t LoadBytes(const unsigned char* p, Index n) {
    if (n >= 16) {
      return vld1q_u8(p);
    }
    unsigned char part[16] = {};
    for (Index i = 0; i < n; ++i) {
      part[i] = p[i];
    }
    return vld1q_u8(part);
  }

  /// Sixteen whole numbers within -128 .. 127 as bytes.
  static void StoreBytes(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, unsigned char* p,
                         Index n) {
    const int16x8_t low = vcombine_s16(vqmovn_s32(a), vqmovn_s32(b));
    const int16x8_t high = vcombine_s16(vqmovn_s32(c), vqmovn_s32(d));
    unsigned char part[16];
    vst1q_u8(part, vreinterpretq_u8_s8(vcombine_s8(vqmovn_s16(low), vqmovn_s16(high))));
    for (Index i = 0; i < 16 && i < n; ++i) {
      p[i] = part[i];
    }
  }

  /// Codes of fp8 e4m3 as signed bytes in 32 bits.
  static int32x4_t Fp8Bits(float32x4_t x) {
    const int32x4_t bits = vreinterpretq_s32_f32(x);
    const int32x4_t magnitude = vandq_s32(bits, vdupq_n_s32(0x7FFFFFFF));
    const float32x4_t raised = vaddq_f32(vreinterpretq_f32_s32(magnitude), vdupq_n_f32(0x1p14F));
    const int32x4_t aligned = vsubq_s32(vreinterpretq_s32_f32(raised), vdupq_n_s32(0x46800000));
    const int32x4_t odd = vandq_s32(vshrq_n_s32(magnitude, 20), vdupq_n_s32(1));
    const int32x4_t rebiased =
        vaddq_s32(magnitude, vaddq_s32(odd, vdupq_n_s32(0x7FFFF - (120 << 23))));
    const uint32x4_t small = vcltq_s32(magnitude, vdupq_n_s32(0x3C800000));
    const int32x4_t code = vbslq_s32(
        small, aligned, vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(rebiased), 20)));
    return vorrq_s32(code, vshlq_n_s32(vshrq_n_s32(bits, 31), 7));  // -128 or 0
  }

  /// Upper halves, rounded to nearest even, in the low 16 bits of each lane; NaN stays NaN.
  static uint32x4_t Bf16Bits(float32x4_t x) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t upper = vshrq_n_u32(bits, 16);
    const uint32x4_t odd = vandq_u32(upper, vdupq_n_u32(1));
    const uint32x4_t sum = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd);
    const uint32x4_t quiet = vorrq_u32(upper, vdupq_n_u32(0x40));
    return vbslq_u32(vceqq_f32(x, x), vshrq_n_u32(sum, 16), quiet);
  }
};

inline Vec Fma(Vec a, Vec b, Vec c) {
  return {{vfmaq_f32(c.q[0], a.q[0], b.q[0]), vfmaq_f32(c.q[1], a.q[1], b.q[1]),
           vfmaq_f32(c.q[2], a.q[2], b.q[2]), vfmaq_f32(c.q[3], a.q[3], b.q[3])}};
}

inline Vec FmaOfFloat(const float* a, Vec b, Vec c) { return Fma(Vec::Set(*a), b, c); }

inline Vec operator+(Vec a, Vec b) {
  return {{vaddq_f32(a.q[0], b.q[0]), vaddq_f32(a.q[1], b.q[1]), vaddq_f32(a.q[2], b.q[2]),
           vaddq_f32(a.q[3], b.q[3])}};
}

inline Vec operator-(Vec a, Vec b) {
  return {{vsubq_f32(a.q[0], b.q[0]), vsubq_f32(a.q[1], b.q[1]), vsubq_f32(a.q[2], b.q[2]),
           vsubq_f32(a.q[3], b.q[3])}};
}

inline Vec operator*(Vec a, Vec b) {
  return {{vmulq_f32(a.q[0], b.q[0]), vmulq_f32(a.q[1], b.q[1]), vmulq_f32(a.q[2], b.q[2]),
           vmulq_f32(a.q[3], b.q[3])}};
}

inline Vec operator/(Vec a, Vec b) {
  return {{vdivq_f32(a.q[0], b.q[0]), vdivq_f32(a.q[1], b.q[1]), vdivq_f32(a.q[2], b.q[2]),
           vdivq_f32(a.q[3], b.q[3])}};
}

/// Of two, b if either is NaN: not vmaxq, which gives NaN.
inline Vec Max(Vec a, Vec b) {
  return {{Vec::Larger(a.q[0], b.q[0]), Vec::Larger(a.q[1], b.q[1]), Vec::Larger(a.q[2], b.q[2]),
           Vec::Larger(a.q[3], b.q[3])}};
}

inline Vec Min(Vec a, Vec b) {
  return {{Vec::Smaller(a.q[0], b.q[0]), Vec::Smaller(a.q[1], b.q[1]), Vec::Smaller(a.q[2], b.q[2]),
           Vec::Smaller(a.q[3], b.q[3])}};
}

inline void Transpose4(float32x4_t& r0, float32x4_t& r1, float32x4_t& r2, float32x4_t& r3) {
  const float64x2_t a0 = vreinterpretq_f64_f32(vtrn1q_f32(r0, r1));
  const float64x2_t a1 = vreinterpretq_f64_f32(vtrn2q_f32(r0, r1));
  const float64x2_t a2 = vreinterpretq_f64_f32(vtrn1q_f32(r2, r3));
  const float64x2_t a3 = vreinterpretq_f64_f32(vtrn2q_f32(r2, r3));
  r0 = vreinterpretq_f32_f64(vtrn1q_f64(a0, a2));
  r1 = vreinterpretq_f32_f64(vtrn1q_f64(a1, a3));
  r2 = vreinterpretq_f32_f64(vtrn2q_f64(a0, a2));
  r3 = vreinterpretq_f32_f64(vtrn2q_f64(a1, a3));
}

/// rows[i] lane j becomes rows[j] lane i.
inline void Transpose(Vec (&r)[16]) {
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i += 4) {
#pragma clang loop unroll(full)
    for (int j = 0; j < 4; ++j) {
      Transpose4(r[i].q[j], r[i + 1].q[j], r[i + 2].q[j], r[i + 3].q[j]);
    }
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; ++i) {  // the off-diagonal quarters change places
#pragma clang loop unroll(full)
    for (int j = i / 4 + 1; j < 4; ++j) {
      const int other = 4 * j + i % 4;
      const float32x4_t right = r[i].q[j];
      r[i].q[j] = r[other].q[i / 4];
      r[other].q[i / 4] = right;
    }
  }
}

inline void Prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }

/// Into the second level of cache.
inline void PrefetchFar(const void* p) { __builtin_prefetch(p, 0, 2); }

// Register blocks: 32 registers hold as many accumulators as AVX2's 16 of twice the width.
inline constexpr int kGemmRows = 6;
inline constexpr int kGemmVecs = 1;  // of 16 outputs
inline constexpr int kFewRows = 6;   // of few rows, whose weights are widened on the way
inline constexpr int kFewRowsOfTwoVecs = 3;
inline constexpr int kStraightRowsMax = 4;  // of more, weights are laid out first
inline constexpr int kBlockRows = 6;        // of many rows
inline constexpr int kBlockVecs = 1;
inline constexpr int kBlockRowsOfFloats = 0;
inline constexpr int kAttentionRows = 6;
inline constexpr int kAttentionVecs = 1;
inline constexpr int kAttentionFewRows = 2;  // up to so many rows, twice as many vectors

}  // namespace
}  // namespace pixii::kernels
