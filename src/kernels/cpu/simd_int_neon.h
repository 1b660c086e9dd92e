// Sixteen 32-bit lanes, each four codes or a sum of products, in four NEON registers. Include after
// simd_neon.h, before one of simd_int_widened.h and simd_int_i8mm.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

struct IntVec {
  int32x4_t q[4];

  static IntVec Zero() { return Set(0); }

  static IntVec Set(std::int32_t x) {
    const int32x4_t all = vdupq_n_s32(x);
    return {{all, all, all, all}};
  }

  static IntVec Load(const std::uint32_t* p) {
    const auto load = [](const std::uint32_t* at) { return vreinterpretq_s32_u32(vld1q_u32(at)); };
    return {{load(p), load(p + 4), load(p + 8), load(p + 12)}};
  }

  void Store(std::uint32_t* p) const {
    vst1q_u32(p, vreinterpretq_u32_s32(q[0]));
    vst1q_u32(p + 4, vreinterpretq_u32_s32(q[1]));
    vst1q_u32(p + 8, vreinterpretq_u32_s32(q[2]));
    vst1q_u32(p + 12, vreinterpretq_u32_s32(q[3]));
  }

  IntVec LowNibbles() const {
    return OfBytes([](uint8x16_t bytes) { return vandq_u8(bytes, vdupq_n_u8(0x0F)); });
  }

  IntVec HighNibbles() const {
    return OfBytes([](uint8x16_t bytes) { return vshrq_n_u8(bytes, 4); });
  }

  Vec ToFloat() const {
    return {{vcvtq_f32_s32(q[0]), vcvtq_f32_s32(q[1]), vcvtq_f32_s32(q[2]), vcvtq_f32_s32(q[3])}};
  }

 private:
  template <class Function>
  IntVec OfBytes(Function function) const {
    const auto one = [&](int32x4_t x) {
      return vreinterpretq_s32_u8(function(vreinterpretq_u8_s32(x)));
    };
    return {{one(q[0]), one(q[1]), one(q[2]), one(q[3])}};
  }
};

inline IntVec operator+(IntVec a, IntVec b) {
  return {{vaddq_s32(a.q[0], b.q[0]), vaddq_s32(a.q[1], b.q[1]), vaddq_s32(a.q[2], b.q[2]),
           vaddq_s32(a.q[3], b.q[3])}};
}

}  // namespace
}  // namespace pixii::kernels
