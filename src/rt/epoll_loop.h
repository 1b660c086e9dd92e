// The real loop: epoll, an eventfd for other threads' posts, timers.
//
// Thread: as rt/loop.h. Source: epoll(7), edge-triggered, one registration per descriptor for its
// whole life.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "rt/fd.h"
#include "rt/loop.h"
#include "rt/thread.h"
#include "rt/timer_heap.h"

namespace pixii::rt {

/// Told when its descriptor changed. OnReady only marks and queues (Loop::Resume, Loop::Post): it
/// runs no user code, so nothing is destroyed while a batch of events is handed out.
class FdWatcher {
 public:
  virtual void OnReady(std::uint32_t epoll_events) = 0;

 protected:
  ~FdWatcher() = default;
};

class EpollLoop final : public Loop {
 public:
  static Result<std::unique_ptr<EpollLoop>> Create();
  EpollLoop(Fd epoll, Fd wake);  // for Create
  ~EpollLoop() override;

  Time Now() const override;
  WallTime WallNow() const override;

  Random& random() override { return random_; }

  void Post(Callback fn) override;
  TimerId RunAt(Time when, Callback fn) override;
  void CancelTimer(TimerId id) override;

  void Spawn(Task<void> task) override;

  std::size_t spawned_count() const override { return spawned_.count(); }

  void Resume(Suspended& suspended) override;
  bool SpendBudget() override;
  void Run() override;
  void Stop() override;

  /// Reports edges of input, output and hang-up until the descriptor is closed. `watcher` outlives
  /// that.
  Result<void> Watch(int fd, FdWatcher& watcher);

 private:
  bool OnOwnThread() const;
  Duration TimeToWait(bool work_left) const;
  void WaitForEvents(Duration wait);
  bool TakeMailbox();
  void RunTimers();
  void RunMailbox();
  void RunSuspended();

  Fd epoll_;
  Fd wake_;  // eventfd
  bool has_pwait2_ = true;
  bool watches_ = false;  // descriptors, now or before
  std::uint32_t budget_ = 0;
  std::atomic<std::thread::id> owner_{};
  Random random_ = Random::FromSystem();
  TimerHeap timers_;
  std::vector<Callback> batch_;  // of the mailbox, being run

  Mutex mutex_;
  std::vector<Callback> mailbox_ PX_GUARDED_BY(mutex_);
  bool sleeping_ PX_GUARDED_BY(mutex_) = false;  // the next post must wake it
  bool stop_ PX_GUARDED_BY(mutex_) = false;

  ListNode ready_;        // suspended coroutines to resume
  SpawnedTasks spawned_;  // last: frames use everything above
};

}  // namespace pixii::rt
