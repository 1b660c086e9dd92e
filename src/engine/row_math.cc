#include "engine/row_math.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#pragma clang fp contract(off)

namespace pixii::engine {

namespace {

constexpr std::size_t kLanes = 8;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Eight lanes whatever the machine's registers hold: the lanes are part of the definition of a sum.
// Wider registers, chosen at run time, do the same operations in fewer instructions.
using Floats = float __attribute__((ext_vector_type(kLanes)));
using Ints = std::int32_t __attribute__((ext_vector_type(kLanes)));
#define PX_INLINE inline __attribute__((always_inline))
#if defined(__x86_64__)
#define PX_WIDE __attribute__((target("avx2")))
#else
#define PX_WIDE
#endif

PX_INLINE void Load(const float* from, Floats& to) { std::memcpy(&to, from, sizeof(to)); }

// The first `count` values, then `fill`.
PX_INLINE void LoadPart(const float* from, std::size_t count, float fill, Floats& to) {
  to = fill;
  std::memcpy(&to, from, count * sizeof(float));
}

// Cephes' expf polynomial on [-ln2/2, ln2/2]: e^x = 2^n * e^r. In place.
PX_INLINE void Exp(Floats& x) {
  constexpr float kLog2E = 1.44269504088896341F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to the nearest integer
  constexpr std::int32_t kRoundBits = 0x4B400000;
  // Written so that NaN falls to the bound too.
  Ints is_in_range = x > -87.0F;
  Floats bounded = is_in_range ? x : Floats(-87.0F);
  Floats shifted = bounded * kLog2E + kRound;
  Floats n = shifted - kRound;
  Floats r = bounded - n * kLn2High;
  r = r - n * kLn2Low;
  Floats p = Floats(1.9875691500e-4F);
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  Ints scale = (__builtin_bit_cast(Ints, shifted) - kRoundBits + 127) << 23;
  x = is_in_range ? p * __builtin_bit_cast(Floats, scale) : Floats(0.0F);
}

PX_INLINE double LaneSum(const Floats& lanes) {
  return ((double{lanes[0]} + double{lanes[4]}) + (double{lanes[2]} + double{lanes[6]})) +
         ((double{lanes[1]} + double{lanes[5]}) + (double{lanes[3]} + double{lanes[7]}));
}

PX_INLINE float LaneMax(const Floats& lanes) {
  float max = lanes[0];
  for (std::size_t i = 1; i < kLanes; ++i) {
    max = lanes[i] > max ? lanes[i] : max;
  }
  return max;
}

// exp((x - max) / divisor) of eight values, added to `lanes`.
PX_INLINE void AddWeights(Floats& x, float max, float divisor, Floats& lanes) {
  x = (x - max) / divisor;
  Exp(x);
  lanes += x;
}

// Sum over one block of exp((row[i] - max) / divisor); writes the terms to `weights` unless it is
// null.
PX_INLINE double BlockSum(const float* row, std::size_t count, float max, float divisor,
                          float* weights) {
  Floats lanes = 0.0F;
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Floats x;
    Load(row + i, x);
    AddWeights(x, max, divisor, lanes);
    if (weights != nullptr) {
      std::memcpy(weights + i, &x, sizeof(x));
    }
  }
  if (i < count) {
    Floats x;
    LoadPart(row + i, count - i, kLowest, x);
    AddWeights(x, max, divisor, lanes);
    if (weights != nullptr) {
      std::memcpy(weights + i, &x, (count - i) * sizeof(float));
    }
  }
  return LaneSum(lanes);
}

PX_INLINE double SumOfExponentials(const float* row, std::size_t size, float max) {
  double total = 0;
  for (std::size_t begin = 0; begin < size; begin += kRowBlock) {
    total += BlockSum(row + begin, std::min(kRowBlock, size - begin), max, 1.0F, nullptr);
  }
  return total;
}

PX_INLINE double WeighRow(const float* row, std::size_t size, float max, float divisor,
                          float* weights, double* block_sums) {
  double total = 0;
  for (std::size_t begin = 0, block = 0; begin < size; begin += kRowBlock, ++block) {
    block_sums[block] =
        BlockSum(row + begin, std::min(kRowBlock, size - begin), max, divisor, weights + begin);
    total += block_sums[block];
  }
  return total;
}

PX_INLINE float BlockMax(const float* row, std::size_t count) {
  Floats lanes = kLowest;
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Floats x;
    Load(row + i, x);
    lanes = x > lanes ? x : lanes;
  }
  if (i < count) {
    Floats x;
    LoadPart(row + i, count - i, kLowest, x);
    lanes = x > lanes ? x : lanes;
  }
  return LaneMax(lanes);
}

