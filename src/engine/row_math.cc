#include "engine/row_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#pragma clang fp contract(off)

namespace pixii::engine {

namespace {

constexpr std::size_t kLanes = 8;

// Cephes' expf polynomial on [-ln2/2, ln2/2]: e^x = 2^n * e^r.
inline float Exp(float x) {
  constexpr float kLog2E = 1.44269504088896341F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to the nearest integer
  // Written so that NaN falls to the bound too.
  float bounded = x > -87.0F ? x : -87.0F;
  float shifted = bounded * kLog2E + kRound;
  float n = shifted - kRound;
  float r = bounded - n * kLn2High;
  r = r - n * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  std::int32_t exponent =
      std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRound);
  float scale = std::bit_cast<float>((exponent + 127) << 23);
  return x > -87.0F ? p * scale : 0.0F;
}

inline double LaneSum(const std::array<float, kLanes>& lanes) {
  return ((double{lanes[0]} + lanes[4]) + (double{lanes[2]} + lanes[6])) +
         ((double{lanes[1]} + lanes[5]) + (double{lanes[3]} + lanes[7]));
}

// Sum over one block of exp((row[i] - max) / divisor); writes the terms if kStore.
template <bool kStore>
double BlockSum(const float* row, std::size_t count, float max, float divisor, float* weights) {
  std::array<float, kLanes> lanes{};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      float weight = Exp((row[i + lane] - max) / divisor);
      lanes[lane] += weight;
      if constexpr (kStore) {
        weights[i + lane] = weight;
      }
    }
  }
  for (std::size_t lane = 0; i + lane < count; ++lane) {
    float weight = Exp((row[i + lane] - max) / divisor);
    lanes[lane] += weight;
    if constexpr (kStore) {
      weights[i + lane] = weight;
    }
  }
  return LaneSum(lanes);
}

// ln(x) = exponent * ln 2 + 2 atanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt(2)). The C library's
// own log may pick another code path, with other last bits, on another machine.
double Log(double x) {
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

}  // namespace

float ExpNegative(float x) { return Exp(x); }

float RowMax(std::span<const float> row) {
  std::array<float, kLanes> lanes;
  lanes.fill(-std::numeric_limits<float>::infinity());
  std::size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = row[i + lane] > lanes[lane] ? row[i + lane] : lanes[lane];
    }
  }
  for (; i < row.size(); ++i) {
    lanes[0] = row[i] > lanes[0] ? row[i] : lanes[0];
  }
  return *std::ranges::max_element(lanes);
}

double RowWeights(std::span<const float> row, float max, float divisor, std::span<float> weights,
                  std::span<double> block_sums) {
  double total = 0;
  for (std::size_t begin = 0, block = 0; begin < row.size(); begin += kRowBlock, ++block) {
    std::size_t count = std::min(kRowBlock, row.size() - begin);
    block_sums[block] =
        BlockSum<true>(row.data() + begin, count, max, divisor, weights.data() + begin);
    total += block_sums[block];
  }
  return total;
}

double LogSumExp(std::span<const float> row, float max) {
  double total = 0;
  for (std::size_t begin = 0; begin < row.size(); begin += kRowBlock) {
    std::size_t count = std::min(kRowBlock, row.size() - begin);
    total += BlockSum<false>(row.data() + begin, count, max, 1.0F, nullptr);
  }
  return double{max} + Log(total);
}

}  // namespace pixii::engine
