// Routers at work: each decides for workers of one model among which a request may go anywhere.
//
// Thread: one loop. docs/subsystems/router.md, "The service"
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "router/policy_file.h"
#include "router/router.h"
#include "router/service/replica_mesh.h"
#include "rt/alarm.h"
#include "rt/loop.h"
#include "wire/messages/route.h"

namespace pixii::router {

/// A Router with time and with those who wait for it.
class Pool final {
 public:
  /// Where it went; `placement` is null where it went nowhere.
  using DispatchHandler = std::function<void(const Dispatch& dispatch, const Placement* placement)>;

  /// `loop` outlives it. `mesh`: those who are told and heard; null: nobody; outlives it. `number`:
  /// which of its book it is: ids of requests tell pools of one name apart that came one after the
  /// other.
  Pool(rt::Loop& loop, wire::PoolName name, RouterOptions options, std::uint64_t seed,
       ReplicaMesh* mesh, std::uint32_t number = 0);

  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  const wire::PoolName& name() const { return name_; }

  bool has_workers() const { return router_.rank_count() > 0; }

  /// Call Pump after changing it.
  Router& router() { return router_; }

  const Router& router() const { return router_; }

  /// The id of the request is given here. `on_dispatch` is called once, in this call or later,
  /// unless it is withdrawn before.
  RequestId Submit(RouteRequest request, DispatchHandler on_dispatch);

  /// It has not been dispatched yet.
  bool Waits(RequestId id) const { return waiting_.contains(id); }

  /// It runs there. Nothing: no such rank is here.
  std::optional<RequestId> Place(const Placement& placement);

  void OnFirstToken(RequestId id);
  void OnTokens(RequestId id, std::uint32_t count);
  void Withdraw(RequestId id);

  /// Hears of requests that count no more: withdrawn, expired, or their worker is gone.
  void OnFreed(std::function<void(RequestId)> on_freed) { on_freed_ = std::move(on_freed); }

  /// Tells everybody what was decided.
  void Pump();

  const ReplicaMesh::Member* member() const { return member_.get(); }

  /// No worker is in it, and no request.
  bool idle() const;

  /// Somebody keeps a pointer to it: it stays, idle or not.
  void Hold() { ++holds_; }

  void Release() { --holds_; }

  bool held() const { return holds_ > 0; }

 private:
  void Tell(std::vector<LoadChange>& changes, std::unordered_map<RequestId, Placement>& placed);

  rt::Loop& loop_;
  wire::PoolName name_;
  Router router_;
  std::unordered_map<RequestId, DispatchHandler> waiting_;
  std::function<void(RequestId)> on_freed_;
  std::uint64_t last_id_ = 0;
  bool pumping_ = false;
  std::uint32_t holds_ = 0;
  rt::Alarm alarm_;
  std::unique_ptr<ReplicaMesh::Member> member_;  // uses the router
};

/// All of a process, by model, group and blocks.
class PoolBook final {
 public:
  static constexpr std::size_t kPoolsMax = 1024;

  /// `policies`: what replaces the options' policy classes, by model; empty: nothing does.
  PoolBook(rt::Loop& loop, RouterOptions options, ReplicaMesh* mesh, PolicyFile policies = {})
      : loop_(loop), options_(std::move(options)), mesh_(mesh), policies_(std::move(policies)) {}

  /// The pool, made if it is new; idle ones that nobody holds make room: those of the same model
  /// with other blocks, and any if there are too many. Errors: kInvalidArgument if there are no
  /// tokens in a block; kResourceExhausted.
  Result<Pool*> Get(const wire::PoolName& name);

  /// nullptr: there is none.
  Pool* Find(const wire::PoolName& name) const;

  /// For those who name no blocks. While workers with blocks of one size take the place of those
  /// with another there are two: the one that has more ranks. nullptr: there is none.
  Pool* Find(std::string_view model, std::string_view group) const;

  /// By model, group, and tokens of a block.
  using Key = std::tuple<std::string, std::string, std::uint32_t>;
  using Pools = std::map<Key, std::unique_ptr<Pool>>;

  const Pools& pools() const { return pools_; }

  const RouterOptions& options() const { return options_; }

  /// Hears of each pool that is made, and of each that is about to go.
  void OnMade(std::function<void(Pool&)> on_made) { on_made_ = std::move(on_made); }

  void OnDropped(std::function<void(Pool&)> on_dropped) { on_dropped_ = std::move(on_dropped); }

 private:
  bool DropIfUnused(Pools::iterator pool);

  rt::Loop& loop_;
  RouterOptions options_;
  ReplicaMesh* mesh_;
  PolicyFile policies_;
  std::function<void(Pool&)> on_made_;
  std::function<void(Pool&)> on_dropped_;
  std::uint32_t made_count_ = 0;
  Pools pools_;
};

}  // namespace pixii::router
