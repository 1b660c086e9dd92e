#include "rt/sync.h"

namespace pixii::rt {

void WaitList::Awaiter::await_suspend(std::coroutine_handle<> awaiting) {
  handle = awaiting;
  list_.waiting_.PushBack(*this);
  if (deadline_ != kNever) {
    timer_ = loop_.RunAt(deadline_, [this] {
      timer_ = TimerId::kNone;
      loop_.Resume(*this);
    });
  }
}

void WaitList::WakeAll() {
  while (waiting_.linked()) {
    auto& waiter = static_cast<Awaiter&>(*waiting_.next());
    waiter.woken_ = true;
    loop_.CancelTimer(std::exchange(waiter.timer_, TimerId::kNone));
    loop_.Resume(waiter);
  }
}

Task<void> Event::Wait() {
  while (!set_) {
    co_await waiters_.Wait(kNever);
  }
}

Task<bool> Event::Wait(Time deadline) {
  while (!set_) {
    const bool woken = co_await waiters_.Wait(deadline);
    if (!woken) {
      break;
    }
  }
  co_return set_;
}

Result<Gate::Pass> Gate::Enter() {
  if (closed_) {
    return Fail(Code::kShuttingDown, "the service is closing");
  }
  ++count_;
  return Pass(this);
}

void Gate::Leave() {
  --count_;
  if (count_ == 0) {
    waiters_.WakeAll();
  }
}

Task<void> Gate::Close() {
  closed_ = true;
  while (count_ > 0) {
    co_await waiters_.Wait(kNever);
  }
}

Task<bool> Gate::Close(Time deadline) {
  closed_ = true;
  while (count_ > 0) {
    const bool woken = co_await waiters_.Wait(deadline);
    if (!woken) {
      break;
    }
  }
  co_return count_ == 0;
}

void AbortSource::Abort(Error reason) {
  if (reason_) {
    return;
  }
  reason_ = std::move(reason);
  waiters_.WakeAll();
  while (subscribers_.linked()) {
    auto& subscription = static_cast<AbortSubscription&>(*subscribers_.next());
    subscription.Unlink();
    subscription.fn_(*reason_);
  }
}

void AbortSource::Subscribe(AbortSubscription& subscription) {
  if (reason_) {
    subscription.fn_(*reason_);
  } else {
    subscribers_.PushBack(subscription);
  }
}

Task<bool> AbortSource::Wait(Time deadline) {
  while (!reason_) {
    const bool woken = co_await waiters_.Wait(deadline);
    if (!woken) {
      break;
    }
  }
  co_return aborted();
}

}  // namespace pixii::rt
