// Schedulers of flow matching: which noise levels a run visits, and how a sample moves from one to
// the next by what the model predicts there.
//
// Thread: values of one run. Pure: no clock, no random source. A sample of any size; elements are
// independent, so a run's bits do not depend on what is computed beside it.
// Source: UniPC (Zhao et al. 2023, arXiv 2302.04867) and flow-match Euler as diffusers ships them;
// factors in fp64 from sigmas rounded to fp32, samples in fp32.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/json.h"

namespace pixii::model {

inline constexpr std::int32_t kDenoiseStepsMax = 1000;

/// What scheduler_config.json says.
struct SchedulerConfig {
  enum class Kind : std::uint8_t { kUniPc, kFlowMatchEuler };

  Kind kind = Kind::kUniPc;
  std::int32_t train_timesteps = 1000;
  double shift = 1.0;
  // Of flow-match Euler: the shift follows how many tokens a picture has (use_dynamic_shifting).
  bool dynamic = false;
  bool exponential = true;  // time_shift_type: exponential, else linear
  double base_shift = 0.5;  // at base_tokens
  double max_shift = 1.15;  // at max_tokens
  double base_tokens = 256;
  double max_tokens = 4096;
  // Of UniPC:
  std::int32_t solver_order = 2;                     // 1 to 3
  bool bh2 = true;                                   // solver_type: bh2, else bh1
  std::vector<std::int64_t> uncorrected_steps = {};  // disable_corrector
};

/// Errors: kUnsupported and kInvalidArgument with file, key and value.
Result<SchedulerConfig> ParseSchedulerConfig(const wire::Json& json, const std::string& file_name);

class FlowScheduler {
 public:
  virtual ~FlowScheduler() = default;

  /// [steps] what the model is told of the noise, descending.
  std::span<const float> timesteps() const { return timesteps_; }

  /// [steps + 1] noise levels, descending to 0.
  std::span<const float> sigmas() const { return sigmas_; }

  /// Moves `sample` from sigmas()[i] to sigmas()[i + 1], i = how often this was called before.
  /// `velocity` is what the model predicts for it: noise minus picture. Pre: i < steps; sizes are
  /// those of the first call.
  virtual void Step(std::span<const float> velocity, std::span<float> sample) = 0;

 protected:
  std::vector<float> timesteps_;
  std::vector<float> sigmas_;
};

/// `steps` 1 to kDenoiseStepsMax (asserted). Pre: the shift is not dynamic.
std::unique_ptr<FlowScheduler> MakeScheduler(const SchedulerConfig& config, std::int32_t steps);

struct TokenSteps {
  std::int32_t steps = 1;
  std::int64_t tokens = 1;  // of a picture
};

/// As FLUX has it: levels evenly from 1 to 1 / steps, then shifted, by the tokens if that is
/// dynamic. Pre: the kind is kFlowMatchEuler.
std::unique_ptr<FlowScheduler> MakeTokenScheduler(const SchedulerConfig& config,
                                                  const TokenSteps& steps);

}  // namespace pixii::model
