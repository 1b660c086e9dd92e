// One event loop per thread: timers, a mailbox from other threads, descriptors. Real (epoll) or
// simulated.
//
// Thread: everything on the loop's own thread, except Post() and Stop(). Until Run() starts and
// after it returned, the thread that owns the loop counts as its own. Order: what is queued runs in
// the order it was queued, and nothing runs inside the call that queued it, except the first steps
// of a spawned task.
#pragma once

#include <coroutine>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "rt/function.h"
#include "rt/intrusive_list.h"
#include "rt/random.h"
#include "rt/task.h"
#include "rt/time.h"

namespace pixii::rt {

using Callback = Function<void()>;
enum class TimerId : std::uint64_t { kNone = 0 };

/// A suspended coroutine in its awaiter; it leaves every list when its frame dies.
struct Suspended : ListNode {
  std::coroutine_handle<> handle;
};

/// Spawned tasks and their end; a member of every Loop. Destroys those left over.
class SpawnedTasks final {
 public:
  SpawnedTasks() = default;
  SpawnedTasks(const SpawnedTasks&) = delete;
  SpawnedTasks& operator=(const SpawnedTasks&) = delete;
  ~SpawnedTasks();

  void Start(Task<void> task);
  /// Destroys every unfinished task.
  void Clear();

  std::size_t count() const { return count_; }

 private:
  struct Root;
  static Root RunRoot(SpawnedTasks& owner, Task<void> task);

  ListNode roots_;
  std::size_t count_ = 0;
};

class Loop {
 public:
  virtual ~Loop() = default;

  virtual Time Now() const = 0;
  virtual WallTime WallNow() const = 0;
  virtual Random& random() = 0;

  /// Runs `fn` on this loop's thread after what is queued already. Any thread. Messages of one
  /// poster keep their order.
  virtual void Post(Callback fn) = 0;

  /// Runs `fn` once at `when` or as soon as possible after it. The id stays valid until it ran or
  /// was cancelled. Timers of one time run in the order they were set. O(log n).
  virtual TimerId RunAt(Time when, Callback fn) = 0;
  /// No effect if it ran already. After return `fn` is destroyed and will not run.
  virtual void CancelTimer(TimerId id) = 0;

  /// Starts `task` at once, up to its first wait, and owns it until it ends. An error it returns is
  /// dropped: handle errors inside. A task still waiting when the loop dies is destroyed.
  virtual void Spawn(Task<void> task) = 0;
  /// Spawned tasks not yet ended.
  virtual std::size_t spawned_count() const = 0;

  /// Resumes `suspended` soon, from the loop itself. For awaiters; it may be on another list
  /// before, then leaves that.
  virtual void Resume(Suspended& suspended) = 0;
  /// Takes one unit of this turn's budget for work done without waiting; false: used up, co_await
  /// Yield() first.
  virtual bool SpendBudget() = 0;

  /// Runs until Stop(). (Simulated loops are run by their world, see rt/sim_world.h.)
  virtual void Run() = 0;
  /// Any thread.
  virtual void Stop() = 0;

  /// co_await loop.SleepUntil(t).
  Task<void> SleepUntil(Time when);

  Task<void> SleepFor(Duration duration) { return SleepUntil(Now() + duration); }

  /// co_await loop.Yield(): lets everything else that is ready run first.
  auto Yield() {
    struct Awaiter : Suspended {
      explicit Awaiter(Loop& loop_in) : loop(loop_in) {}

      bool await_ready() const { return false; }

      void await_suspend(std::coroutine_handle<> awaiting) {
        handle = awaiting;
        loop.Resume(*this);
      }

      void await_resume() const {}

      Loop& loop;
    };

    return Awaiter(*this);
  }
};

/// A real loop on epoll. Errors: kResourceExhausted if descriptors are used up.
Result<std::unique_ptr<Loop>> MakeLoop();

}  // namespace pixii::rt
