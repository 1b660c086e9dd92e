#include "rt/foreign_thread.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <utility>

#include "base/assert.h"
#include "rt/thread.h"

namespace pixii::rt {

struct ForeignThread::State {
  std::string name;
  Mutex mutex;
  CondVar changed;
  std::deque<Function<void()>> jobs PX_GUARDED_BY(mutex);
  Function<void()> last PX_GUARDED_BY(mutex);
  bool is_stopping PX_GUARDED_BY(mutex) = false;
  bool has_ended PX_GUARDED_BY(mutex) = false;
};

ForeignThread::ForeignThread(std::string name) : state_(std::make_shared<State>()) {
  name.resize(std::min<std::size_t>(name.size(), 15));
  state_->name = std::move(name);
  // Nobody joins it: its end is told by has_ended, if it comes.
  auto own = std::make_unique<std::shared_ptr<State>>(state_);
  // Signals to the process are for those who watch them: whoever blocks none would die of theirs.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) {
    ::sigdelset(&all, fault);
  }
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  pthread_t thread{};
  const int failure = ::pthread_create(&thread, nullptr, Serve, own.get());
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  PX_ASSERT(failure == 0);
  own.release();  // NOLINT(bugprone-unused-return-value): the thread owns it now
  ::pthread_detach(thread);
}

void* ForeignThread::Serve(void* argument) {
  const std::unique_ptr<std::shared_ptr<State>> own(static_cast<std::shared_ptr<State>*>(argument));
  State& state = **own;
  ::pthread_setname_np(::pthread_self(), state.name.c_str());
  while (true) {
    Function<void()> job;
    {
      const MutexLock lock(state.mutex);
      while (!state.is_stopping && state.jobs.empty()) {
        state.changed.Wait(state.mutex);
      }
      if (state.is_stopping) {
        job = std::move(state.last);
      } else {
        job = std::move(state.jobs.front());
        state.jobs.pop_front();
      }
    }
    if (!job) {
      break;
    }
    job();
  }
  const MutexLock lock(state.mutex);
  state.has_ended = true;
  state.changed.NotifyAll();
  return nullptr;
}

bool ForeignThread::Post(Function<void()> job) {
  const MutexLock lock(state_->mutex);
  if (state_->is_stopping || state_->jobs.size() >= kJobsMax) {
    return false;
  }
  state_->jobs.push_back(std::move(job));
  state_->changed.NotifyAll();
  return true;
}

bool ForeignThread::Stop(Duration limit, Function<void()> last) {
  std::deque<Function<void()>> dropped;
  const MutexLock lock(state_->mutex);
  if (std::exchange(state_->is_stopping, true)) {
    return true;
  }
  state_->last = std::move(last);
  dropped.swap(state_->jobs);
  state_->changed.NotifyAll();
  bool in_time = true;
  while (!state_->has_ended && in_time) {
    in_time = state_->changed.WaitFor(state_->mutex, limit);
  }
  return state_->has_ended;
}

}  // namespace pixii::rt
