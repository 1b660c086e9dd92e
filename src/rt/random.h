// Random numbers for shells: jitter, ids, simulated faults. Sampling of tokens has its own
// counter-based generator.
//
// Thread: one owner. Same seed, same sequence, on every machine.
// Source: xoshiro256++ and splitmix64, Blackman and Vigna, "Scrambled linear pseudorandom number
// generators", 2019.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace pixii::rt {

class Random final {
 public:
  explicit Random(std::uint64_t seed);
  /// Seeded by the operating system.
  static Random FromSystem();

  std::uint64_t Next();
  /// Uniform in [0, bound), unbiased. Pre: bound > 0.
  std::uint64_t Below(std::uint64_t bound);
  /// Uniform in [low, high]. Pre: low <= high.
  std::int64_t Between(std::int64_t low, std::int64_t high);
  /// Uniform in [0, 1).
  double Unit();
  bool Chance(double probability);
  /// Exponentially distributed with this mean.
  double Exponential(double mean);
  /// An independent generator; advances this one.
  Random Fork();

 private:
  std::array<std::uint64_t, 4> state_;
};

/// Bytes fit for keys, from getrandom(2).
void FillFromSystem(std::span<std::byte> out);

}  // namespace pixii::rt
