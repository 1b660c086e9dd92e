// How a frontend reaches a worker, wherever it is: a function call, a socket, the simulator.
//
// Thread: every method is called on the frontend's loop, and handlers run on that loop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/route_explanation.h"
#include "rt/time.h"
#include "wire/messages/adapters.h"
#include "wire/messages/generate.h"
#include "wire/messages/kv_event.h"
#include "wire/messages/worker.h"

namespace pixii::control {

using wire::MemoryTags;
using wire::WorkerLoad;
using wire::WorkerState;

/// Beyond any of these a worker takes nothing new; nothing: not looked at.
struct BusyThresholds {
  std::optional<double> decode_blocks = {};          // of its KV blocks, 0 .. 1
  std::optional<std::uint64_t> prefill_tokens = {};  // that it has to compute
  std::optional<double> prefill_tokens_frac = {};    // the same, of its tokens of a step
};

/// What is cleared with a cache: the worker's memory alone, or also its blocks in files and stores.
enum class CacheDepth : std::uint8_t { kMemory, kLasting };

class WorkerLink {
 public:
  using FrameHandler = std::function<void(wire::TokenFrame)>;

  virtual ~WorkerLink() = default;

  /// What the worker is; `adapters` changes between two turns of the loop.
  virtual const wire::ModelCard& card() const = 0;

  /// Sends `request`. On success `on_frame` is called with the frames of every choice until each
  /// has ended, exactly once; also if the worker dies (kError, kDisconnected). Never called after
  /// the last end. Errors: kShuttingDown, kResourceExhausted (queue bound), kUnavailable; then
  /// on_frame is never called.
  virtual Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) = 0;

  /// Asks for an early end; the choice's last frame (kCancelled, or what ended it first) still
  /// comes.
  virtual void Cancel(const wire::CancelRequest& cancel) = 0;

  using MemoryHandler = std::function<void(Result<void>)>;

  /// Puts the worker to sleep: what runs may end within `patience`, nothing new is taken
  /// (kUnavailable). Then nothing has happened: kDeadlineExceeded. `on_done` is called once, unless
  /// the link goes first. Errors: kUnsupported, kUnavailable.
  virtual void ReleaseMemory(const MemoryTags& /*tags*/, rt::Duration /*patience*/,
                             MemoryHandler on_done) {
    on_done(Fail(Code::kUnsupported, "this worker keeps its memory"));
  }

  /// Wakes it up. Errors: those of loading; it sleeps on then.
  virtual void ResumeMemory(const MemoryTags& /*tags*/, MemoryHandler on_done) {
    on_done(Fail(Code::kUnsupported, "this worker keeps its memory"));
  }

  /// Nobody finds what the prefix cache holds any more, nor what tiers behind it do, as far as
  /// `depth` says; what runs goes on. `on_done` is called once, unless the link goes first.
  /// Errors: kUnsupported.
  virtual void ClearCache(CacheDepth /*depth*/, MemoryHandler on_done) {
    on_done(Fail(Code::kUnsupported, "this worker has no cache that could be cleared"));
  }

  /// The last known load.
  virtual WorkerLoad load() const = 0;

  /// The same of each data-parallel rank, in order; load() is then their sum. Never empty.
  virtual std::vector<WorkerLoad> rank_loads() const { return {load()}; }

  /// Whether requests may name their worker (GenerateRequest::routing).
  virtual bool routes() const { return false; }

  /// Where `request` would go now, and why; nothing is sent. Errors: kUnsupported if nobody chooses
  /// here.
  virtual Result<RouteExplanation> ExplainRoute(const wire::GenerateRequest& /*request*/) {
    return Fail(Code::kUnsupported, "this server has one worker, and no router that would choose");
  }

  /// When workers count as busy. Errors: kUnsupported if nobody chooses here.
  virtual Result<void> SetBusyThresholds(const BusyThresholds& /*thresholds*/) {
    return Fail(Code::kUnsupported, "this server has one worker, and no router that would choose");
  }

  virtual BusyThresholds busy_thresholds() const { return {}; }

  using KvEventHandler = std::function<void(std::vector<wire::KvEvent> events)>;

  /// From now on `on_events` hears what requests can find in the worker's KV cache, in order and
  /// without gaps: first everything there is, then each change. A kCleared makes void what was
  /// said; it comes again, with everything after it, whenever changes were missed. Replaces the
  /// handler before. Errors: kUnsupported.
  virtual Result<void> WatchKvEvents(KvEventHandler /*on_events*/) {
    return Fail(Code::kUnsupported, "this worker tells nobody of its KV blocks");
  }

  using AdapterHandler = std::function<void(Result<wire::AdapterCard>)>;

  /// Makes an adapter one that requests may name: card().adapters has it when `on_done` is called
  /// with its card. Errors: kUnsupported (this worker loads none), kNotFound, kDataCorrupt,
  /// kInvalidArgument (the folder or the name), kResourceExhausted.
  virtual void LoadAdapter(wire::LoadAdapterRequest /*request*/, AdapterHandler on_done) {
    on_done(Fail(Code::kUnsupported, "this worker loads no adapters", "lora_name"));
  }

  /// Takes a name back; requests that have the adapter go on with it. `on_done` gets the card it
  /// had. Errors: kUnsupported, kNotFound.
  virtual void UnloadAdapter(std::string /*name*/, AdapterHandler on_done) {
    on_done(Fail(Code::kUnsupported, "this worker loads no adapters", "lora_name"));
  }
};

}  // namespace pixii::control
