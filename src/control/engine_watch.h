// Finds out whether the engine behind a link answers: a request of our own (a canary) whenever no
// other proved it lately, and a look at its steps while it has work.
//
// Thread: the loop it is made with.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "control/readiness.h"
#include "control/worker_link.h"
#include "rt/loop.h"
#include "rt/sync.h"

namespace pixii::control {

/// Test generations that ended so.
struct CanaryCounts {
  std::uint64_t ok = 0;
  std::uint64_t failed = 0;
  std::uint64_t busy = 0;  // the engine had other work: it says nothing
};

class EngineWatch final {
 public:
  /// `next_id` gives canaries ids that nobody else has. All outlive it.
  EngineWatch(rt::Loop& loop, WorkerLink& link, const ReadinessOptions& options,
              std::function<RequestId()> next_id);

  EngineWatch(const EngineWatch&) = delete;
  EngineWatch& operator=(const EngineWatch&) = delete;
  ~EngineWatch();

  /// Canaries begin; the first at once.
  void Start();

  /// No further ones.
  void Stop() { stopped_ = true; }

  /// A request of somebody gave something.
  void OnToken();

  /// Looks whether a canary is due: the engine may have woken up.
  void Probe();

  bool ready();

  bool ever_ready() const { return readiness_.ever_ready(); }

  /// A sentence: ready, or what is in the way.
  std::string Describe() const;

  const CanaryCounts& canaries() const { return canaries_; }

 private:
  rt::Task<void> Run();
  /// Nothing: success.
  rt::Task<std::optional<Error>> Canary();

  rt::Loop& loop_;
  WorkerLink& link_;
  ReadinessOptions options_;
  std::function<RequestId()> next_id_;
  Readiness readiness_;
  CanaryCounts canaries_;
  bool stopped_ = false;
  rt::WaitList probe_;      // a canary may be due
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
