// The shell around an Engine: messages in, steps while there is work, one batch of frames per step
// and destination out.
//
// Thread: everything happens on `loop`; the public methods may be called from any thread and post
// to it. Between two steps all messages that have arrived are taken. When idle nothing runs. An
// executor of virtual time (StepExecutor::virtual_time_ns) has its frames delivered, and its next
// step begun, that much later on the loop's clock.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/self_audit.h"
#include "kernels/compute_turns.h"
#include "rt/function.h"
#include "rt/loop.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

enum class EngineState : std::uint8_t {
  kAwake,
  kDraining,  // takes nothing new and sleeps when what runs has ended
  kAsleep,    // some of its memory is given back
};

/// How busy an engine is.
struct EngineLoad {
  EngineState state = EngineState::kAwake;
  std::uint32_t running = 0;  // sequences in the batch
  std::uint32_t queued = 0;   // sequences waiting
  std::uint32_t blocks_used = 0;
  std::uint32_t blocks_cached = 0;
  std::uint32_t blocks_total = 0;
  /// Grows while work is there and the engine lives: its steps, and looks at blocks that it waits
  /// for.
  std::uint64_t steps = 0;
  EngineCounters engine;
  SchedulerCounters scheduler;
  kv::BlockCacheCounters blocks;
  kv::SessionCounters sessions;
  std::uint32_t adapters_loaded = 0;
  std::uint32_t adapters_resident = 0;  // on the device
  std::uint64_t adapter_evictions = 0;
  bool device_failed = false;  // Engine::device_failed
  AuditCounters audits;
};

EngineLoad LoadOf(const Engine& engine);

/// What one step gave one destination.
struct StepOutput {
  std::vector<wire::TokenFrame> frames;
  EngineLoad load;
  kv::CacheChanges kv_changes;  // if the destination watches them
};

enum class DestinationId : std::uint32_t {};

/// Called on the engine's loop with the adapters that requests may name now, or why nothing
/// changed.
using AdapterReply = rt::Function<void(Result<std::vector<wire::AdapterCard>>)>;

/// Called on the engine's loop, once, unless the loop ends first.
using MemoryReply = rt::Function<void(Result<void>)>;

/// Called on the engine's loop; hands the output to another loop and returns.
using StepSink = rt::Function<void(StepOutput)>;

struct EngineLoopOptions {
  /// One in so many answers is computed once more, cold, when there is nothing else to do; 0: none.
  std::uint32_t audit_rate = 0;
  /// Called on the engine's loop: an answer was not what it should have been.
  rt::Function<void(const AuditMismatch&)> on_mismatch = {};
  /// Who else computes here, between steps; null: nobody. Outlives the loop.
  kernels::ComputeTurns* turns = nullptr;
};

class EngineLoop final {
 public:
  /// Takes over `engine`, which is used on `loop` alone from now on. `loop` outlives this.
  EngineLoop(rt::Loop& loop, std::unique_ptr<Engine> engine, EngineLoopOptions options = {});

  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;
  /// Pre: on the loop's thread, or the loop does not run any more. Nothing is delivered afterwards.
  ~EngineLoop();

  DestinationId AddDestination(StepSink sink);
  /// Cancels what the destination has running; its sink gets nothing more.
  void RemoveDestination(DestinationId destination);

  /// Frames go to `destination`; a refusal arrives there as one frame with kError for each choice.
  void Submit(DestinationId destination, wire::GenerateRequest request);
  void Cancel(const wire::CancelRequest& cancel);

  /// As Engine::OfferFeatures, for requests that are submitted behind this call.
  void OfferFeatures(std::string digest, std::shared_ptr<const model::VisionFeatures> features);

  /// As Engine::LoadAdapter and UnloadAdapter, between two steps. `reply` is called once, unless
  /// the loop ends first.
  void LoadAdapter(std::string name, std::shared_ptr<const AdapterWeights> weights, bool pinned,
                   AdapterReply reply);
  void UnloadAdapter(std::string name, AdapterReply reply);

  /// Takes no new requests (kUnavailable), waits until what runs has ended and gives the memory of
  /// `parts` back; every destination hears of the state. After `patience` nothing is given back,
  /// requests are taken again and the reply is kDeadlineExceeded. Errors besides: kUnavailable if
  /// another release waits, Engine::Release's.
  void Release(const MemoryParts& parts, rt::Duration patience, MemoryReply reply);
  /// As Engine::Restore; a release that waits is given up.
  void Restore(const MemoryParts& parts, MemoryReply reply);
  /// As Engine::ClearCache, between two steps. `reply` is called once, unless the loop goes first.
  void ClearCache(bool lasting, MemoryReply reply);

  /// `destination` hears of the prefix cache from now on: of everything there is, then of each
  /// change, with the outputs of steps or apart. Nothing without EngineOptions::kv_event_count_max.
  void WatchKvEvents(DestinationId destination);

  bool tells_kv_events() const { return tells_kv_events_; }

  /// The changes have tokens and roots: EngineOptions::kv_event_tokens.
  bool tells_kv_tokens() const { return tells_kv_tokens_; }

  /// Ends every request with `error` and refuses new ones with it.
  void Shutdown(const Error& error);

  const wire::ModelCard& card() const { return card_; }

  /// Sequences that may be in the engine at a time, waiting ones included.
  std::uint32_t sequence_count_max() const { return sequence_count_max_; }

 private:
  class Core;

  void Post(rt::Function<void(Core&)> message);

  rt::Loop& loop_;
  wire::ModelCard card_;
  std::uint32_t sequence_count_max_;
  bool tells_kv_events_;
  bool tells_kv_tokens_;
  std::atomic<std::uint32_t> next_destination_{1};
  std::shared_ptr<Core> core_;  // messages under way hold it weakly
};

}  // namespace pixii::engine
