// An engine in the same process as a control::WorkerLink: messages cross by Post between two loops.
//
// Thread: the frontend's loop; the engine's loop may be another one or the same.
// Every request that Generate took gets the end of each choice exactly once, also when the link is
// closed first. docs/subsystems/worker.md
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/worker_link.h"
#include "engine/engine_loop.h"
#include "rt/loop.h"
#include "worker/hosted_link.h"
#include "worker/link_adapters.h"

namespace pixii::worker {

/// What the engine itself does not know of the model card.
struct LocalLinkOptions {
  std::string name;
  std::vector<TokenId> eos_token_ids;
  TokenId bos_token_id = -1;
  AdapterLinkOptions adapters = {};
  /// Hears on the frontend's loop that the engine sleeps, is about to, or woke up.
  std::function<void(engine::EngineState)> on_state = {};
  /// Listeners to an engine hear of all its tiers as of one: KvConsolidator. Else of each.
  bool consolidates_kv_events = true;
};

class LocalLink final : public HostedLink {
 public:
  /// `frontend_loop` and `engine` outlive the link.
  LocalLink(rt::Loop& frontend_loop, engine::EngineLoop& engine, LocalLinkOptions options);

  LocalLink(const LocalLink&) = delete;
  LocalLink& operator=(const LocalLink&) = delete;
  /// Cancels what still runs; no handler is called any more.
  ~LocalLink() override;

  const wire::ModelCard& card() const override { return card_; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;
  void ReleaseMemory(const control::MemoryTags& tags, rt::Duration patience,
                     MemoryHandler on_done) override;
  void ResumeMemory(const control::MemoryTags& tags, MemoryHandler on_done) override;
  void ClearCache(control::CacheDepth depth, MemoryHandler on_done) override;
  /// Errors: kUnsupported without EngineOptions::kv_event_count_max.
  Result<void> WatchKvEvents(KvEventHandler on_events) override;
  Result<void> WatchEngineKvEvents(EngineKvHandler on_events) override;
  control::WorkerLoad load() const override;
  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override;
  void UnloadAdapter(std::string name, AdapterHandler on_done) override;

  engine::EngineLoad engine_load() const override;
  void Drain() override;
  void Close(const Error& error) override;
  std::size_t outstanding_count() const override;

 private:
  class Core;

  void SendWhenLoaded(wire::GenerateRequest request);

  engine::MemoryReply ReplyTo(MemoryHandler on_done);

  rt::Loop& frontend_loop_;
  engine::EngineLoop& engine_;
  wire::ModelCard card_;
  engine::DestinationId destination_{};
  std::shared_ptr<Core> core_;  // frames under way hold it weakly
  LinkAdapters adapters_;
};

}  // namespace pixii::worker
