// A link whose engine, or engines, this process has: it can be ended, and its counters read.
//
// Thread: as control::WorkerLink.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "control/worker_link.h"
#include "engine/engine_loop.h"
#include "wire/zmq_kv_event.h"

namespace pixii::worker {

class HostedLink : public control::WorkerLink {
 public:
  /// Counters beyond WorkerLoad, for metrics; as of the last step heard of, of all ranks together.
  virtual engine::EngineLoad engine_load() const = 0;

  using EngineKvHandler =
      std::function<void(std::uint32_t rank, std::vector<wire::EngineKvEvent> events)>;

  /// As WatchKvEvents, which may be called besides, in the terms of engines: with tokens. Errors:
  /// kUnsupported without EngineOptions::kv_event_tokens.
  virtual Result<void> WatchEngineKvEvents(EngineKvHandler on_events) = 0;

  /// From now on Generate answers kShuttingDown; what runs goes on.
  virtual void Drain() = 0;

  /// Ends all that runs with `error`, now, by frames; Generate answers it from now on.
  virtual void Close(const Error& error) = 0;

  /// Requests that have not ended.
  virtual std::size_t outstanding_count() const = 0;
};

}  // namespace pixii::worker
