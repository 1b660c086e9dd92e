#include "frontend/readiness.h"

#include <fmt/format.h>

namespace pixii::frontend {

void Readiness::OnToken(rt::Time now) {
  last_token_ = now;
  last_failure_.clear();
}

void Readiness::OnCanaryFailed(const std::string& why) { last_failure_ = why; }

void Readiness::Observe(const control::WorkerLoad& load, rt::Time now) {
  bool idle = load.running == 0 && load.queued == 0;
  if (idle || load.steps != steps_) {
    steps_ = load.steps;
    steps_since_ = now;
  }
}

bool Readiness::Stalled(rt::Time now) const { return now - steps_since_ > options_.stall_limit; }

bool Readiness::CanaryDue(rt::Time now) const {
  return last_token_ == rt::kNever || now - last_token_ >= options_.canary_interval;
}

bool Readiness::ready(rt::Time now) const {
  // A busy engine may keep a canary waiting: as long as it makes steps, an older token is proof
  // enough.
  return last_token_ != rt::kNever && last_failure_.empty() && !Stalled(now);
}

std::string Readiness::Describe(rt::Time now) const {
  if (last_token_ == rt::kNever) {
    return last_failure_.empty() ? "Initial model discovery in progress"
                                 : fmt::format("Initial model discovery failed: {}", last_failure_);
  }
  if (!last_failure_.empty()) {
    return fmt::format("the last test generation failed: {}", last_failure_);
  }
  if (Stalled(now)) {
    return fmt::format(
        "the engine has work but made no step for {} s",
        std::chrono::duration_cast<std::chrono::seconds>(now - steps_since_).count());
  }
  return "the model answers";
}

}  // namespace pixii::frontend
