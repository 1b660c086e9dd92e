// A loop on a thread of its own: opened there, run until it is stopped, closed there.
//
// Thread: Start, Post and Join on any one thread; what they are given runs on the new one.
#pragma once

#include <atomic>
#include <functional>
#include <optional>

#include "base/result.h"
#include "rt/loop.h"
#include "rt/thread.h"

namespace pixii::python {

class HostThread final {
 public:
  /// What runs: `open` makes the loop and all on it, `close` takes it down after the loop has
  /// stopped, also if `open` failed.
  struct Body {
    std::function<Result<rt::Loop*>()> open;
    std::function<void()> close;
  };

  HostThread() = default;
  HostThread(const HostThread&) = delete;
  HostThread& operator=(const HostThread&) = delete;

  ~HostThread() { Join(); }

  /// Waits until `open` is done; its error. Call once.
  Result<void> Start(const char* name, Body body);

  /// False: the loop does not run (any more).
  bool Post(rt::Callback fn);

  /// Waits for the end.
  void Join() { thread_.Join(); }

  bool stopped() const { return stopped_; }

 private:
  rt::Mutex mutex_;
  rt::CondVar begun_;
  std::optional<Result<void>> opened_ PX_GUARDED_BY(mutex_);
  rt::Loop* loop_ PX_GUARDED_BY(mutex_) = nullptr;  // null: it does not run
  std::atomic<bool> stopped_ = false;
  rt::Thread thread_;
};

}  // namespace pixii::python
