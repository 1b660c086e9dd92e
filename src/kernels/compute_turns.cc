#include "kernels/compute_turns.h"

#include <algorithm>

#include "rt/clock.h"

namespace pixii::kernels {

bool ComputeTurns::Wanted(rt::Time now) const { return inside_ || now < left_at_ + kLingers; }

void ComputeTurns::BeginStep() {
  const rt::MutexLock lock(mutex_);
  if (++steps_ > 1) {
    return;
  }
  rt::Time now = rt::SteadyNow();
  const rt::Time owed_until = now + share_.OnStepWanted(now, Wanted(now));
  while (now < owed_until && Wanted(now)) {
    step_may_.WaitFor(mutex_, std::min<rt::Duration>(owed_until - now, kLingers));
    now = rt::SteadyNow();
  }
  closed_.store(true, std::memory_order_release);
  const rt::Time patient_until = now + kHaltPatience;
  while (running_ && now < patient_until) {
    step_may_.WaitFor(mutex_, patient_until - now);
    now = rt::SteadyNow();
  }
  share_.OnStepBegun(now);
}

void ComputeTurns::EndStep() {
  const rt::MutexLock lock(mutex_);
  if (--steps_ > 0) {
    return;
  }
  const rt::Time now = rt::SteadyNow();
  opens_at_ = share_.OnStepEnded(now, Wanted(now));
  if (opens_at_ <= now) {
    closed_.store(false, std::memory_order_release);
  }
  pieces_may_.NotifyAll();
}

void ComputeTurns::WaitUntilOpen() {
  if (closed_.load(std::memory_order_relaxed)) {
    halted_count_.fetch_add(1, std::memory_order_relaxed);
  }
  while (closed_.load(std::memory_order_relaxed)) {
    if (steps_ > 0) {
      pieces_may_.Wait(mutex_);
      continue;
    }
    const rt::Time now = rt::SteadyNow();
    if (now >= opens_at_) {
      closed_.store(false, std::memory_order_release);
      return;
    }
    pieces_may_.WaitFor(mutex_, opens_at_ - now);
  }
}

void ComputeTurns::BeginPieces() {
  const rt::MutexLock lock(mutex_);
  inside_ = true;
  WaitUntilOpen();
  running_ = true;
}

void ComputeTurns::EndPieces() {
  const rt::MutexLock lock(mutex_);
  inside_ = false;
  running_ = false;
  left_at_ = rt::SteadyNow();
  step_may_.NotifyAll();
}

void ComputeTurns::Halt() {
  const rt::MutexLock lock(mutex_);
  running_ = false;
  step_may_.NotifyAll();
  WaitUntilOpen();
  running_ = true;
}

}  // namespace pixii::kernels
