// Waiting between coroutines of one loop: events, queues, gates, abortion, deadlines.
//
// Thread: all on one loop; other threads Post() to it. Whoever is woken runs later, from the loop,
// never inside the call that woke it. Destroying an object that is waited on leaves the waiters
// suspended until their frames are destroyed; destroying a waiting frame is always safe.
#pragma once

#include <coroutine>
#include <cstddef>
#include <deque>
#include <limits>
#include <optional>
#include <utility>

#include "base/result.h"
#include "rt/loop.h"

namespace pixii::rt {

/// The list behind everything here: coroutines wait, others wake all of them. Wake-ups are hints:
/// check again.
class WaitList final {
 public:
  class Awaiter final : public Suspended {
   public:
    Awaiter(WaitList& list, Time deadline) : loop_(list.loop_), list_(list), deadline_(deadline) {}

    ~Awaiter() { loop_.CancelTimer(timer_); }

    bool await_ready() const { return false; }

    void await_suspend(std::coroutine_handle<> awaiting);

    /// Whether it was woken; false: the deadline passed first.
    bool await_resume() const { return woken_; }

   private:
    friend class WaitList;

    Loop& loop_;
    WaitList& list_;
    Time deadline_;
    TimerId timer_ = TimerId::kNone;
    bool woken_ = false;
  };

  explicit WaitList(Loop& loop) : loop_(loop) {}

  /// co_await list.Wait(deadline): true if woken, false at the deadline. Always suspends.
  Awaiter Wait(Time deadline) { return Awaiter(*this, deadline); }

  void WakeAll();

  bool has_waiters() const { return waiting_.linked(); }

  Loop& loop() const { return loop_; }

 private:
  Loop& loop_;
  ListNode waiting_;
};

/// A flag that coroutines wait for.
class Event final {
 public:
  explicit Event(Loop& loop) : waiters_(loop) {}

  void Set() {
    set_ = true;
    waiters_.WakeAll();
  }

  void Reset() { set_ = false; }

  bool is_set() const { return set_; }

  Task<void> Wait();
  /// False: the deadline passed and the event is not set.
  Task<bool> Wait(Time deadline);

 private:
  WaitList waiters_;
  bool set_ = false;
};

inline constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

/// A queue whose consumers wait. Items come out in the order they went in.
template <class T>
class Channel final {
 public:
  /// `capacity`: items, >= 1; kUnbounded only where the producer has its own bound.
  Channel(Loop& loop, std::size_t capacity)
      : consumers_(loop), producers_(loop), capacity_(capacity) {
    PX_ASSERT(capacity > 0);
  }

  /// False, and `item` is dropped, if the channel is full or closed.
  [[nodiscard]] bool TryPush(T item) {
    if (closed_ || items_.size() >= capacity_) {
      return false;
    }
    items_.push_back(std::move(item));
    consumers_.WakeAll();
    return true;
  }

  /// Waits for room. Errors: kDeadlineExceeded; kCancelled if the channel is closed.
  Task<Result<void>> Push(T item, Time deadline) {
    while (!closed_ && items_.size() >= capacity_) {
      const bool woken = co_await producers_.Wait(deadline);
      if (!woken) {
        co_return Fail(Code::kDeadlineExceeded, "the queue stayed full");
      }
    }
    if (!TryPush(std::move(item))) {
      co_return Fail(Code::kCancelled, "the queue is closed");
    }
    co_return Result<void>();
  }

  std::optional<T> TryPop() {
    if (items_.empty()) {
      return std::nullopt;
    }
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    producers_.WakeAll();
    return item;
  }

  /// Waits for an item. Errors: kDeadlineExceeded; kCancelled if the channel is closed and empty.
  Task<Result<T>> Pop(Time deadline) {
    while (true) {
      if (std::optional<T> item = TryPop()) {
        co_return std::move(*item);
      }
      if (closed_) {
        co_return Fail(Code::kCancelled, "the queue is closed");
      }
      const bool woken = co_await consumers_.Wait(deadline);
      if (!woken && items_.empty() && !closed_) {
        co_return Fail(Code::kDeadlineExceeded, "the queue stayed empty");
      }
    }
  }

  /// No more items go in; those inside still come out. Idempotent.
  void Close() {
    closed_ = true;
    consumers_.WakeAll();
    producers_.WakeAll();
  }

  bool closed() const { return closed_; }

  std::size_t size() const { return items_.size(); }

 private:
  WaitList consumers_;
  WaitList producers_;
  std::deque<T> items_;
  std::size_t capacity_;
  bool closed_ = false;
};

/// Counts the work inside a service, so that it can end only after its work. Destroying it with
/// work inside is a bug.
class Gate final {
 public:
  /// One piece of work; ends when it dies. The gate outlives it.
  class [[nodiscard]] Pass final {
   public:
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}

    Pass& operator=(Pass&& other) noexcept {
      std::swap(gate_, other.gate_);
      return *this;
    }

