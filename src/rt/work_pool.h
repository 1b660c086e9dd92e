// A few threads for work that would hold up a loop: tokenizing of long prompts, reading of files.
//
// Thread: Submit and the destructor on the loop's thread (or when it has stopped); `work` runs on a
// thread of the pool.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "rt/function.h"
#include "rt/loop.h"
#include "rt/thread.h"

namespace pixii::rt {

class WorkPool final {
 public:
  WorkPool(Loop& loop, const std::string& thread_name, std::uint32_t thread_count,
           std::uint32_t queue_length_max);
  WorkPool(const WorkPool&) = delete;
  WorkPool& operator=(const WorkPool&) = delete;
  /// Waits for the work that runs; what waits is dropped, and no `done` is called any more.
  ~WorkPool();

  /// Runs `work` on a thread, then `done` on the loop. False, and neither runs: the queue is full.
  [[nodiscard]] bool Submit(Function<void()> work, Function<void()> done);

 private:
  struct Job {
    Function<void()> work;
    Function<void()> done;
  };

  void Serve();

  Loop& loop_;
  std::uint32_t queue_length_max_;
  std::shared_ptr<bool> alive_;  // read and written on the loop alone
  Mutex mutex_;
  CondVar wake_;
  std::deque<Job> queue_ PX_GUARDED_BY(mutex_);
  bool stopping_ PX_GUARDED_BY(mutex_) = false;
  std::vector<Thread> threads_;  // last: they use what stands above
};

}  // namespace pixii::rt
