// Whether a worker, or a frontend, may call itself ready: a real generation succeeded lately, since
// the engine last slept, and the engine makes steps. Pure.
//
// Thread: its user's.
#pragma once

#include <cstdint>
#include <string>

#include "control/worker_link.h"
#include "rt/time.h"

namespace pixii::control {

struct ReadinessOptions {
  /// Zero: no test generations. Then whoever is awake and does not stall is ready, as there is
  /// nothing else to go by.
  rt::Duration canary_interval{};
  rt::Duration canary_timeout{};
  rt::Duration stall_limit{};
};

class Readiness final {
 public:
  Readiness(const ReadinessOptions& options, rt::Time now) : options_(options), steps_since_(now) {}

  /// A token came from the engine, for a client or a canary.
  void OnToken(rt::Time now);
  void OnCanaryFailed(const std::string& why);
  /// Looks at the engine's load; call it before asking.
  void Observe(const WorkerLoad& load, rt::Time now);

  bool ready(rt::Time now) const;
  /// A sentence for /health.
  std::string Describe(rt::Time now) const;
  /// Whether a test generation is due: none has succeeded for canary_interval.
  bool CanaryDue(rt::Time now) const;

  /// Whether the engine sleeps, is about to, or has not answered since: look again soon.
  bool slept() const { return state_ != WorkerState::kAwake || must_prove_; }

  bool ever_ready() const { return last_token_ != rt::kNever || !proves(); }

 private:
  bool proves() const { return options_.canary_interval > rt::Duration::zero(); }

  bool Stalled(rt::Time now) const;

  ReadinessOptions options_;
  rt::Time last_token_ = rt::kNever;  // never yet
  rt::Time steps_since_;              // when steps_ last changed or the engine was last idle
  std::uint64_t steps_ = 0;
  WorkerState state_ = WorkerState::kAwake;
  bool must_prove_ = false;  // it slept, and gave no token since
  std::string last_failure_;
};

}  // namespace pixii::control
