#include "rt/loop.h"

namespace pixii::rt {

// The frame that owns a spawned task: it destroys itself at its end, and its promise leaves the
// owner's list then.
struct SpawnedTasks::Root {
  struct promise_type : ListNode {
    promise_type(SpawnedTasks& owner_in, Task<void>&) : owner(owner_in) {
      owner.roots_.PushBack(*this);
      ++owner.count_;
    }

    ~promise_type() { --owner.count_; }

    Root get_return_object() const { return {}; }

    std::suspend_never initial_suspend() const noexcept { return {}; }

    std::suspend_never final_suspend() const noexcept { return {}; }

    void return_void() const {}

    [[noreturn]] void unhandled_exception() const noexcept {
      AssertFailed("no exception escapes a coroutine", __FILE__, __LINE__);
    }

    SpawnedTasks& owner;
  };
};

SpawnedTasks::Root SpawnedTasks::RunRoot(SpawnedTasks& /*owner*/, Task<void> task) {
  co_await std::move(task);
}

SpawnedTasks::~SpawnedTasks() { Clear(); }

void SpawnedTasks::Start(Task<void> task) {
  PX_ASSERT(task);
  RunRoot(*this, std::move(task));
}

void SpawnedTasks::Clear() {
  while (roots_.linked()) {
    auto& promise = static_cast<Root::promise_type&>(*roots_.next());
    std::coroutine_handle<Root::promise_type>::from_promise(promise).destroy();
  }
}

namespace {

class SleepAwaiter : public Suspended {
 public:
  SleepAwaiter(Loop& loop, Time when) : loop_(loop), when_(when) {}

  ~SleepAwaiter() { loop_.CancelTimer(timer_); }

  bool await_ready() const { return false; }

  void await_suspend(std::coroutine_handle<> awaiting) {
    handle = awaiting;
    if (when_ == kNever) {
      return;
    }
    timer_ = loop_.RunAt(when_, [this] {
      timer_ = TimerId::kNone;
      handle.resume();
    });
  }

  void await_resume() const {}

 private:
  Loop& loop_;
  Time when_;
  TimerId timer_ = TimerId::kNone;
};

}  // namespace

Task<void> Loop::SleepUntil(Time when) { co_await SleepAwaiter(*this, when); }

}  // namespace pixii::rt
