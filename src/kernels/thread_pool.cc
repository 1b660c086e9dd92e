#include "kernels/thread_pool.h"

#include "base/assert.h"
#include "kernels/spin.h"
#include "rt/cpu.h"

namespace pixii::kernels {
namespace {

// Real time, not the program's: it bounds a spin and decides nothing.
using SpinClock = std::chrono::steady_clock;

/// So long a worker stays where it went, or was put again: the kernel weighs its CPUs about as
/// often.
constexpr std::chrono::milliseconds kStay{4};

constexpr int kPausesPerLook = 16;  // looking at the clock costs about as much as these

/// Waits until `word` differs from `value`: first by spinning, then asleep.
void WaitWhile(const std::atomic<std::uint32_t>& word, std::uint32_t value) {
  const SpinClock::time_point begin = SpinClock::now();
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (word.load(std::memory_order_acquire) != value) {
        return;
      }
      SpinPause();
    }
  } while (SpinClock::now() - begin < ThreadPool::kSpinMax);
  while (word.load(std::memory_order_acquire) == value) {
    word.wait(value, std::memory_order_acquire);
  }
}

}  // namespace

ThreadPool::ThreadPool(std::int32_t thread_count, WorkGate* gate)
    : leaves_cpu_(thread_count <= rt::AllowedCpuCount()), gate_(gate) {
  PX_ASSERT(thread_count >= 1 && thread_count <= kThreadCountMax);
  for (std::int32_t worker = 1; worker < thread_count; ++worker) {
    threads_.emplace_back([this, worker] { Work(worker); });
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void ThreadPool::RunErased(Erased call, void* callee) {
  if (gate_ != nullptr) {
    gate_->Pass();
  }
  if (threads_.empty()) {
    call(callee, 0);
    return;
  }
  call_ = call;
  callee_ = callee;
  caller_cpu_ = rt::CurrentCpu();
  running_.store(static_cast<std::uint32_t>(threads_.size()), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  call(callee, 0);
  for (std::uint32_t left = running_.load(std::memory_order_acquire); left != 0;
       left = running_.load(std::memory_order_acquire)) {
    WaitWhile(running_, left);
  }
}

void ThreadPool::Work(std::int32_t worker) {
  std::uint32_t seen = 0;
  SpinClock::time_point stays_until = SpinClock::now();
  while (true) {
    WaitWhile(round_, seen);
    ++seen;
    if (stop_) {
      return;
    }
    if (leaves_cpu_ && rt::CurrentCpu() == caller_cpu_ && SpinClock::now() >= stays_until) {
      rt::LeaveCpu(caller_cpu_);
      stays_until = SpinClock::now() + kStay;
    }
    call_(callee_, worker);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      running_.notify_one();
    }
  }
}

}  // namespace pixii::kernels
