// How late a process's main loop is: a timer that says how much later than asked for it came.
//
// Thread: that loop.
#pragma once

#include <chrono>

#include "obs/metrics.h"
#include "rt/loop.h"

namespace pixii::apps {

class LoopMeter final {
 public:
  static constexpr rt::Duration kPeriod = std::chrono::milliseconds(250);
  static constexpr rt::Duration kStall = std::chrono::milliseconds(50);

  /// Both outlive it.
  LoopMeter(rt::Loop& loop, obs::Registry& registry)
      : loop_(loop),
        delay_(registry.GetHistogram(obs::MetricId::kEventLoopDelaySeconds)),
        stalls_(registry.GetCounter(obs::MetricId::kEventLoopStallTotal)) {
    Arm();
  }

  LoopMeter(const LoopMeter&) = delete;
  LoopMeter& operator=(const LoopMeter&) = delete;

  ~LoopMeter() { loop_.CancelTimer(timer_); }

 private:
  void Arm() {
    const rt::Time due = loop_.Now() + kPeriod;
    timer_ = loop_.RunAt(due, [this, due] {
      const rt::Duration late = loop_.Now() - due;
      delay_.Observe(std::chrono::duration<double>(late).count());
      stalls_.Add(late >= kStall ? 1 : 0);
      Arm();
    });
  }

  rt::Loop& loop_;
  obs::Histogram& delay_;
  obs::Counter& stalls_;
  rt::TimerId timer_ = rt::TimerId::kNone;
};

}  // namespace pixii::apps
