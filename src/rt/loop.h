// One event loop per thread: timers, a bounded mailbox from other threads, descriptors. Real (epoll) or simulated.
//
// Thread: everything on the loop's own thread, except Post() and Stop().
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "rt/function.h"
#include "rt/random.h"
#include "rt/task.h"
#include "rt/time.h"

namespace pixii::rt {

using Callback = Function<void()>;
enum class TimerId : std::uint64_t { kNone = 0 };

class Loop {
 public:
  virtual ~Loop() = default;

  virtual Time Now() const = 0;
  virtual WallTime WallNow() const = 0;
  virtual Random& random() = 0;

  /// Runs `fn` on this loop's thread after what is queued already. Any thread. Messages of one poster keep their order.
  virtual void Post(Callback fn) = 0;

  /// Runs `fn` once at `when` or as soon as possible after it. The id stays valid until it ran or was cancelled.
  virtual TimerId RunAt(Time when, Callback fn) = 0;
  /// No effect if it ran already. After return `fn` is destroyed and will not run.
  virtual void CancelTimer(TimerId id) = 0;

  /// Starts `task` and owns it until it ends. An error it returns is dropped: handle errors inside.
  virtual void Spawn(Task<void> task) = 0;
  /// Spawned tasks not yet ended.
  virtual std::size_t spawned_count() const = 0;

  /// Runs until Stop(). (Simulated loops are run by their world, see rt/sim_world.h.)
  virtual void Run() = 0;
  /// Any thread.
  virtual void Stop() = 0;

  /// co_await loop.SleepUntil(t).
  Task<void> SleepUntil(Time when);

  Task<void> SleepFor(Duration duration) { return SleepUntil(Now() + duration); }
};

/// A real loop on epoll. Errors: kResourceExhausted if descriptors are used up.
Result<std::unique_ptr<Loop>> MakeLoop();

}  // namespace pixii::rt
