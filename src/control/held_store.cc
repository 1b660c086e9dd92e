#include "control/held_store.h"

#include <algorithm>
#include <utility>

namespace pixii::control {

HeldStore::HeldStore(rt::Loop& loop, HoldPace pace)
    : loop_(loop), pace_(pace), wanted_changed_(loop) {}

void HeldStore::StartHolding() { holding_.Start(HoldLoop()); }

void HeldStore::StopHolding() {
  closing_task_.Clear();
  holding_.Clear();
}

Result<void> HeldStore::Put(const std::string& key, std::string value) {
  PX_CHECK_OK(CheckStoreEntry(key, value));
  wanted_[key] = std::move(value);
  wanted_changed_.Set();
  return {};
}

void HeldStore::Delete(const std::string& key) {
  if (wanted_.erase(key) > 0) {
    wanted_changed_.Set();
  }
}

rt::Task<void> HeldStore::HoldLoop() {
  rt::Duration backoff = pace_.backoff_min;
  while (true) {
    wanted_changed_.Reset();
    auto holding = Hold();
    const Result<void> held = co_await std::move(holding);
    if (held) {
      backoff = pace_.backoff_min;
      auto waiting = wanted_changed_.Wait(has_lease() ? renewed_at_ + beat() : rt::kNever);
      co_await std::move(waiting);
      continue;
    }
    auto pause = loop_.SleepUntil(std::max(loop_.Now() + backoff, not_before()));
    co_await std::move(pause);
    backoff = std::min(backoff * 2, pace_.backoff_max);
  }
}

void HeldStore::Close(std::function<void()> on_closed) {
  closing_ = true;
  on_closed_ = std::move(on_closed);
  closing_task_.Start(CloseTask());
}

rt::Task<void> HeldStore::CloseTask() {
  // From the loop: whoever closes may be called by one of these tasks.
  co_await loop_.Yield();
  holding_.Clear();
  EndWatches();
  if (has_lease()) {
    auto giving = GiveBack();
    (void)co_await std::move(giving);  // else the lease ends by itself
  }
  loop_.Post(std::exchange(on_closed_, nullptr));  // it may destroy this store
}

}  // namespace pixii::control
