// Gaussian noise by seed: equal seeds give equal noise, wherever and beside whatever it is drawn.
//
// Thread: pure functions.
// Source: Philox4x32-10 (Salmon et al. 2011); pairs by Box and Muller in fp64.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace pixii::model {

/// The block of four words at `counter` of the sequence of `key`.
std::array<std::uint32_t, 4> Philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key);

/// Fills `out` with standard normal values: element i depends on `seed` and i alone.
void FillNoise(std::uint64_t seed, std::span<float> out);

}  // namespace pixii::model
