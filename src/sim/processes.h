// The processes of a simulated cluster, put together as the commands put theirs together.
//
// Thread: one; each process has a node of its own, or two.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/discovery.h"
#include "control/mem_store.h"
#include "engine/engine_loop.h"
#include "frontend/fleet/fleet_link.h"
#include "frontend/fleet/prefill_link.h"
#include "frontend/frontend.h"
#include "rt/sim_world.h"
#include "sim/asked_link.h"
#include "sim/workload.h"
#include "transport/memory_transport.h"
#include "worker/handover_keeper.h"
#include "worker/handover_link.h"
#include "worker/local_link.h"
#include "worker/worker_service.h"

namespace pixii::sim {

/// What all processes of a cluster have from outside.
struct ClusterSetup {
  std::shared_ptr<control::MemHub> hub;
  control::MuxOptions mux;
  control::DiscoveryOptions discovery;
  /// Hears what workers are asked.
  std::function<void(control::InstanceId, const wire::GenerateRequest&)> on_request;
  std::vector<TokenId> eos_token_ids;
  /// A request that kills whoever runs it gave its first token somewhere.
  std::function<void()> on_poison;
  /// Where workers' agents meet, if KV blocks move between them.
  std::shared_ptr<transport::MemoryExchange> exchange;
  obs::Log* log = nullptr;
};

/// How a machine's clock goes.
struct ClockDrift {
  double rate = 1;
  rt::Duration wall_offset{};
};

struct WorkerSetup {
  MockSetup mock;
  worker::KvEventLogOptions kv_log;
  std::size_t stream_bytes_max = 0;  // as WorkerServiceOptions
  ClockDrift clock;
  control::ReadinessOptions health;
  rt::Duration report_period{};
  control::WorkerRole role = control::WorkerRole::kAggregated;  // others need an exchange
  rt::Duration lease = std::chrono::seconds(5);                 // of blocks kept for others
  bool pipelined = false;                                       // offers them as they come
};

/// `pixii worker`: an engine on a thread, its service, its registration.
class WorkerProcess final {
 public:
  static constexpr std::uint16_t kPort = 7000;

  /// Errors: those of the engine and of listening.
  static Result<std::unique_ptr<WorkerProcess>> Start(rt::SimWorld& world, const std::string& host,
                                                      const WorkerSetup& own,
                                                      const ClusterSetup& setup);

  /// Of Start, which makes it whole.
  WorkerProcess(rt::SimWorld& world, rt::SimNode& node, rt::SimNode& engine_node,
                std::unique_ptr<engine::Engine> engine, kv::HandoverConnector* handover,
                const WorkerSetup& own, const ClusterSetup& setup);
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;
  /// Pre: it has ended, or the world makes no more steps.
  ~WorkerProcess() = default;

  /// As by SIGKILL.
  void Kill();
  /// As by a power cut: its peers hear nothing.
  void Vanish();
  void Freeze(rt::Time until);
  /// Its engine makes no step; the process lives, and says so.
  void Stall(rt::Time until);
  /// Gives the memory of its KV cache back, and takes it again after `time`.
  void Sleep(rt::Duration patience, rt::Duration time);
  /// As by SIGTERM: what runs may end until `patience` is over. stopped() becomes true.
  void Drain(rt::Duration patience);

  /// A drain is over: the process ends as the command does.
  bool stopped() const { return node_.stopped(); }

  void End();

  bool alive() const { return alive_; }

  bool draining() const { return draining_; }

  const std::string& host() const { return node_.host(); }

  control::InstanceId instance() const { return instance_; }

  control::WorkerRole role() const { return role_; }

  /// What became of hand-overs; null: it has none.
  const kv::HandoverCounters* handovers() const {
    return handover_ == nullptr ? nullptr : &handover_->counters();
  }

  const wire::ModelCard& card() const { return link_.card(); }

  const WatchedLink& watched() const { return watched_; }

