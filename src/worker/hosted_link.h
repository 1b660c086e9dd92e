// A link whose engine, or engines, this process has: it can be ended, and its counters read.
//
// Thread: as control::WorkerLink.
#pragma once

#include <cstddef>

#include "control/worker_link.h"
#include "engine/engine_loop.h"

namespace pixii::worker {

class HostedLink : public control::WorkerLink {
 public:
  /// Counters beyond WorkerLoad, for metrics; as of the last step heard of, of all ranks together.
  virtual engine::EngineLoad engine_load() const = 0;

  /// From now on Generate answers kShuttingDown; what runs goes on.
  virtual void Drain() = 0;

  /// Ends all that runs with `error`, now, by frames; Generate answers it from now on.
  virtual void Close(const Error& error) = 0;

  /// Requests that have not ended.
  virtual std::size_t outstanding_count() const = 0;
};

}  // namespace pixii::worker
