// A router's process over HTTP: the standalone indexer, the selection service, and why.
//
// Thread: one loop. docs/router_service.md has every route.
// Source: spec/dynamo-core.md B.7, B.11, 12.4. Unlike there, all but health and readiness need a
// key where keys are configured.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "frontend/api_keys.h"
#include "frontend/exchange.h"
#include "obs/metrics.h"
#include "router/service/catalog.h"
#include "router/service/pool.h"
#include "router/service/replica_mesh.h"
#include "router/service/reservations.h"
#include "router/service/worker_feed.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "wire/json.h"

namespace pixii::frontend {

class RouterApi final : public ExchangeHandler {
 public:
  /// All outlive it.
  struct Parts {
    rt::Loop& loop;
    router::PoolBook& pools;
    router::WorkerFeed* feed = nullptr;  // null: no discovery
    router::Catalog& catalog;
    router::Reservations& reservations;
    router::ReplicaMesh* mesh = nullptr;  // null: no replicas
    obs::Registry& registry;
    std::function<void()> on_expose = {};    // before figures are shown; empty: nobody adds any
    std::function<void()> reopen_logs = {};  // empty: there are none
  };

  RouterApi(Parts parts, ApiKeys keys);

  RouterApi(const RouterApi&) = delete;
  RouterApi& operator=(const RouterApi&) = delete;
  ~RouterApi() override;

  // ExchangeHandler
  void Handle(Exchange& exchange) override;
  Response Refusal(const wire::HttpFault& fault) override;

  /// Peers whose dump this one began with, and others of which it was told.
  std::set<std::string>& peers() { return peers_; }

  void SetKeys(ApiKeys keys) { keys_ = std::move(keys); }

 private:
  struct Route;
  class Waiter;

  /// A request that is being answered. `name`: what the route's path leaves open.
  struct Call {
    Exchange& exchange;
    std::string name;
  };

  using Answer = Result<Response>;

  static const std::vector<Route>& Routes();
  Answer Serve(const Route& route, Call& call);
  Result<void> Authorize(const wire::HttpRequest& request) const;
  void Count(const Route* route, const Response& response, rt::Time begun);

  // Liveness
  Answer Health(Call& call);
  Answer Ready(Call& call);
  Answer Metrics(Call& call);

  // The indexer
  Answer Register(Call& call);
  Answer Unregister(Call& call);
  Answer Query(Call& call);
  Answer QueryByHash(Call& call);
  Answer Dump(Call& call);
  Answer RegisterPeer(Call& call);
  Answer DeregisterPeer(Call& call);
  Answer Peers(Call& call);
  Answer ReopenLogs(Call& call);

  // Workers
  Answer Workers(Call& call);
  Answer PutWorker(Call& call);
  Answer PatchWorker(Call& call);
  Answer DeleteWorker(Call& call);

  // Selection
  Answer Select(Call& call);
  Answer SelectAndReserve(Call& call);
  Answer New(Call& call);
  Answer MarkPrefill(Call& call);
  Answer MarkFree(Call& call);
  Answer Reserve(Call& call);
  Answer PrefillComplete(Call& call);
  Answer OutputBlock(Call& call);
  Answer DeleteReservation(Call& call);
  Answer Loads(Call& call);
  Answer PotentialLoads(Call& call);
  Answer OverlapScores(Call& call);
  Answer Explain(Call& call);

  // Replicas
  Answer RegisterReplica(Call& call);
  Answer DeregisterReplica(Call& call);
  Answer Replicas(Call& call);

  enum class ChoiceForm : std::uint8_t { kSelect, kReserve, kNew };

  Answer Choose(Call& call, ChoiceForm form);
  Result<router::Pool*> PoolOf(const wire::Json& body) const;
  Answer Matches(router::Pool& pool, const std::vector<std::uint64_t>& hashes);
  wire::Json ChosenToJson(router::Pool& pool, const router::Chosen& chosen, ChoiceForm form) const;
  wire::Json Overlap(router::Pool& pool, const router::Placement& placement) const;
  wire::Json LoadsToJson(router::Pool& pool, const router::RouteRequest* request);
  std::string EndpointOf(const router::Pool& pool, router::InstanceId id) const;
  wire::Json WorkerList(const std::optional<std::string>& model,
                        const std::optional<std::string>& group) const;
  std::size_t SchedulableCount() const;
  void Collect();
  void Forget(Waiter& waiter);

  Parts parts_;
  ApiKeys keys_;
  std::set<std::string> peers_;
  std::set<std::string> replicas_;
  std::map<Waiter*, std::unique_ptr<Waiter>> waiters_;  // answers that come later
  bool deferred_ = false;                               // the call in progress is answered later
};

/// What another router's /dump says, into this one's catalog. Errors: kDataCorrupt.
Result<std::size_t> ImportDump(const std::string& dump, router::Catalog& catalog);

}  // namespace pixii::frontend