  /// Requests that callers of this name sent and that have not ended.
  std::vector<RequestId> RequestsOf(std::string_view caller) const {
    return service_->RequestsOf(caller);
  }

  /// Hashes of the blocks that requests can find now. Pre: nobody listens to its KV events any
  /// more.
  std::set<std::uint64_t> FindableBlocks() const;

  /// Asserts what must hold between any two steps; tells of what is past its bound.
  std::optional<std::string> Check() const;

  /// What is held for any request; nothing: it is quiet.
  std::optional<std::string> Held() const;

  /// Adds what is held now, by name.
  void CountLeft(std::map<std::string, std::uint64_t>& counts) const;

  engine::EngineLoad load() const { return engine::LoadOf(*raw_engine_); }

 private:
  rt::Task<void> DrainAndStop(rt::Duration patience);

  rt::SimNode& node_;
  rt::SimNode& engine_node_;
  engine::Engine* raw_engine_;
  kv::HandoverConnector* handover_;  // the engine's; null: it has none
  control::WorkerRole role_;
  control::Discovery discovery_;
  control::InstanceId instance_;
  engine::EngineLoop engine_;
  worker::LocalLink link_;
  AskedLink watched_;
  std::optional<worker::ConnectorKeeper> keeper_;
  std::optional<worker::HandoverLink> handover_link_;
  std::optional<worker::WorkerService> service_;
  std::unique_ptr<control::Registration> registration_;
  bool draining_ = false;
  bool alive_ = true;
};

/// `pixii frontend`: HTTP over a fleet that discovery finds.
class FrontendProcess final {
 public:
  static constexpr std::uint16_t kPort = 8000;

  /// `name`: of the process, as workers hear it.
  FrontendProcess(rt::SimNode& node, std::string name, const ClusterSetup& setup,
                  frontend::FleetOptions fleet, frontend::PrefillOptions prefill,
                  frontend::FrontendOptions options);
  FrontendProcess(const FrontendProcess&) = delete;
  FrontendProcess& operator=(const FrontendProcess&) = delete;
  ~FrontendProcess() = default;

  bool ready() const { return frontend_ && frontend_->ready(); }

  rt::SimNode& node() const { return node_; }

  const std::string& name() const { return fleet_options_.client.mux.name; }

  /// As it knows them, by whatever.
  const control::Membership::Instances& instances() const { return watch_->instances(); }

  bool uses(control::InstanceId instance) const {
    return fleet_ && (fleet_->uses(instance) || prefill_->uses(instance));
  }

  std::size_t worker_count() const { return fleet_->worker_count() + prefill_->worker_count(); }

  /// Pre: ready() was true once.
  frontend::Frontend& frontend() const { return *frontend_; }

  bool has_fleet() const { return fleet_.has_value(); }

  /// Those who answer. Pre: has_fleet().
  frontend::FleetLink& fleet() { return *fleet_; }

  /// Those who compute prompts alone. Pre: has_fleet().
  frontend::FleetLink& prefill() { return *prefill_; }

  /// Both. Pre: has_fleet().
  frontend::PrefillLink& link() { return *whole_; }

 private:
  void OnChanges(const std::vector<control::MembershipChange>& changes);
  void MakeFleets(const wire::ModelCard& card);
  void FetchTexts();
  void Serve();

  rt::SimNode& node_;
  frontend::FleetOptions fleet_options_;
  frontend::PrefillOptions prefill_options_;
  frontend::FrontendOptions options_;
  control::Discovery discovery_;
  std::unique_ptr<control::InstanceWatch> watch_;
  std::optional<frontend::FleetLink> fleet_;
  std::optional<frontend::FleetLink> prefill_;
  std::optional<frontend::PrefillLink> whole_;
  std::unique_ptr<frontend::Frontend> frontend_;
  bool fetching_ = false;
};

}  // namespace pixii::sim