    ~Pass() {
      if (gate_ != nullptr) {
        gate_->Leave();
      }
    }

   private:
    friend class Gate;

    explicit Pass(Gate* gate) : gate_(gate) {}

    Gate* gate_;
  };

  explicit Gate(Loop& loop) : waiters_(loop) {}

  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  ~Gate() { PX_ASSERT(count_ == 0); }

  /// Errors: kShuttingDown once Close() was called.
  Result<Pass> Enter();
  /// Lets nobody in any more; ends when all have left. May be awaited more than once.
  Task<void> Close();
  /// The same, but gives up waiting at `deadline`: false if work is still inside.
  Task<bool> Close(Time deadline);

  std::size_t count() const { return count_; }

  bool closed() const { return closed_; }

 private:
  void Leave();

  WaitList waiters_;
  std::size_t count_ = 0;
  bool closed_ = false;
};

class AbortSource;

/// A call made once when a source aborts; taken back when this dies.
class [[nodiscard]] AbortSubscription final : private ListNode {
 public:
  explicit AbortSubscription(Function<void(const Error&)> fn) : fn_(std::move(fn)) {}

 private:
  friend class AbortSource;
  Function<void(const Error&)> fn_;
};

/// Says once, with a reason, that some work should end.
class AbortSource final {
 public:
  explicit AbortSource(Loop& loop) : waiters_(loop) {}

  /// The first call counts. Subscribers are called at once, in the order they came.
  void Abort(Error reason);

  bool aborted() const { return reason_.has_value(); }

  /// Pre: aborted().
  const Error& reason() const { return *reason_; }

  /// `subscription` is called on Abort; at once if that was already.
  void Subscribe(AbortSubscription& subscription);
  /// Waits for Abort. False: the deadline passed first.
  Task<bool> Wait(Time deadline);

 private:
  WaitList waiters_;
  ListNode subscribers_;
  std::optional<Error> reason_;
};

namespace detail {

/// Runs a task under a deadline and an abort source; what is left of the task is destroyed,
/// wherever it waits.
template <class T>
class LimitedAwaiter final : public Suspended {
 public:
  LimitedAwaiter(Loop& loop, Task<Result<T>> task, Time deadline, AbortSource* abort)
      : loop_(loop), deadline_(deadline), abort_(abort), task_(RunInner(*this, std::move(task))) {}

  ~LimitedAwaiter() { loop_.CancelTimer(timer_); }

  bool await_ready() const { return false; }

  void await_suspend(std::coroutine_handle<> awaiting) {
    handle = awaiting;
    if (deadline_ != kNever) {
      timer_ = loop_.RunAt(deadline_, [this] {
        timer_ = TimerId::kNone;
        CutShort(Error(Code::kDeadlineExceeded, "the deadline passed"));
      });
    }
    if (abort_ != nullptr) {
      // From the loop, not inside Abort(): the task may itself be what aborts.
      subscription_.emplace([this](const Error& reason) {
        abort_reason_ = reason;
        WakeAborted();
      });
      abort_->Subscribe(*subscription_);
    }
    inner_running_.Start(std::move(task_));
  }

  Result<T> await_resume() {
    if (!result_ && abort_reason_) {
      inner_running_.Clear();
      return Fail(*abort_reason_);
    }
    return std::move(*result_);
  }

 private:
  static Task<void> RunInner(LimitedAwaiter& self, Task<Result<T>> task) {
    Result<T> result = co_await std::move(task);
    if (!self.result_) {
      self.result_.emplace(std::move(result));
      self.loop_.Resume(self);
    }
  }

  void CutShort(Error error) {
    if (!result_) {
      inner_running_.Clear();
      result_.emplace(Fail(std::move(error)));
      loop_.Resume(*this);
    }
  }

  void WakeAborted() {
    if (!result_) {
      loop_.Resume(*this);
    }
  }

  Loop& loop_;
  Time deadline_;
  AbortSource* abort_;
  TimerId timer_ = TimerId::kNone;
  std::optional<Error> abort_reason_;
  std::optional<Result<T>> result_;
  std::optional<AbortSubscription> subscription_;
  Task<void> task_;
  SpawnedTasks inner_running_;  // last: its frame uses what stands above
};

}  // namespace detail

/// The result of `task`, or kDeadlineExceeded at `deadline`; the unfinished rest of the task is
/// then destroyed.
template <class T>
Task<Result<T>> WithDeadline(Loop& loop, Task<Result<T>> task, Time deadline) {
  co_return co_await detail::LimitedAwaiter<T>(loop, std::move(task), deadline, nullptr);
}

/// The same, and `abort`'s reason as soon as it aborts. `abort` outlives the call.
template <class T>
Task<Result<T>> WithAbort(Loop& loop, Task<Result<T>> task, Time deadline, AbortSource& abort) {
  co_return co_await detail::LimitedAwaiter<T>(loop, std::move(task), deadline, &abort);
}

}  // namespace pixii::rt
