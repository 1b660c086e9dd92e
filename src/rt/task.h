// A coroutine as a value: lazy, move-only, awaited at most once; destroying it destroys its frame
// wherever it waits.
//
// Thread: a task runs on the loop that started it. Whoever suspends it must take itself off every
// list when the frame dies (all awaiters of rt/ do), so tearing down a half-finished task is always
// safe. A chain of ready tasks of any length needs constant stack: each end hands over to its
// awaiter by symmetric transfer. There are no exceptions in src/: one that escapes a coroutine
// aborts.
#pragma once

#include <coroutine>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/assert.h"

namespace pixii::rt {

template <class T>
class Task;

namespace detail {

struct TaskPromiseBase {
  struct Final {
    bool await_ready() const noexcept { return false; }

    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
      return ended.promise().continuation;
    }

    void await_resume() const noexcept {}
  };

  std::suspend_always initial_suspend() const noexcept { return {}; }

  Final final_suspend() const noexcept { return {}; }

  [[noreturn]] void unhandled_exception() const noexcept {
    AssertFailed("no exception escapes a coroutine", __FILE__, __LINE__);
  }

  std::coroutine_handle<> continuation = std::noop_coroutine();
};

template <class T>
struct TaskPromise : TaskPromiseBase {
  Task<T> get_return_object();

  void return_value(T result) { value.emplace(std::move(result)); }

  T Take() { return std::move(*value); }

  std::optional<T> value;
};

template <>
struct TaskPromise<void> : TaskPromiseBase {
  Task<void> get_return_object();

  void return_void() const {}

  void Take() const {}
};

}  // namespace detail

template <class T>
class [[nodiscard]] Task final {
  static_assert(!std::is_reference_v<T>, "a task's result is a value");

 public:
  using promise_type = detail::TaskPromise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;

  explicit Task(Handle handle) : handle_(handle) {}

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      Destroy();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }

  ~Task() { Destroy(); }

  explicit operator bool() const { return handle_ != nullptr; }

  /// Starts the task; its end resumes the awaiter with its result. Pre: not empty, not awaited
  /// before.
  auto operator co_await() && noexcept {
    struct Awaiter {
      Handle handle;

      bool await_ready() const noexcept { return false; }

      std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) const noexcept {
        handle.promise().continuation = awaiting;
        return handle;
      }

      T await_resume() const { return handle.promise().Take(); }
    };

    PX_ASSERT(handle_ != nullptr && !handle_.done());
    return Awaiter{handle_};
  }

 private:
  void Destroy() {
    if (handle_ != nullptr) {
      std::exchange(handle_, nullptr).destroy();
    }
  }

  Handle handle_ = nullptr;
};

namespace detail {

template <class T>
Task<T> TaskPromise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<TaskPromise<T>>::from_promise(*this));
}

inline Task<void> TaskPromise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<TaskPromise<void>>::from_promise(*this));
}

}  // namespace detail

}  // namespace pixii::rt
