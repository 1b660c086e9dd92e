// Rotation factors of a RopeSpec.
//
// Thread: pure functions. Source: transformers' modeling_rope_utils (default, llama3), computed in
// fp32 as there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder_spec.h"

namespace pixii::model {

/// Angle per position of each of the rotary_dim / 2 pairs. Pre: rotary_dim is even and >= 2.
std::vector<float> InverseFrequencies(const RopeSpec& rope, std::int32_t rotary_dim);

/// Writes cos and sin, each [position_count, frequencies.size()].
void FillRotaryTable(std::span<const float> frequencies, std::int32_t position_count,
                     std::span<float> cos, std::span<float> sin);

}  // namespace pixii::model
