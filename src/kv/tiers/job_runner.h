// Where the slow part of a tier's work is done.
//
// Thread: Post from one thread; jobs run one at a time, in the order they came, urgent ones first.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "rt/function.h"
#include "rt/thread.h"

namespace pixii::kv {

using Job = rt::Function<void()>;

class JobRunner {
 public:
  /// Jobs that have not begun are dropped; one that runs is waited for.
  virtual ~JobRunner() = default;
  virtual void Post(bool urgent, Job job) = 0;
};

class JobThread final : public JobRunner {
 public:
  explicit JobThread(std::string name);
  ~JobThread() override;

  void Post(bool urgent, Job job) override;

 private:
  void Serve();

  rt::Mutex mutex_;
  rt::CondVar wake_;
  std::deque<Job> urgent_ PX_GUARDED_BY(mutex_);
  std::deque<Job> queue_ PX_GUARDED_BY(mutex_);
  bool stopping_ PX_GUARDED_BY(mutex_) = false;
  rt::Thread thread_;  // last: it uses what stands above
};

/// What other threads have to tell one: calls made there in the order they were put.
class Mailbox final {
 public:
  /// Called by whoever puts the first one, and by Wake. Before the first call of either nothing is
  /// lost: it is called at once if something has come already.
  void OnFirst(rt::Function<void()> wake);
  void Wake();
  void Put(Job call);
  /// Runs what has come.
  void RunAll();

 private:
  rt::Mutex mutex_;
  std::vector<Job> calls_ PX_GUARDED_BY(mutex_);
  std::shared_ptr<rt::Function<void()>> wake_ PX_GUARDED_BY(mutex_);
};

}  // namespace pixii::kv
