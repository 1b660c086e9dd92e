#include "model/diffusion/step_cache.h"

#include <cmath>

#include "base/assert.h"

namespace pixii::model {

std::vector<double> StepCacheCoefficients(std::string_view model) {
  if (model == "wan2.1-1.3b") {
    return {2396.76752, -1311.10545, 201.331979, -8.29855975, 0.137887774};
  }
  if (model == "wan2.1-14b") {
    return {-5784.54975374, 5449.50911966, -1811.16591783, 256.27178429, -13.02252404};
  }
  return {};
}

bool StepCache::Reuses(std::int32_t step, std::span<const float> embedding) {
  if (!on()) {
    return false;
  }
  double change = 0.0;
  double size = 0.0;
  PX_ASSERT(last_.empty() || last_.size() == embedding.size());
  for (std::size_t i = 0; i < last_.size(); ++i) {
    change += std::abs(double{embedding[i]} - double{last_[i]});
    size += std::abs(double{last_[i]});
  }
  const bool first = last_.empty();
  last_.assign(embedding.begin(), embedding.end());
  if (first || step < options_.steps_first || step + 1 == steps_) {
    sum_ = 0.0;
    return false;
  }
  double scaled = size > 0.0 ? change / size : 0.0;
  if (!options_.coefficients.empty()) {
    const double x = scaled;
    scaled = 0.0;
    for (const double coefficient : options_.coefficients) {
      scaled = scaled * x + coefficient;
    }
  }
  sum_ += std::abs(scaled);
  if (sum_ < options_.threshold) {
    return true;
  }
  sum_ = 0.0;
  return false;
}

}  // namespace pixii::model
