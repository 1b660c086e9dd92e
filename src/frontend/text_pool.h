// A few threads for work that would hold up the I/O loop: parsing, templating and tokenizing of
// long prompts.
//
// Thread: Submit and the destructor on the loop's thread (or when it has stopped); `work` runs on a
// thread of the pool.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "rt/function.h"
#include "rt/loop.h"
#include "rt/thread.h"

namespace pixii::frontend {

class TextPool final {
 public:
  TextPool(rt::Loop& loop, std::uint32_t thread_count, std::uint32_t queue_length_max);
  TextPool(const TextPool&) = delete;
  TextPool& operator=(const TextPool&) = delete;
  /// Waits for the work that runs; what waits is dropped, and no `done` is called any more.
  ~TextPool();

  /// Runs `work` on a thread, then `done` on the loop. False, and neither runs: the queue is full.
  [[nodiscard]] bool Submit(rt::Function<void()> work, rt::Function<void()> done);

 private:
  struct Job {
    rt::Function<void()> work;
    rt::Function<void()> done;
  };

  void Serve();

  rt::Loop& loop_;
  std::uint32_t queue_length_max_;
  std::shared_ptr<bool> alive_;  // read and written on the loop alone
  rt::Mutex mutex_;
  rt::CondVar wake_;
  std::deque<Job> queue_ PX_GUARDED_BY(mutex_);
  bool stopping_ PX_GUARDED_BY(mutex_) = false;
  std::vector<rt::Thread> threads_;  // last: they use what stands above
};

}  // namespace pixii::frontend
