#include "model/rank_team.h"

#include <utility>

namespace pixii::model {

RankTeam::RankTeam(std::int32_t count, EndLinks end_links)
    : end_links_(std::move(end_links)), results_(static_cast<std::size_t>(count)) {
  for (std::int32_t rank = 1; rank < count; ++rank) {
    threads_.emplace_back("rank", [this, rank] { Serve(rank); });
  }
}

RankTeam::~RankTeam() {
  {
    rt::MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  for (rt::Thread& thread : threads_) {
    thread.Join();
  }
}

void RankTeam::Serve(std::int32_t rank) {
  for (std::uint64_t served = 0;; ++served) {
    {
      rt::MutexLock lock(mutex_);
      while (!stop_ && round_ == served) {
        changed_.Wait(mutex_);
      }
      if (stop_) {
        return;
      }
    }
    RunRank(rank);
  }
}

void RankTeam::RunRank(std::int32_t rank) {
  Result<void>& result = results_[static_cast<std::size_t>(rank)];
  result = (*work_)(rank);
  const bool failed = !result && result.error().code() != Code::kModelFault;
  {
    rt::MutexLock lock(mutex_);
    if (failed && first_failed_ < 0) {
      first_failed_ = rank;  // before the others can fail of it
    }
  }
  if (failed) {
    end_links_(rank);
  }
  rt::MutexLock lock(mutex_);
  --running_;
  changed_.NotifyAll();
}

std::int32_t RankTeam::Run(const Work& work) {
  {
    rt::MutexLock lock(mutex_);
    work_ = &work;
    first_failed_ = -1;
    running_ = count();
    ++round_;
    changed_.NotifyAll();
  }
  RunRank(0);
  rt::MutexLock lock(mutex_);
  while (running_ > 0) {
    changed_.Wait(mutex_);
  }
  return first_failed_;
}

}  // namespace pixii::model
