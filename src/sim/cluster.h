// A simulated cluster: its processes, and who may have lost what because of which fault.
//
// Thread: one. What a seed decides stands in ClusterShape; what happens meanwhile is done to it
// from outside, by ClusterFaults and the simulation.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "obs/log.h"
#include "rt/sim_world.h"
#include "sim/attempt_watch.h"
#include "sim/blame.h"
#include "sim/kv_observer.h"
#include "sim/processes.h"
#include "sim/workload.h"

namespace pixii::sim {

struct ClusterShape {
  std::uint32_t workers = 1;
  std::uint32_t frontends = 1;
  std::uint32_t moves_max = 3;
  std::uint32_t generations_max = 1024;  // of a frontend
  rt::Duration patience{};
  rt::Duration dead_after{};
  control::ReadinessOptions health;  // of each worker's engine
  MockSetup mock;
  std::int64_t step_ns_max = 0;  // of a worker's step
  control::LeaseOptions lease;
  control::DiscoveryOptions discovery;
  std::uint32_t window_bytes = 0;
  router::RouterOptions router;
  bool clocks_drift = false;
  // Of a disaggregated one; 0 prefill workers: it is none.
  std::uint32_t prefill_workers = 0;
  frontend::PrefillOptions prefill;
  rt::Duration lease_of_blocks{};
  bool pipelined = false;  // blocks move while the rest of their prompt is computed
  transport::MemoryTransportOptions transfers;
  std::uint32_t faults = 0;
  double requests_per_s = 50;
  std::uint32_t requests = 1;
  std::uint32_t output_tokens_max = 100;
  double poison_share = 0;  // of requests that kill whoever runs them
  rt::Duration check_period = std::chrono::milliseconds(20);
  std::uint32_t checks_of_all = 1;  // until the inside of every worker was looked at
  rt::Duration report_period = worker::WorkerServiceOptions().report_period;
  std::uint32_t listened_every = 1;  // the listener hears every so many-th worker
  // Workers draw no less: changes between two steps, and blocks of a log, before all is told anew.
  std::uint32_t kv_event_count_min = 1;
  std::size_t kv_log_blocks_min = 1;
  double partial_max = 1;  // probability that a read or write takes less than it could
  /// Who is gone for so long, and what was so long ago, is forgotten; zero: nothing is.
  rt::Duration memory{};
};

/// `disaggregated`: some of the workers compute prompts for the others; all else is drawn as
/// without.
ClusterShape DrawClusterShape(rt::Random& random, std::uint64_t seed, bool disaggregated = false);

/// A long day of a large cluster.
struct LongRun {
  std::uint32_t workers = 200;  // of a disaggregated cluster every fourth one computes prompts
  rt::Duration time = std::chrono::hours(24);
  double requests_per_s = 20;
  double faults_per_hour = 15;
};

/// What stays the same for so long, whatever the seed.
void StretchClusterShape(const LongRun& run, ClusterShape& shape);

class Cluster final {
 public:
  using ViolationSink = std::function<void(std::string)>;

  struct Worker {
    std::unique_ptr<WorkerProcess> process;  // null: it is gone, and forgotten
    std::size_t number = 0;                  // to Blame
    rt::Time withdrawn_at = rt::kNever;      // it said itself that it goes
    rt::Time gone_at = rt::kNever;           // as Check saw it
  };

  struct Frontend {
    std::unique_ptr<FrontendProcess> process;  // null: it is down
    std::uint32_t starts = 0;
    rt::Time down_since = rt::kNever;  // kNever: it is up, and ready
    rt::Time last_down = rt::Time::min();
    rt::Time frozen_from = rt::Time::min();  // without a pause, lately
    rt::Time frozen_until = rt::Time::min();
    std::set<std::size_t> knew;    // workers that withdrew, while it knew them
    std::set<std::size_t> forgot;  // and that it has forgotten since, having heard it
  };

  Cluster(std::uint64_t seed, rt::Random& random, ClusterShape shape, ViolationSink on_violation);
  ~Cluster() = default;
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  const ClusterShape& shape() const { return shape_; }

  rt::SimWorld& world() { return world_; }

  /// As it was before any fault.
  const rt::SimOptions& calm() const { return calm_; }

  rt::SimNode& clients() { return clients_; }

  rt::SimNode& store_node() { return store_node_; }

  const ClusterSetup& setup() const { return setup_; }

  Blame& blame() { return blame_; }

  const AttemptWatch& attempts() const { return attempts_; }

  /// Dead ones, too, by their numbers.
  const std::vector<Worker>& workers() const { return workers_; }

