// Threads of the ranks that hold one model together: all run the same piece of work, each its part.
//
// Thread: one caller, who is rank 0; every other rank has a thread of its own, which sleeps between
// two pieces.
// Failures: a rank that fails ends what the others wait for, so that they fail, too; who failed
// first is known. kModelFault is a result like others: the rank has done its exchanges.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.h"
#include "rt/thread.h"

namespace pixii::model {

class RankTeam final {
 public:
  using Work = std::function<Result<void>(std::int32_t rank)>;
  /// Called on the thread of a rank that failed: aborts the links that it has.
  using EndLinks = std::function<void(std::int32_t rank)>;

  RankTeam(std::int32_t count, EndLinks end_links);
  RankTeam(const RankTeam&) = delete;
  RankTeam& operator=(const RankTeam&) = delete;
  ~RankTeam();

  std::int32_t count() const { return static_cast<std::int32_t>(results_.size()); }

  /// Runs `work` on every rank. Returns the rank that failed first, or -1; then its links are over.
  std::int32_t Run(const Work& work);

  /// What a rank's work returned last.
  Result<void>& result(std::int32_t rank) { return results_[static_cast<std::size_t>(rank)]; }

 private:
  void Serve(std::int32_t rank);
  void RunRank(std::int32_t rank);

  EndLinks end_links_;
  std::vector<Result<void>> results_;  // [rank]; each rank writes its own
  const Work* work_ = nullptr;         // of the round at hand

  rt::Mutex mutex_;
  rt::CondVar changed_;
  std::uint64_t round_ PX_GUARDED_BY(mutex_) = 0;   // pieces of work begun
  std::int32_t running_ PX_GUARDED_BY(mutex_) = 0;  // ranks that have not ended the round's
  std::int32_t first_failed_ PX_GUARDED_BY(mutex_) = -1;
  bool stop_ PX_GUARDED_BY(mutex_) = false;
  std::vector<rt::Thread> threads_;  // last: they use what stands above
};

}  // namespace pixii::model
