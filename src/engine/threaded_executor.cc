#include "engine/threaded_executor.h"

#include <utility>

#include "base/assert.h"

namespace pixii::engine {

ThreadedExecutor::ThreadedExecutor(std::unique_ptr<StepExecutor> inner)
    : inner_(std::move(inner)), thread_("step", [this] { Run(); }) {}

ThreadedExecutor::~ThreadedExecutor() {
  {
    rt::MutexLock lock(mutex_);
    while (state_ == State::kBegun) {
      changed_.Wait(mutex_);
    }
    state_ = State::kStop;
    changed_.NotifyAll();
  }
  thread_.Join();
}

void ThreadedExecutor::Begin(const kernels::StepBatch& batch, std::span<float> logits) {
  rt::MutexLock lock(mutex_);
  PX_ASSERT(state_ == State::kIdle);
  batch_ = &batch;
  logits_ = logits;
  state_ = State::kBegun;
  changed_.NotifyAll();
}

Result<void> ThreadedExecutor::Wait() {
  rt::MutexLock lock(mutex_);
  PX_ASSERT(state_ != State::kIdle);
  while (state_ != State::kDone) {
    changed_.Wait(mutex_);
  }
  state_ = State::kIdle;
  return std::move(result_);
}

void ThreadedExecutor::Run() {
  for (;;) {
    const kernels::StepBatch* batch = nullptr;
    std::span<float> logits;
    {
      rt::MutexLock lock(mutex_);
      while (state_ != State::kBegun && state_ != State::kStop) {
        changed_.Wait(mutex_);
      }
      if (state_ == State::kStop) {
        return;
      }
      batch = batch_;
      logits = logits_;
    }
    Result<void> result = inner_->Execute(*batch, logits);
    rt::MutexLock lock(mutex_);
    result_ = std::move(result);
    state_ = State::kDone;
    changed_.NotifyAll();
  }
}

}  // namespace pixii::engine
