#include "model/diffusion/noise.h"

#include <cmath>
#include <numbers>

namespace pixii::model {

std::array<std::uint32_t, 4> Philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53;
  constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9;
  constexpr std::uint32_t kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = kMultiplier0 * counter[0];
    const std::uint64_t b = kMultiplier1 * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

void FillNoise(std::uint64_t seed, std::span<float> out) {
  const std::array<std::uint32_t, 2> key = {static_cast<std::uint32_t>(seed),
                                            static_cast<std::uint32_t>(seed >> 32)};
  for (std::size_t i = 0; i < out.size(); i += 4) {
    const std::uint64_t block = i / 4;
    const std::array<std::uint32_t, 4> words = Philox(
        {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0, 0}, key);
    for (std::size_t pair = 0; pair < 4; pair += 2) {
      // Neither is 0, so the logarithm is finite.
      const double length = (static_cast<double>(words[pair]) + 0.5) * 0x1p-32;
      const double turn = (static_cast<double>(words[pair + 1]) + 0.5) * 0x1p-32;
      const double radius = std::sqrt(-2.0 * std::log(length));
      const double angle = 2.0 * std::numbers::pi * turn;
      const double values[] = {radius * std::cos(angle), radius * std::sin(angle)};
      for (std::size_t k = 0; k < 2 && i + pair + k < out.size(); ++k) {
        out[i + pair + k] = static_cast<float>(values[k]);
      }
    }
  }
}

}  // namespace pixii::model
