// What a Kubernetes cluster does with Deployments: its controllers and one kubelet, over an
// ApiServer. What containers are is a PodHost's: pieces of a simulation, or processes.
//
// Thread: one loop, the server's. Every controller works on what the API says, a little later.
// Written after: "Deployments" (rolling update, maxSurge and maxUnavailable, rollover, proportional
// scaling, progress deadline), "ReplicaSet" (scale-down order), "Pod Lifecycle" (probes, restarts
// with back-off, termination: preStop counts into the grace period, then TERM, then KILL),
// "Container Lifecycle Hooks" (sleep). Not here: scheduling by resources, nodes that fail, image
// pulls, quotas, minReadySeconds.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "rt/loop.h"
#include "rt/sync.h"
#include "sim/kube_api_server.h"
#include "wire/json.h"

namespace pixii::kube {

/// Where the main containers of pods run, by the pod's name.
class PodHost {
 public:
  virtual ~PodHost() = default;

  /// `pod`: whole, with its address.
  virtual void Start(const wire::Json& pod) = 0;
  /// SIGTERM, SIGKILL. No effect on what ended.
  virtual void Stop(const std::string& pod) = 0;
  virtual void Kill(const std::string& pod) = 0;
  virtual bool Runs(const std::string& pod) = 0;
  /// What a probe finds, now or when it last looked.
  virtual bool Passes(const std::string& pod, const wire::Json& probe) = 0;
  /// The pod is gone.
  virtual void Forget(const std::string& pod) = 0;
};

struct KubeClusterOptions {
  rt::Duration react_min = std::chrono::milliseconds(5);  // of controllers, to a change
  rt::Duration react_max = std::chrono::milliseconds(200);
  rt::Duration start_min = std::chrono::milliseconds(200);  // a pod's scheduling and its image
  rt::Duration start_max = std::chrono::seconds(3);
  rt::Duration crash_backoff = std::chrono::seconds(10);          // doubling, to 300 s
  std::function<std::string(std::uint64_t number)> address = {};  // of a pod; empty: 10.0.x.y
};

class KubeCluster final {
 public:
  /// All outlive it. Takes the server's OnChange.
  KubeCluster(rt::Loop& loop, ApiServer& server, PodHost& host, KubeClusterOptions options);

  void Start();

  /// A container changed by itself.
  void Kick();

  /// After each round of the controllers.
  void OnRound(std::function<void()> on_round) { on_round_ = std::move(on_round); }

 private:
  enum class Phase : std::uint8_t { kWaiting, kRunning, kBackingOff, kEnding };

  struct Probing {
    rt::Time next_at{};
    std::int64_t failures = 0;
  };

  /// A pod as the kubelet knows it.
  struct Kept {
    std::string space;
    std::string name;
    std::string uid;
    Phase phase = Phase::kWaiting;
    rt::Time at{};  // of what comes next in this phase
    rt::Time kill_at{};
    bool told_to_end = false;
    bool started = false;  // its startup probe has passed
    bool ready = false;
    std::uint32_t restarts = 0;
    Probing startup, readiness, liveness;
  };

  struct Progress {
    std::string seen;
    rt::Time at{};
  };

  rt::Task<void> Loop();
  void Round();
  void KeepDeployment(const wire::Json& deployment);
  void KeepReplicaSet(const wire::Json& set);
  void KeepPod(const wire::Json& pod, Kept& kept);
  void Begin(const wire::Json& pod, Kept& kept);
  void Probe(const wire::Json& container, Kept& kept);
  void Restart(Kept& kept, bool killed);
  void End(const wire::Json& pod, Kept& kept);
  bool Tick(const wire::Json& container, const char* name, Probing& probing, Kept& kept,
            bool& passed, std::int64_t failures_default);
  void SayPod(const Kept& kept, const char* phase);
  void TellStatus(const wire::Json& object, const std::string& path, const wire::Json& status);
  wire::Json NewReplicaSet(const wire::Json& deployment, const std::string& hash) const;
  void Scale(const wire::Json& set, std::int64_t replicas, std::int64_t desired);
  wire::Json Ask(const std::string& method, const std::string& path, const wire::Json& body);
  std::vector<wire::Json> OwnedBy(std::string_view plural, const wire::Json& owner) const;

  void DueAt(rt::Time at) { due_at_ = std::min(due_at_, at); }

  rt::Duration Draw(rt::Duration low, rt::Duration high);

  rt::Loop& loop_;
  ApiServer& server_;
  PodHost& host_;
  KubeClusterOptions options_;
  std::function<void()> on_round_;
  std::map<std::string, Kept> kept_;          // by uid
  std::map<std::string, Progress> progress_;  // of Deployments, by uid
  std::uint64_t last_pod_ = 0;
  bool changed_since_ = true;
  rt::Time due_at_ = rt::kNever;
  rt::WaitList changed_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::kube
