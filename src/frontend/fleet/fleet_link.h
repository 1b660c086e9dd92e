// Many workers as one: a WorkerLink that routes each request and moves it when its worker fails.
//
// Thread: one loop. docs/subsystems/fleet.md
// Every request that Generate took gets the end of each choice exactly once, whatever happens to
// workers meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "control/event_plane.h"
#include "control/instance.h"
#include "control/joined_answers.h"
#include "control/remote_link.h"
#include "control/worker_link.h"
#include "frontend/fleet/context_limits.h"
#include "frontend/fleet/fleet_adapters.h"
#include "frontend/fleet/fleet_metrics.h"
#include "frontend/fleet/flight.h"
#include "frontend/fleet/placer.h"
#include "frontend/fleet/request_times.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "router/route_adviser.h"
#include "router/router.h"
#include "router/service/linked_worker.h"
#include "rt/alarm.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::frontend {

struct FleetOptions {
  FlightOptions flight = {};
  /// How long a request that lost its worker waits for another one to appear.
  rt::Duration patience = std::chrono::seconds(10);
  control::MuxClientOptions client = {};  // but for the address
  router::RouterOptions router = {};
  control::EventPlane* plane = nullptr;  // where workers publish, too; null: nowhere
  std::uint64_t seed = 0;                // of random choices
  bool adopts_block_size = false;        // that of the first worker, whatever the card says
  obs::Log* log = nullptr;               // hears of workers, moves and decisions; null: nobody does
  obs::Registry* registry = nullptr;     // what decisions take, and what they rest on; null: nobody
  /// Hears whether there is a connection to a worker. May not destroy the link.
  std::function<void(control::InstanceId instance, bool connected)> on_connection = {};
  /// Hears that a worker said on its connection that it ends. May not destroy the link.
  std::function<void(control::InstanceId instance)> on_going_away = {};
  /// Hears that worker_count() changed, inside the link's own calls: look at it later.
  std::function<void()> on_workers = {};
  /// Asked before the link's own router, which keeps to the advice if it can; null: nobody.
  router::RouteAdviser* adviser = nullptr;
};

struct FleetCounters {
  std::uint64_t moves_new_request = 0;
  std::uint64_t moves_ongoing = 0;
  std::uint64_t moves_too_long = 0;  // that did not happen
};

class FleetLink final : public control::WorkerLink, public Placer {
 public:
  /// `card`: what every worker must serve; another model's or version's is not taken. All outlive
  /// the link.
  FleetLink(rt::Loop& loop, rt::Net& net, wire::ModelCard card, FleetOptions options);

  FleetLink(const FleetLink&) = delete;
  FleetLink& operator=(const FleetLink&) = delete;
  /// Cancels what runs; no handler is called any more.
  ~FleetLink() override;

  /// A worker came or changed; what runs at its old address goes on there. Errors: kInvalidArgument
  /// if it is not of this model and version.
  Result<void> SetInstance(const control::Instance& instance);

  /// A worker takes no new requests; what runs there goes on.
  void RemoveInstance(control::InstanceId instance);

