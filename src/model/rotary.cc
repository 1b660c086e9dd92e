#include "model/rotary.h"

#include <cmath>
#include <numbers>

#include "base/assert.h"

namespace pixii::model {
namespace {

/// Stretches long waves by `factor`, keeps short ones, and blends between the two.
float Llama3Frequency(const RopeSpec& rope, float frequency) {
  const auto context = static_cast<float>(rope.original_context_tokens);
  const auto low = static_cast<float>(rope.low_freq_factor);
  const auto high = static_cast<float>(rope.high_freq_factor);
  const auto factor = static_cast<float>(rope.factor);
  const float wavelength = 2.0F * std::numbers::pi_v<float> / frequency;
  if (wavelength < context / high) {
    return frequency;
  }
  if (wavelength > context / low) {
    return frequency / factor;
  }
  const float smooth = (context / wavelength - low) / (high - low);
  return (1.0F - smooth) * (frequency / factor) + smooth * frequency;
}

}  // namespace

std::vector<float> InverseFrequencies(const RopeSpec& rope, std::int32_t rotary_dim) {
  PX_ASSERT(rotary_dim >= 2 && rotary_dim % 2 == 0);
  std::vector<float> out;
  for (std::int32_t i = 0; i < rotary_dim; i += 2) {
    const double exponent = static_cast<float>(i) / static_cast<float>(rotary_dim);
    const float frequency = 1.0F / static_cast<float>(std::pow(rope.theta, exponent));
    out.push_back(rope.kind == RopeKind::kLlama3 ? Llama3Frequency(rope, frequency) : frequency);
  }
  return out;
}

void FillRotaryTable(std::span<const float> frequencies, std::int32_t position_count,
                     std::span<float> cos, std::span<float> sin) {
  PX_ASSERT(cos.size() == frequencies.size() * static_cast<std::size_t>(position_count) &&
            sin.size() == cos.size());
  std::size_t at = 0;
  for (std::int32_t position = 0; position < position_count; ++position) {
    for (const float frequency : frequencies) {
      // The angle is rounded to fp32 first, as the reference does; the functions of it are then
      // exact to fp32.
      const double angle = static_cast<float>(position) * frequency;
      double sine = 0.0;
      double cosine = 0.0;
      ::sincos(angle, &sine, &cosine);
      cos[at] = static_cast<float>(cosine);
      sin[at] = static_cast<float>(sine);
      ++at;
    }
  }
}

}  // namespace pixii::model
