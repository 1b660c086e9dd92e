// Answers frontends that ask where requests should go, and hears replicas, over mux connections.
//
// Thread: one loop. docs/formats/messages.md, methods `route` and `replica`
// What a caller of `route` was told runs until it says otherwise or its connection is gone: then it
// counts no more, at once. While the connection lives its requests live, however long.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "control/mux_server.h"
#include "router/service/pool.h"
#include "router/service/replica_mesh.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "wire/messages/route.h"

namespace pixii::router {

inline constexpr std::string_view kRouteMethod = "route";

struct RouteServiceOptions {
  control::MuxOptions mux = {};
  rt::Duration alive_period =
      std::chrono::milliseconds(250);         // requests of callers are known to live
  std::size_t requests_max = 262'144;         // of one caller
  std::size_t unread_bytes_max = 32U << 20U;  // of one caller, above which it is given up
};

class RouteService final : private control::MuxService {
 public:
  /// All outlive it. `pools` null: it routes nothing; `mesh` null: it hears no replicas.
  RouteService(rt::Loop& loop, rt::Net& net, PoolBook* pools, ReplicaMesh* mesh,
               RouteServiceOptions options);

  RouteService(const RouteService&) = delete;
  RouteService& operator=(const RouteService&) = delete;
  /// What callers have running counts no more.
  ~RouteService();

  Result<rt::Address> Start(const rt::Address& address) { return server_.Start(address); }

  /// Takes no new callers.
  void Drain() { server_.GoAway(); }

  std::size_t caller_count() const { return callers_.size(); }

 private:
  struct Caller {
    wire::PoolName pool;
    bool named = false;
    std::unordered_map<std::uint64_t, RequestId> requests;  // by the caller's ids
  };

  // control::MuxService
  void OnCall(control::CallId id, std::string_view method, rt::Duration deadline_left) override;
  void OnMessage(control::CallId id, std::string message) override;
  void OnGone(control::CallId id) override;

  Pool* PoolOf(const Caller& caller) const;
  Result<void> TakeBatch(control::CallId id, Caller& caller, wire::RouteBatch batch);
  void TakePlaced(Pool& pool, Caller& caller, wire::RoutePlaced placed);
  void TakeAsk(control::CallId id, Pool* pool, Caller& caller, wire::RouteAsk ask);
  void TakeNews(Pool& pool, Caller& caller, const wire::RouteNews& news);
  void OnDispatch(control::CallId id, std::uint64_t ask, const Dispatch& dispatch);
  void Answer(control::CallId id, wire::RouteAnswer answer);
  void Flush();
  void Forget(Caller& caller);
  void End(control::CallId id, Error error);
  rt::Task<void> AliveLoop();

  rt::Loop& loop_;
  PoolBook* pools_;
  ReplicaMesh* mesh_;
  RouteServiceOptions options_;
  std::map<control::CallId, Caller> callers_;  // of `route`
  std::map<control::CallId, bool> replicas_;   // callers of `replica`
  bool collecting_ = false;                    // a batch is in progress: answers wait for its end
  std::map<control::CallId, wire::RouteAnswers> answers_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  control::MuxServer server_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::router
