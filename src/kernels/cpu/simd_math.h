// exp, tanh and the normal distribution's tail on Vec: equal bits on every instruction set.
//
// Include after one simd_*.h that defines Vec. Anonymous for the reason in kernel_table.h.
// Source: exp by the Cephes scheme (Cody-Waite reduction by ln 2, degree-7 polynomial), at most 2
// ulp; erfc as
//         exp(-z^2) times a degree-9 Chebyshev fit of ours in t = 1 / (1 + z / 2), relative error
//         2e-7.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

/// e^x. 0 below -87.33, finite (2.4e38) above 88.37; NaN stays NaN.
inline Vec Exp(Vec x) {
  const Vec lowest = Vec::Set(-87.33F);
  const Vec clamped = Max(lowest, Min(Vec::Set(88.37F), x));  // operand order keeps a NaN
  const Vec n = (clamped * Vec::Set(1.44269504F)).Round();
  Vec r = Fma(n, Vec::Set(-0.693359375F), clamped);
  r = Fma(n, Vec::Set(2.12194440e-4F), r);
  Vec p = Vec::Set(1.9875691500e-4F);
  p = Fma(p, r, Vec::Set(1.3981999507e-3F));
  p = Fma(p, r, Vec::Set(8.3334519073e-3F));
  p = Fma(p, r, Vec::Set(4.1665795894e-2F));
  p = Fma(p, r, Vec::Set(1.6666665459e-1F));
  p = Fma(p, r, Vec::Set(5.0000001201e-1F));
  const Vec y = Fma(p, r * r, r) + Vec::Set(1.0F);
  return Vec::SelectLess(x, lowest, Vec::Zero(), y * Vec::PowerOfTwo(n));
}

/// 2^x for x up to 126, relative error at most 4e-7; 2^-125 below -125, exactly 1 at 0; NaN stays
/// NaN. Source: 2^r = 1 + r q(r) on -0.5 .. 0.5, q of degree 4 through Chebyshev nodes.
inline Vec Exp2(Vec x) {
  const Vec magic = Vec::Set(12583039.0F);  // 1.5 * 2^23 + 127: adding it rounds to a whole number
  const Vec clamped = Max(Vec::Set(-125.0F), x);  // operand order keeps a NaN
  const Vec biased = clamped + magic;
  const Vec r = clamped - (biased - magic);
  Vec p = Vec::Set(0.001338130212F);
  p = Fma(p, r, Vec::Set(0.009666368365F));
  p = Fma(p, r, Vec::Set(0.05550381169F));
  p = Fma(p, r, Vec::Set(0.2402234972F));
  p = Fma(p, r, Vec::Set(0.6931471825F));
  p = Fma(p, r, Vec::Set(1.0F));
  return p * biased.LowBitsToExponent();
}

/// Absolute error at most 2e-7.
inline Vec Tanh(Vec x) {
  const Vec limited = Max(Vec::Set(-10.0F), Min(Vec::Set(10.0F), x));
  return Vec::Set(1.0F) - Vec::Set(2.0F) / (Exp(limited + limited) + Vec::Set(1.0F));
}

inline Vec Sigmoid(Vec x) { return Vec::Set(1.0F) / (Vec::Set(1.0F) + Exp(x.Negated())); }

inline Vec Silu(Vec x) { return x / (Vec::Set(1.0F) + Exp(x.Negated())); }

/// x sigmoid(1.702 x).
inline Vec QuickGelu(Vec x) { return x * Sigmoid(Vec::Set(1.702F) * x); }

/// x (1 + tanh u) / 2 = x sigmoid(2u).
inline Vec GeluTanh(Vec x) {
  const Vec inner = Fma(Vec::Set(0.044715F) * x * x, x, x);
  return x * Sigmoid(Vec::Set(2.0F * 0.7978845608F) * inner);
}

/// x times the normal distribution function.
inline Vec Gelu(Vec x) {
  const Vec z = Min(Vec::Set(9.3F), x.Absolute() * Vec::Set(0.7071067812F));
  const Vec t = Vec::Set(1.0F) / Fma(z, Vec::Set(0.5F), Vec::Set(1.0F));
  Vec p = Vec::Set(-4.6824438242e-2F);
  p = Fma(p, t, Vec::Set(2.2156606676e-1F));
  p = Fma(p, t, Vec::Set(-3.4781782827e-1F));
  p = Fma(p, t, Vec::Set(1.0465482118e-1F));
  p = Fma(p, t, Vec::Set(1.0665444512e-1F));
  p = Fma(p, t, Vec::Set(1.3728690789e-1F));
  p = Fma(p, t, Vec::Set(2.6352565180e-1F));
  p = Fma(p, t, Vec::Set(2.7847327558e-1F));
  p = Fma(p, t, Vec::Set(2.8249953507e-1F));
  p = Fma(p, t, Vec::Set(-1.8448167628e-5F));
  const Vec tail = Vec::Set(0.5F) * p * Exp((z * z).Negated());
  return x * Vec::SelectLess(x, Vec::Zero(), tail, Vec::Set(1.0F) - tail);
}

inline Vec Relu(Vec x) { return Vec::SelectLess(x, Vec::Zero(), Vec::Zero(), x); }

}  // namespace
}  // namespace pixii::kernels