  const wire::ModelCard& card() const override { return card_; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;

  /// The same, at `first` if that can have it.
  Result<void> GenerateAt(wire::GenerateRequest request, std::optional<router::Target> first,
                          FrameHandler on_frame);

  // Placer
  std::unique_ptr<PlacedRequest> Place(wire::GenerateRequest request, Filter may_have,
                                       PlacedHandler on_placed) override;

  /// Where a request runs; nothing: nowhere now.
  std::optional<router::Target> TargetOf(RequestId id) const;
  void Cancel(const wire::CancelRequest& cancel) override;
  void ReleaseMemory(const control::MemoryTags& tags, rt::Duration patience,
                     MemoryHandler on_done) override;
  void ResumeMemory(const control::MemoryTags& tags, MemoryHandler on_done) override;
  void ClearCache(control::CacheDepth depth, MemoryHandler on_done) override;
  /// The sum over all workers.
  control::WorkerLoad load() const override;

  bool routes() const override { return true; }

  Result<control::RouteExplanation> ExplainRoute(const wire::GenerateRequest& request) override;
  Result<void> SetBusyThresholds(const control::BusyThresholds& thresholds) override;
  control::BusyThresholds busy_thresholds() const override;
  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override;
  void UnloadAdapter(std::string name, AdapterHandler on_done) override;

  /// The files that a frontend needs of the model, from any worker. Errors: kUnavailable.
  void FetchFiles(control::RemoteLink::FilesHandler on_done);

  /// What decides here. Whoever changes it calls OnRouterChanged.
  router::Router& router() { return router_; }

  void OnRouterChanged() { Pump(); }

  /// Called whenever the router was told something or decided. Lives as long as the link.
  void OnPumped(std::function<void()> on_pumped) { on_pumped_ = std::move(on_pumped); }

  const FleetCounters& counters() const { return counters_; }

  const router::Router& router() const { return router_; }

  /// To the registry of the options: what is not written at once.
  void ExportMetrics();

  /// Workers that requests can be sent to now.
  std::size_t worker_count() const;
  /// Whether there is any; does not look at all of them.
  bool has_worker() const;

  /// These, with what each said last of its load.
  std::vector<std::pair<control::InstanceId, control::WorkerLoad>> loads() const;

  /// Whether they can be sent to this one.
  bool uses(control::InstanceId instance) const;

  /// Why they cannot, in one word; empty: they can. Pre: discovery has it, and SetInstance took it.
  std::string_view WhyNot(control::InstanceId instance) const;

  std::size_t outstanding_count() const { return entries_.size(); }

  /// Attempts that the router or a worker has, left ones included until the worker knows.
  std::size_t attempt_count() const;

 private:
  struct Worker {
    std::unique_ptr<router::LinkedWorker> linked;
    bool listed = true;  // discovery has it
  };

  struct Entry {
    Entry(wire::GenerateRequest request, FlightOptions options, FrameHandler on_frame_in)
        : flight(std::move(request), options), on_frame(std::move(on_frame_in)) {}

    enum class Where : std::uint8_t { kQueued, kWaiting, kRunning };

    Flight flight;
    FrameHandler on_frame;
    Where where = Where::kQueued;
    RequestId attempt{};  // as router and worker know it
    router::Target target{};
    control::RemoteLink* link = nullptr;       // of `target`, while kRunning; null if it is placed
    Filter may_have;                           // of one that is placed; empty: anybody
    std::shared_ptr<PlacedHandler> on_placed;  // null: it is sent to its worker
    bool told_worker = false;                  // the client's side knows `target`
    std::vector<control::InstanceId> failed_at;
    std::optional<control::InstanceId> moves_from;  // until it is sent again
    rt::Time begun{};
    rt::Time sent{};                  // last
    rt::Time last_token{};            // of what was sent last
    std::uint64_t output_tokens = 0;  // of all attempts
    rt::Time give_up{};               // once it has moved
    std::optional<Error> busy;        // why nobody took it last: all who could are full
    bool has_token = false;
    std::uint32_t advised_overlap = 0;    // tokens, where the adviser sends it
    bool advised = false;                 // its attempt is pinned to where the adviser said
    std::optional<router::Target> first;  // where it is to be tried before all else
    wire::RequestLeg leg;                 // of the attempt that runs; open while it was sent
    bool leg_open = false;
    std::vector<wire::RequestLeg> legs;  // ended and not told
    bool any_numerics = false;           // nobody who computes with the same bits took it
  };

  using EntryPtr = std::shared_ptr<Entry>;

  class PlacedHere;

  void Begin(const EntryPtr& entry);
  void TellPlace(const EntryPtr& entry, const router::Dispatch& dispatch);
  void OnPlacedTokens(RequestId id, std::uint32_t count);
  void EndPlaced(RequestId id);
  void CountTokens(Entry& entry, std::uint32_t count);
  void OnWorkerChange(control::InstanceId instance);
  void RefreshCard();
  void Route(const EntryPtr& entry);
  void RouteHere(router::RouteRequest request);
  void OnAdvice(RequestId attempt, const std::optional<Result<router::Advice>>& advice);
  router::RouteRequest Wanted(const wire::GenerateRequest& request) const;
  router::RouteRequest RouteOf(const Entry& entry) const;
  router::RouteRequest RouteOf(const wire::GenerateRequest& request, bool moved) const;
  void OpenLeg(Entry& entry, wire::GenerateRequest& request) const;
  void CloseLeg(Entry& entry, const Error* error, bool moved) const;
  void Say(const router::Dispatch& dispatch) const;
  void SayMoved(Entry& entry) const;
  void SayFailed(const Entry& entry, const Flight::Outcome& outcome) const;
  void Submit(const EntryPtr& entry);
  void Pump();
  void Send(const EntryPtr& entry, const router::Dispatch& dispatch);
  void OnFrame(const EntryPtr& entry, RequestId attempt, wire::TokenFrame frame);
  void Apply(const EntryPtr& entry, Flight::Outcome outcome);
  void Leave(const EntryPtr& entry);
  void NobodyTakes(const EntryPtr& entry, const Error& error);
  void Retry(const EntryPtr& entry);
  void RetryWaiting();
  void OnTime();
  void EndLate(const EntryPtr& entry);
  void Sweep();
  void SweepLater(rt::Duration pause = rt::Duration::zero());
  std::vector<control::InstanceId> OfOtherNumerics(const Entry& entry) const;
  std::vector<control::RemoteLink*> LinksInUse();
  std::vector<control::RemoteLink*> LinksThatMaySleep();
  template <class T>
  static void Ask(
      const std::vector<control::RemoteLink*>& links, typename control::JoinedAnswers<T>::Then then,
      const std::function<void(control::RemoteLink&, std::function<void(Result<T>)>)>& ask);
  void AskEveryWorkerForCard(AdapterHandler on_done,
                             const std::function<void(control::RemoteLink&, AdapterHandler)>& ask);

  rt::Loop& loop_;
  rt::Net& net_;
  wire::ModelCard card_;
  FleetOptions options_;
  router::Router router_;
  FleetCounters counters_;
  std::function<void()> on_pumped_;
  std::optional<FleetMetrics> metrics_;
  RouteTimes times_;  // of the decision in progress
  std::map<control::InstanceId, Worker> workers_;
  FleetAdapters adapters_;
  ContextLimits limits_;
  std::vector<std::unique_ptr<control::RemoteLink>> retired_;  // of old addresses, with requests
  std::unordered_map<RequestId, EntryPtr> entries_;            // by the caller's id
  std::unordered_map<RequestId, EntryPtr> attempts_;           // by the attempt's
  std::uint64_t last_attempt_ = 0;
  bool pumping_ = false;
  bool sweeping_ = false;
  RequestTimes waiting_;    // kWaiting: when it looks for a worker again, or gives up
  RequestTimes deadlines_;  // of all
  rt::Alarm alarm_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
};

}  // namespace pixii::frontend
