// One timer that is moved to whatever comes next.
//
// Thread: one loop.
#pragma once

#include <functional>
#include <utility>

#include "rt/loop.h"

namespace pixii::rt {

class Alarm final {
 public:
  /// `loop` outlives it. `on_time` may set it again and may destroy it.
  Alarm(Loop& loop, std::function<void()> on_time) : loop_(loop), on_time_(std::move(on_time)) {}

  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  ~Alarm() { loop_.CancelTimer(timer_); }

  /// `on_time` is called then, once, and not at the time that was set before; kNever: not at all.
  void Set(Time at) {
    if (at == at_) {
      return;
    }
    loop_.CancelTimer(timer_);
    at_ = at;
    timer_ = at == kNever ? TimerId::kNone : loop_.RunAt(at, [this] {
      timer_ = TimerId::kNone;
      at_ = kNever;
      const std::function<void()> on_time = on_time_;
      on_time();
    });
  }

 private:
  Loop& loop_;
  std::function<void()> on_time_;
  TimerId timer_ = TimerId::kNone;
  Time at_ = kNever;
};

}  // namespace pixii::rt
