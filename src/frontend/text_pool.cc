#include "frontend/text_pool.h"

#include <optional>
#include <utility>

namespace pixii::frontend {

TextPool::TextPool(rt::Loop& loop, std::uint32_t thread_count, std::uint32_t queue_length_max)
    : loop_(loop), queue_length_max_(queue_length_max), alive_(std::make_shared<bool>(true)) {
  for (std::uint32_t i = 0; i < thread_count; ++i) {
    threads_.emplace_back("text", [this] { Serve(); });
  }
}

TextPool::~TextPool() {
  *alive_ = false;
  {
    rt::MutexLock lock(mutex_);
    stopping_ = true;
    queue_.clear();
  }
  wake_.NotifyAll();
  threads_.clear();
}

bool TextPool::Submit(rt::Function<void()> work, rt::Function<void()> done) {
  {
    rt::MutexLock lock(mutex_);
    if (queue_.size() >= queue_length_max_) {
      return false;
    }
    queue_.push_back({std::move(work), std::move(done)});
  }
  wake_.NotifyOne();
  return true;
}

void TextPool::Serve() {
  while (true) {
    std::optional<Job> job;
    {
      rt::MutexLock lock(mutex_);
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

}  // namespace pixii::frontend
