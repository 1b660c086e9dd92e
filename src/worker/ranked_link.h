// The data-parallel ranks of a worker as one link: each an engine with a scheduler and KV blocks of
// its own behind a LocalLink. docs/subsystems/worker.md
//
// Thread: as LocalLink.
// Every request that Generate took gets the end of each choice exactly once. A rank whose device
// failed is dead: it gets nothing more, and what it had goes on at the others from where it is,
// since everything that an engine needs for it stands in the request (architecture.md section 4).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "rt/loop.h"
#include "worker/hosted_link.h"
#include "worker/local_link.h"
#include "worker/rank_placement.h"

namespace pixii::worker {

/// What a request that names a rank, and does not say how long it waits for it, does.
enum class RankMode : std::uint8_t {
  kStrict,   // waits, however long
  kRelaxed,  // waits for RankedLinkOptions::max_wait, then goes anywhere
  kNone,     // goes anywhere
};

struct RankedLinkOptions {
  RankMode mode = RankMode::kStrict;
  rt::Duration max_wait = std::chrono::milliseconds(100);
  RankPlacementOptions placement = {};  // but for rank_count and rank_places
  std::uint32_t waiting_max = 1024;     // requests that wait for a place at a rank
  /// A request named `rank`, which does not exist: it goes to another one.
  std::function<void(std::uint32_t rank)> on_unknown_rank = {};
  std::function<void(std::uint32_t rank, const Error& why)> on_dead_rank = {};
};

class RankedLink final : public HostedLink {
 public:
  /// `ranks`, at least one, are of one model with equal options. `loop` is theirs and outlives it.
  RankedLink(rt::Loop& loop, std::vector<std::unique_ptr<LocalLink>> ranks,
             RankedLinkOptions options);

  RankedLink(const RankedLink&) = delete;
  RankedLink& operator=(const RankedLink&) = delete;
  ~RankedLink() override;

  /// Of one rank: its blocks, its batch.
  const wire::ModelCard& card() const override { return ranks_.front()->card(); }

  /// Errors: those of LocalLink; kUnavailable if every rank is dead; kResourceExhausted if too many
  /// requests wait for a place at a rank.
  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;
  /// Of all ranks or none.
  void ReleaseMemory(const control::MemoryTags& tags, rt::Duration patience,
                     MemoryHandler on_done) override;
  void ResumeMemory(const control::MemoryTags& tags, MemoryHandler on_done) override;
  void ClearCache(control::CacheDepth depth, MemoryHandler on_done) override;
  /// Events say whose they are.
  Result<void> WatchKvEvents(KvEventHandler on_events) override;
  Result<void> WatchEngineKvEvents(EngineKvHandler on_events) override;
  control::WorkerLoad load() const override;
  std::vector<control::WorkerLoad> rank_loads() const override;
  /// At all ranks or none.
  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override;
  void UnloadAdapter(std::string name, AdapterHandler on_done) override;

  engine::EngineLoad engine_load() const override;
  void Drain() override;
  void Close(const Error& error) override;

  std::size_t outstanding_count() const override { return routes_.size(); }

  /// Requests that wait for a place at a rank.
  std::size_t waiting_count() const { return waiting_.size(); }

  std::size_t session_count() const { return placement_.session_count(); }

 private:
  /// A request under way.
  struct Route {
    wire::GenerateRequest request;  // with all that its caller has
    FrameHandler on_frame;
    std::optional<std::uint32_t> rank;  // nothing: it waits for a place
    rt::Time since{};                   // it came
    rt::TimerId timer = rt::TimerId::kNone;
    std::vector<bool> ended;      // [choice]
    std::vector<bool> cancelled;  // [choice]
    std::vector<bool> begun;      // [choice] a frame of it went out
    std::uint32_t live = 0;       // choices not ended
    std::uint32_t lost = 0;       // of them, ended by the death of their rank
    bool prompt_said = false;     // the prompt's logprobs went out
  };

  using RoutePtr = std::shared_ptr<Route>;

  RankPlacement::Decision Place(const Route& route);
  Result<void> Send(const RoutePtr& route, std::uint32_t rank);
  void Wait(const RoutePtr& route);
  void SendWaiting();
  void TakeFrame(const RoutePtr& route, std::uint32_t rank, wire::TokenFrame frame);
  bool IsLost(const RoutePtr& route, std::uint32_t rank, const wire::TokenFrame& frame);
  void Move(const RoutePtr& route, const Error& why);
  void MarkDead(std::uint32_t rank, const Error& why);
  void EndAll(const RoutePtr& route, const Error& error);
  void EndLater(const RoutePtr& route, const Error& error);
  void End(const RoutePtr& route, std::uint32_t choice, wire::FinishReason finish,
           const std::optional<Error>& error);
  void Forget(const RoutePtr& route);

  rt::Loop& loop_;
  RankedLinkOptions options_;
  RankPlacement placement_;
  std::unordered_map<RequestId, RoutePtr> routes_;
  std::list<RoutePtr> waiting_;  // first come first
  std::optional<Error> closed_;
  KvEventHandler on_kv_events_;
  EngineKvHandler on_engine_kv_events_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  std::vector<std::unique_ptr<LocalLink>> ranks_;               // last: their handlers end here
};

}  // namespace pixii::worker
