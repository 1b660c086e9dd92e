// Reuse of a step's result where the timestep has hardly changed: the blocks are skipped and what
// they added last time is added again.
//
// Thread: one owner, a run. Pure: decides by the embeddings of the timesteps alone, so equal
// schedules skip equal steps whatever the pictures are.
// Source: TeaCache (Liu et al. 2024, arXiv 2411.19108): relative L1 change, put through a fitted
// polynomial, summed until a threshold.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::model {

struct StepCacheOptions {
  /// Sum of changes below which steps are reused; 0: never. 0.05 to 0.3 are usual.
  double threshold = 0.0;
  /// Polynomial from a relative change to what it does to the result, highest power first; empty:
  /// the change itself.
  std::vector<double> coefficients = {};
  std::int32_t steps_first = 1;  // always computed
};

/// Fitted for "wan2.1-1.3b" and "wan2.1-14b"; empty for other names.
std::vector<double> StepCacheCoefficients(std::string_view model);

class StepCache final {
 public:
  StepCache(StepCacheOptions options, std::int32_t steps)
      : options_(std::move(options)), steps_(steps) {}

  bool on() const { return options_.threshold > 0.0; }

  /// Whether step `step` may reuse the last computed one. `embedding`: of the step's timestep.
  /// Called once for each step, in order.
  bool Reuses(std::int32_t step, std::span<const float> embedding);

 private:
  StepCacheOptions options_;
  std::int32_t steps_;
  std::vector<float> last_;
  double sum_ = 0.0;
};

}  // namespace pixii::model
