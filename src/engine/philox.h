// Philox4x32-10: a counter-based random generator; a draw is a pure function of (key, counter).
//
// Thread: pure functions.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11),
// section 3.3 and the known answers published with it (tests/unit/engine/sampler_test.cc).
#pragma once

#include <array>
#include <cstdint>

namespace pixii::engine {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

constexpr PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53;
  constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9;
  constexpr std::uint32_t kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    std::uint64_t product0 = kMultiplier0 * counter[0];
    std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

/// What a draw is for: each purpose has numbers of its own.
enum class DrawPurpose : std::uint32_t { kToken = 0, kXtc = 1 };

/// Uniform in [0, 1) with 53 bits: the draw for output `position` of `choice` under `seed`.
constexpr double UniformDraw(std::uint64_t seed, std::uint32_t choice, std::uint32_t position,
                             DrawPurpose purpose = DrawPurpose::kToken) {
  PhiloxCounter out =
      Philox4x32({position, static_cast<std::uint32_t>(purpose), choice, 0},
                 {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  std::uint64_t bits = (std::uint64_t{out[0]} << 32 | out[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace pixii::engine
