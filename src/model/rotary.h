// Rotation factors of a RopeSpec.
//
// Thread: pure functions. Source: transformers' modeling_rope_utils (all its kinds), computed in
// fp32 as there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder_spec.h"

namespace pixii::model {

/// Angle per position of each of the rotary_dim / 2 pairs. `context_tokens` is the longest context
/// that the model was loaded for: kinds whose factors follow the length (dynamic, longrope) take
/// this one, so that a token's bits never depend on how long its sequence is. Pre: rotary_dim is
/// even and >= 2.
std::vector<float> InverseFrequencies(const RopeSpec& rope, std::int32_t rotary_dim,
                                      std::int64_t context_tokens);

/// Which of time, height and width (0, 1, 2) turns each of `pair_count` pairs; all 0 without
/// sections. Pre: sections are none, or three that sum to pair_count.
std::vector<std::uint8_t> AxesOfPairs(const RopeSpec& rope, std::size_t pair_count);

/// Writes cos and sin times `factor`, each [position_count, frequencies.size()].
void FillRotaryTable(std::span<const float> frequencies, std::int32_t position_count, double factor,
                     std::span<float> cos, std::span<float> sin);

}  // namespace pixii::model
