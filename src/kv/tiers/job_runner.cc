#include "kv/tiers/job_runner.h"

#include <utility>

namespace pixii::kv {

JobThread::JobThread(std::string name) : thread_(std::move(name), [this] { Serve(); }) {}

JobThread::~JobThread() {
  {
    const rt::MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  thread_.Join();
}

void JobThread::Post(bool urgent, Job job) {
  {
    const rt::MutexLock lock(mutex_);
    (urgent ? urgent_ : queue_).push_back(std::move(job));
  }
  wake_.NotifyOne();
}

void JobThread::Serve() {
  while (true) {
    Job job;
    {
      const rt::MutexLock lock(mutex_);
      while (!stopping_ && urgent_.empty() && queue_.empty()) {
        wake_.Wait(mutex_);
      }
      if (stopping_) {
        return;
      }
      std::deque<Job>& from = urgent_.empty() ? queue_ : urgent_;
      job = std::move(from.front());
      from.pop_front();
    }
    job();
  }
}

void Mailbox::OnFirst(rt::Function<void()> wake) {
  bool waits = false;
  {
    const rt::MutexLock lock(mutex_);
    wake_ = std::make_shared<rt::Function<void()>>(std::move(wake));
    waits = !calls_.empty();
  }
  if (waits) {
    Wake();
  }
}

void Mailbox::Wake() {
  std::shared_ptr<rt::Function<void()>> wake;
  {
    const rt::MutexLock lock(mutex_);
    wake = wake_;
  }
  if (wake) {
    (*wake)();
  }
}

void Mailbox::Put(Job call) {
  bool first = false;
  {
    const rt::MutexLock lock(mutex_);
    first = calls_.empty();
    calls_.push_back(std::move(call));
  }
  if (first) {
    Wake();
  }
}

void Mailbox::RunAll() {
  std::vector<Job> calls;
  {
    const rt::MutexLock lock(mutex_);
    calls.swap(calls_);
  }
  for (Job& call : calls) {
    call();
  }
}

}  // namespace pixii::kv
