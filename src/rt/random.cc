#include "rt/random.h"

#include <sys/random.h>

#include <bit>
#include <cerrno>
#include <cmath>

#include "base/assert.h"

namespace pixii::rt {

Random::Random(std::uint64_t seed) {
  for (std::uint64_t& word : state_) {  // splitmix64: a full state from any seed, 0 too
    seed += 0x9e3779b97f4a7c15U;
    std::uint64_t z = seed;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    word = z ^ (z >> 31U);
  }
}

Random Random::FromSystem() {
  std::uint64_t seed = 0;
  FillFromSystem(std::as_writable_bytes(std::span(&seed, 1)));
  return Random(seed);
}

std::uint64_t Random::Next() {
  const std::uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
  const std::uint64_t shifted = state_[1] << 17U;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

std::uint64_t Random::Below(std::uint64_t bound) {
  PX_ASSERT(bound > 0);
  __extension__ using Wide = unsigned __int128;
  // Lemire 2019: multiply and keep the high half; redraw the few low halves that would favour small
  // results.
  Wide product = static_cast<Wide>(Next()) * bound;
  if (static_cast<std::uint64_t>(product) < bound) {
    const std::uint64_t threshold = (0 - bound) % bound;
    while (static_cast<std::uint64_t>(product) < threshold) {
      product = static_cast<Wide>(Next()) * bound;
    }
  }
  return static_cast<std::uint64_t>(product >> 64U);
}

std::int64_t Random::Between(std::int64_t low, std::int64_t high) {
  PX_ASSERT(low <= high);
  const std::uint64_t count =
      static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low) + 1;
  const std::uint64_t offset = count == 0 ? Next() : Below(count);
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(low) + offset);
}

double Random::Unit() { return static_cast<double>(Next() >> 11U) * 0x1p-53; }

bool Random::Chance(double probability) { return Unit() < probability; }

double Random::Exponential(double mean) { return -mean * std::log1p(-Unit()); }

Random Random::Fork() { return Random(Next()); }

void FillFromSystem(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t count = ::getrandom(out.data(), out.size(), 0);
    if (count < 0) {
      PX_ASSERT(errno == EINTR);  // no kernel without it is supported
      continue;
    }
    out = out.subspan(static_cast<std::size_t>(count));
  }
}

}  // namespace pixii::rt
