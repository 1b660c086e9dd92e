// Threads with names and locks that the compiler checks (-Wthread-safety). Used in rt/ and obs/
// only, and by the shells that own a thread; everybody else sends messages.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>

#include <pthread.h>

#include "rt/function.h"
#include "rt/time.h"

// Clang's thread-safety attributes: https://clang.llvm.org/docs/ThreadSafetyAnalysis.html
#define PX_CAPABILITY(name) __attribute__((capability(name)))
#define PX_SCOPED_CAPABILITY __attribute__((scoped_lockable))
#define PX_GUARDED_BY(mutex) __attribute__((guarded_by(mutex)))
#define PX_REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#define PX_EXCLUDES(...) __attribute__((locks_excluded(__VA_ARGS__)))
#define PX_ACQUIRE(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define PX_RELEASE(...) __attribute__((release_capability(__VA_ARGS__)))
#define PX_NO_THREAD_SAFETY_ANALYSIS __attribute__((no_thread_safety_analysis))

namespace pixii::rt {

class PX_CAPABILITY("mutex") Mutex final {
 public:
  void Lock() PX_ACQUIRE() { mutex_.lock(); }

  void Unlock() PX_RELEASE() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class PX_SCOPED_CAPABILITY MutexLock final {
 public:
  explicit MutexLock(Mutex& mutex) PX_ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }

  ~MutexLock() PX_RELEASE() { mutex_.Unlock(); }

  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

/// Waits can end without a reason: always wait in a loop on the condition.
class CondVar final {
 public:
  void Wait(Mutex& mutex) PX_REQUIRES(mutex) PX_NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }

  /// As Wait, but for `patience` at most. False: that passed.
  bool WaitFor(Mutex& mutex, Duration patience) PX_REQUIRES(mutex) PX_NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const std::cv_status status = condition_.wait_for(lock, patience);
    lock.release();
    return status == std::cv_status::no_timeout;
  }

  void NotifyOne() { condition_.notify_one(); }

  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

/// Runs `body` on a new thread, named in the debugger and in top; the destructor waits for its end.
/// Dies with a message if the system gives no thread.
class Thread final {
 public:
  Thread() = default;
  /// `name`: at most 15 bytes are kept.
  Thread(std::string name, Function<void()> body);
  Thread(Thread&& other) noexcept;
  Thread& operator=(Thread&& other) noexcept;

  ~Thread() { Join(); }

  /// Waits for its end; no effect the second time.
  void Join();

  bool joinable() const { return joinable_; }

 private:
  pthread_t thread_{};
  bool joinable_ = false;
};

}  // namespace pixii::rt