  /// The numbers of all that are not forgotten, in order.
  const std::vector<std::size_t>& known() const { return known_; }

  std::vector<Frontend>& frontends() { return frontends_; }

  static std::string FrontendHost(std::size_t frontend);

  /// A new process on `host`, or on another one if that is taken; an empty `host`: a new one.
  void StartWorker(const std::string& host, control::WorkerRole role);

  /// Of the last process there.
  control::WorkerRole RoleAt(const std::string& host) const;
  void StartFrontend(std::size_t frontend);
  void KillWorker(std::size_t worker, bool vanish);
  void DrainWorker(std::size_t worker, rt::Duration patience);
  /// Its engine stands still: within a period of its health, nobody to whom nothing else happened
  /// may use it.
  void StallWorker(std::size_t worker, rt::Duration time);
  /// What runs for it has to end at each worker within 2 s.
  void KillFrontend(std::size_t frontend);

  /// Called outside every node, soon after a request that kills whoever runs it began somewhere.
  void OnPoison(std::function<void()> on_poison) { on_poison_ = std::move(on_poison); }

  /// Whoever tells what happens; empty: nobody does.
  void OnStory(std::function<void(const std::string& line)> on_story) {
    on_story_ = std::move(on_story);
  }

  template <class... Args>
  void Tell(fmt::format_string<Args...> text, Args&&... args) const {
    if (on_story_) {
      on_story_(StoryTime() + fmt::format(text, std::forward<Args>(args)...));
    }
  }

  void Violate(std::string what) { on_violation_(std::move(what)); }

  /// Who listens to KV events does nothing until then.
  void FreezeListener(rt::Time until) { observer_node_.Freeze(until); }

  /// Workers that should be used now.
  std::vector<std::size_t> Usable() const;
  bool AllUsed() const;
  bool AllReady() const;

  /// Between any two steps: invariants and bounds; what frontends see; processes that drained end.
  void Check();

  /// Whether this frontend was not there at some time since `begin`.
  bool WasDownSince(std::size_t frontend, rt::Time begin) const;

  /// Adds what all processes that ever were have done.
  void CountDone(SimResult& result) const;

  /// What is held now, by name: of all workers together, and of all frontends.
  void CountLeft(std::map<std::string, std::uint64_t>& counts) const;

  /// Times that any worker said that it is full to a request with this sampling seed.
  std::uint32_t RefusalsOf(std::uint64_t seed) const;

  engine::EngineLoad LoadOf(std::size_t worker) const { return workers_[worker].process->load(); }

  /// What is held for any request anywhere, or not as it should be when all is well again; nothing:
  /// it is quiet.
  std::optional<std::string> Held() const;
  /// What a frontend or the listener believes that a worker has and it has not, or the other way
  /// round. Last call: the workers' events are used up.
  void CheckKvTruth();

  /// Ends all processes.
  void Destroy();

 private:
  std::string StoryTime() const;
  WorkerSetup DrawWorker(control::WorkerRole role);
  ClockDrift DrawClock();
  void OnRequest(control::InstanceId instance, const wire::GenerateRequest& request);
  bool AnotherServes(std::size_t worker, rt::Time since) const;
  void CheckWorker(std::size_t worker);
  void Forget();
  static void CountDone(const WorkerProcess& worker, SimResult& result);
  static void CountDone(FrontendProcess& frontend, SimResult& result);
  void CheckWithdrawn(std::size_t frontend);
  void CheckStalled(std::size_t worker, rt::Time begin) const;
  void ExpectEnded(std::size_t worker, std::vector<RequestId> requests, const std::string& caller);

  rt::Random& random_;
  ClusterShape shape_;
  ViolationSink on_violation_;
  std::function<void()> on_poison_;
  std::function<void(const std::string&)> on_story_;
  rt::SimWorld world_;
  rt::SimOptions calm_;
  rt::SimNode& store_node_;
  rt::SimNode& clients_;
  rt::SimNode& observer_node_;
  obs::Log log_;
  ClusterSetup setup_;
  Blame blame_;
  AttemptWatch attempts_;
  std::unique_ptr<KvObserver> observer_;
  std::vector<Worker> workers_;
  std::vector<std::size_t> known_;
  std::map<control::InstanceId, std::size_t> by_instance_;  // likewise
  std::vector<Frontend> frontends_;

  struct DeadFrontend {
    rt::Time died{};
    std::unique_ptr<FrontendProcess> process;
  };

  std::vector<DeadFrontend> dead_frontends_;
  SimResult forgotten_;  // what those did who are forgotten
  std::uint64_t checks_ = 0;
  std::uint64_t hosts_ = 0;
};

}  // namespace pixii::sim
