// The loop that a bench runs its load on, while its servers run elsewhere.
//
// Thread: one.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "base/result.h"
#include "bench/http_target.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/process.h"
#include "rt/task.h"

namespace pixii::bench {

class BenchLoop final {
 public:
  /// `on_interrupt`: SIGTERM or SIGINT came; it stops the servers, so that what waits for them
  /// ends with an error and nothing is left behind.
  static Result<std::unique_ptr<BenchLoop>> Make(std::function<void()> on_interrupt);

  /// Runs `task` to its end.
  template <class T>
  Result<T> Wait(rt::Task<Result<T>> task) {
    Result<T> out = Fail(Code::kInternal, "it did not run");
    loop_->Spawn(Keep(std::move(task), out));
    loop_->Run();
    return out;
  }

  /// Until the server listens. Errors: kUnavailable after 20 s; what it wrote, if it has ended.
  Result<rt::Address> WaitFor(HttpTarget& target);

  rt::Loop& loop() { return *loop_; }

  rt::Net& net() { return *net_; }

 private:
  template <class T>
  rt::Task<void> Keep(rt::Task<Result<T>> task, Result<T>& out) {
    out = co_await std::move(task);
    loop_->Stop();
  }

  rt::Task<Result<rt::Address>> Listening(HttpTarget& target, rt::Time deadline);

  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<rt::Net> net_;
  std::unique_ptr<rt::SignalWatch> signals_;
};

}  // namespace pixii::bench