// Largest element and the first block that holds it; writes each block's largest unless `block_max`
// is null.
PX_INLINE float FindMax(const float* row, std::size_t size, float* block_max,
                        std::size_t* best_block) {
  float best = kLowest;
  *best_block = 0;
  for (std::size_t begin = 0, block = 0; begin < size; begin += kRowBlock, ++block) {
    float max = BlockMax(row + begin, std::min(kRowBlock, size - begin));
    if (block_max != nullptr) {
      block_max[block] = max;
    }
    if (max > best) {
      best = max;
      *best_block = block;
    }
  }
  return best;
}

// The same bodies for wider registers.
PX_WIDE double SumOfExponentialsWide(const float* row, std::size_t size, float max) {
  return SumOfExponentials(row, size, max);
}

PX_WIDE double WeighRowWide(const float* row, std::size_t size, float max, float divisor,
                            float* weights, double* block_sums) {
  return WeighRow(row, size, max, divisor, weights, block_sums);
}

PX_WIDE float FindMaxWide(const float* row, std::size_t size, float* block_max,
                          std::size_t* best_block) {
  return FindMax(row, size, block_max, best_block);
}

#if defined(__x86_64__)
bool HasWideRegisters() { return __builtin_cpu_supports("avx2") != 0; }
#else
constexpr bool HasWideRegisters() { return false; }
#endif

float FindRowMax(std::span<const float> row, float* block_max, std::size_t* best_block) {
  return HasWideRegisters() ? FindMaxWide(row.data(), row.size(), block_max, best_block)
                            : FindMax(row.data(), row.size(), block_max, best_block);
}

}  // namespace

// ln(x) = exponent * ln 2 + 2 atanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt(2)). The C library's
// own log may pick another code path, with other last bits, on another machine.
double Ln(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);
  if (m < 0.70710678118654752) {
    m *= 2;
    --exponent;
  }
  double s = (m - 1) / (m + 1);
  double square = s * s;
  double series = 0;
  for (int k = 23; k >= 1; k -= 2) {
    series = series * square + 1.0 / k;
  }
  return exponent * 0.69314718055994531 + 2 * s * series;
}

float ExpNegative(float x) {
  Floats lanes = x;
  Exp(lanes);
  return lanes[0];
}

float RowMax(std::span<const float> row) {
  std::size_t best_block = 0;
  return FindRowMax(row, nullptr, &best_block);
}

float RowMax(std::span<const float> row, std::span<float> block_max) {
  std::size_t best_block = 0;
  return FindRowMax(row, block_max.data(), &best_block);
}

std::size_t RowArgmax(std::span<const float> row) {
  std::size_t best_block = 0;
  float max = FindRowMax(row, nullptr, &best_block);
  for (std::size_t i = best_block * kRowBlock; i < row.size(); ++i) {
    if (row[i] == max) {
      return i;
    }
  }
  return 0;
}

double RowWeights(std::span<const float> row, float max, float divisor, std::span<float> weights,
                  std::span<double> block_sums) {
  return HasWideRegisters()
             ? WeighRowWide(row.data(), row.size(), max, divisor, weights.data(), block_sums.data())
             : WeighRow(row.data(), row.size(), max, divisor, weights.data(), block_sums.data());
}

double LogSumExp(std::span<const float> row, float max) {
  double sum = HasWideRegisters() ? SumOfExponentialsWide(row.data(), row.size(), max)
                                  : SumOfExponentials(row.data(), row.size(), max);
  return double{max} + Ln(sum);
}

}  // namespace pixii::engine
