#include "model/rotary.h"

#include <algorithm>
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

/// Blends stretched and plain frequencies between two pairs.
void Yarn(const RopeSpec& rope, double rotary_dim, std::vector<float>& frequencies) {
  const auto pair_of = [&](double turns) {
    return rotary_dim *
           std::log(static_cast<double>(rope.original_context_tokens) /
                    (turns * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(rope.theta));
  };
  double low = pair_of(rope.beta_fast);
  double high = pair_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rotary_dim - 1.0);
  if (low == high) {
    high += 0.001;
  }
  const auto factor = static_cast<float>(rope.factor);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const auto ramp =
        static_cast<float>(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
    frequencies[i] = frequencies[i] / factor * ramp + frequencies[i] * (1.0F - ramp);
  }
}

}  // namespace

std::string_view RopeKindName(RopeKind kind) {
  switch (kind) {
    case RopeKind::kDefault:
      return "default";
    case RopeKind::kLinear:
      return "linear";
    case RopeKind::kDynamic:
      return "dynamic";
    case RopeKind::kYarn:
      return "yarn";
    case RopeKind::kLlama3:
      return "llama3";
    case RopeKind::kLongRope:
      return "longrope";
  }
  PX_ASSERT(false);
}

std::vector<float> InverseFrequencies(const RopeSpec& rope, std::int32_t rotary_dim,
                                      std::int64_t context_tokens) {
  PX_ASSERT(rotary_dim >= 2 && rotary_dim % 2 == 0);
  const bool is_long = context_tokens > rope.original_context_tokens;
  double theta = rope.theta;
  if (rope.kind == RopeKind::kDynamic && is_long && rotary_dim > 2) {
    const double stretch = rope.factor * static_cast<double>(context_tokens) /
                               static_cast<double>(rope.original_context_tokens) -
                           (rope.factor - 1.0);
    theta *= std::pow(stretch, rotary_dim / (rotary_dim - 2.0));
  }
  std::vector<float> out;
  for (std::int32_t i = 0; i < rotary_dim; i += 2) {
    const double exponent = static_cast<float>(i) / static_cast<float>(rotary_dim);
    const auto wave = static_cast<float>(std::pow(theta, exponent));
    if (rope.kind == RopeKind::kLongRope) {
      const std::vector<double>& factors = is_long ? rope.long_factors : rope.short_factors;
      out.push_back(1.0F / (static_cast<float>(factors[out.size()]) * wave));
    } else if (rope.kind == RopeKind::kLinear) {
      out.push_back(1.0F / wave / static_cast<float>(rope.factor));
    } else if (rope.kind == RopeKind::kLlama3) {
      out.push_back(Llama3Frequency(rope, 1.0F / wave));
    } else {
      out.push_back(1.0F / wave);
    }
  }
  if (rope.kind == RopeKind::kYarn) {
    Yarn(rope, rotary_dim, out);
  }
  return out;
}

std::vector<std::uint8_t> AxesOfPairs(const RopeSpec& rope, std::size_t pair_count) {
  std::vector<std::uint8_t> out(pair_count, 0);
  if (rope.sections.empty()) {
    return out;
  }
  PX_ASSERT(rope.sections.size() == 3);
  std::size_t begin = 0;
  for (std::uint8_t axis = 0; axis < 3; ++axis) {
    const auto size = static_cast<std::size_t>(rope.sections[axis]);
    for (std::size_t i = 0; i < size && !rope.sections_interleaved; ++i) {
      out[begin + i] = axis;
    }
    for (std::size_t i = axis;
         i < std::min(3 * size, pair_count) && axis > 0 && rope.sections_interleaved; i += 3) {
      out[i] = axis;
    }
    begin += size;
  }
  PX_ASSERT(begin == pair_count);
  return out;
}

void FillRotaryTable(std::span<const float> frequencies, std::int32_t position_count, double factor,
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
      cos[at] = static_cast<float>(static_cast<float>(cosine) * factor);
      sin[at] = static_cast<float>(static_cast<float>(sine) * factor);
      ++at;
    }
  }
}

}  // namespace pixii::model
