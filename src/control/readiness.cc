#include "control/readiness.h"

#include <fmt/format.h>

namespace pixii::control {

void Readiness::OnToken(rt::Time now) {
  last_token_ = now;
  last_failure_.clear();
  must_prove_ = false;
}

void Readiness::OnCanaryFailed(const std::string& why) { last_failure_ = why; }

void Readiness::Observe(const WorkerLoad& load, rt::Time now) {
  bool idle = load.running == 0 && load.queued == 0;
  if (idle || load.steps != steps_) {
    steps_ = load.steps;
    steps_since_ = now;
  }
  state_ = load.state;
  must_prove_ = proves() && (must_prove_ || state_ == WorkerState::kAsleep);
}

bool Readiness::Stalled(rt::Time now) const { return now - steps_since_ > options_.stall_limit; }

bool Readiness::CanaryDue(rt::Time now) const {
  if (!proves() || state_ != WorkerState::kAwake) {
    return false;  // it would only be refused
  }
  return last_token_ == rt::kNever || must_prove_ || now - last_token_ >= options_.canary_interval;
}

bool Readiness::ready(rt::Time now) const {
  // A busy engine may keep a canary waiting: as long as it makes steps, an older token is proof
  // enough.
  return state_ == WorkerState::kAwake && !must_prove_ && ever_ready() && last_failure_.empty() &&
         !Stalled(now);
}

std::string Readiness::Describe(rt::Time now) const {
  if (state_ == WorkerState::kDraining) {
    return "the engine is about to sleep: it ends what runs and takes nothing new";
  }
  if (state_ == WorkerState::kAsleep) {
    return "the engine sleeps: its memory is given back";
  }
  if (state_ == WorkerState::kDead) {
    return "every data-parallel rank of the worker failed";
  }
  if (state_ == WorkerState::kUnhealthy) {
    return "there is no worker whose engine answers";
  }
  if (!ever_ready()) {
    return last_failure_.empty() ? "Initial model discovery in progress"
                                 : fmt::format("Initial model discovery failed: {}", last_failure_);
  }
  if (!last_failure_.empty()) {
    return fmt::format("the last test generation failed: {}", last_failure_);
  }
  if (must_prove_) {
    return "the engine woke up and has to answer a test generation first";
  }
  if (Stalled(now)) {
    return fmt::format(
        "the engine has work but made no step for {} s",
        std::chrono::duration_cast<std::chrono::seconds>(now - steps_since_).count());
  }
  return last_token_ == rt::kNever ? "no test generations are made, and no request came yet"
                                   : "the model answers";
}

}  // namespace pixii::control
