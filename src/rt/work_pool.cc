#include "rt/work_pool.h"

#include <optional>
#include <string>
#include <utility>

namespace pixii::rt {

WorkPool::WorkPool(Loop& loop, const std::string& thread_name, std::uint32_t thread_count,
                   std::uint32_t queue_length_max)
    : loop_(loop), queue_length_max_(queue_length_max), alive_(std::make_shared<bool>(true)) {
  for (std::uint32_t i = 0; i < thread_count; ++i) {
    threads_.emplace_back(thread_name, [this] { Serve(); });
  }
}

WorkPool::~WorkPool() {
  *alive_ = false;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    queue_.clear();
  }
  wake_.NotifyAll();
  threads_.clear();
}

bool WorkPool::Submit(Function<void()> work, Function<void()> done) {
  {
    MutexLock lock(mutex_);
    if (queue_.size() >= queue_length_max_) {
      return false;
    }
    queue_.push_back({std::move(work), std::move(done)});
  }
  wake_.NotifyOne();
  return true;
}

void WorkPool::Serve() {
  while (true) {
    std::optional<Job> job;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stopping_) {
        wake_.Wait(mutex_);
      }
      if (stopping_) {
        return;
      }
      job.emplace(std::move(queue_.front()));
      queue_.pop_front();
    }
    job->work();
    job->work = nullptr;  // what it holds dies here, or with the loop's copy
    loop_.Post([alive = alive_, done = std::move(job->done)] {
      if (*alive) {
        done();
      }
    });
  }
}

}  // namespace pixii::rt
