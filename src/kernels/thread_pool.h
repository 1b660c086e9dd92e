// Persistent threads that run one function together; the caller is worker 0.
//
// Thread: Run() from one thread at a time. A worker that finds nothing to do spins at most kSpinMax
//         and then sleeps in the kernel, so an idle pool costs nothing; so does the caller that
//         waits for the others. A worker that wakes up on the caller's CPU leaves it: the kernel
//         often puts it there, and then each of the two waits for the other.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace pixii::kernels {

/// Whether the pool's next round of work may begin.
class WorkGate {
 public:
  virtual ~WorkGate() = default;
  /// Returns when it may. Called by the pool's caller, before each round.
  virtual void Pass() = 0;
};

class ThreadPool final {
 public:
  static constexpr std::int32_t kThreadCountMax = 256;
  static constexpr std::chrono::microseconds kSpinMax{20};

  /// 1 .. kThreadCountMax; starts thread_count - 1 threads. `gate`, if any, outlives the pool.
  explicit ThreadPool(std::int32_t thread_count, WorkGate* gate = nullptr);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  std::int32_t thread_count() const { return static_cast<std::int32_t>(threads_.size()) + 1; }

  /// Calls function(worker) for every worker 0 .. thread_count - 1 at once and returns when all
  /// have ended.
  template <class Function>
  void Run(Function&& function) {
    using Plain = std::remove_reference_t<Function>;
    RunErased([](void* callee, std::int32_t worker) { (*static_cast<Plain*>(callee))(worker); },
              &function);
  }

 private:
  using Erased = void (*)(void* callee, std::int32_t worker);

  void RunErased(Erased call, void* callee);
  void Work(std::int32_t worker);

  // Apart, so that workers spinning on one line do not slow the other's writer.
  alignas(64) std::atomic<std::uint32_t> round_{0};
  alignas(64) std::atomic<std::uint32_t> running_{0};  // workers that have not ended this round
  alignas(64) Erased call_ = nullptr;                  // written before round_ is raised
  void* callee_ = nullptr;
  std::int32_t caller_cpu_ = 0;  // where it was when the round began
  bool stop_ = false;
  bool leaves_cpu_;  // there is a CPU for each worker
  WorkGate* gate_;   // null: rounds begin at once
  std::vector<std::thread> threads_;
};

}  // namespace pixii::kernels
