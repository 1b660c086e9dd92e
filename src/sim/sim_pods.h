// Pods that only pretend, and the requests that go through them: what sim/operator_sim judges.
//
// Thread: one loop, the API server's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "rt/loop.h"
#include "sim/kube_cluster.h"

namespace pixii::sim {

/// Frontends answer where a worker of each kind that the fleet has is there; workers load, take
/// requests and, told to end, finish them. A request is on a frontend and a worker of each kind; a
/// worker that is lost or drains is replaced, as migration does, if another one is there in time.
class SimPods final : public kube::PodHost {
 public:
  /// Outlive it.
  SimPods(rt::Loop& loop, kube::ApiServer& server);
  SimPods(const SimPods&) = delete;
  SimPods& operator=(const SimPods&) = delete;
  ~SimPods() override;

  // ---- PodHost
  void Start(const wire::Json& pod) override;
  void Stop(const std::string& pod) override;
  void Kill(const std::string& pod) override;
  bool Runs(const std::string& pod) override;
  bool Passes(const std::string& pod, const wire::Json& probe) override;
  void Forget(const std::string& pod) override;

  /// Requests come until EndRequests.
  void BeginRequests(double per_second);

  void EndRequests() { coming_ = false; }

  /// Pods' endings are looked at by `kick`.
  void OnEnd(std::function<void()> kick) { kick_ = std::move(kick); }

  /// Requests that fail are told, and why.
  void OnFailure(std::function<void(const std::string& why)> on_failure) {
    on_failure_ = std::move(on_failure);
  }

  /// After controllers and kubelet: proxies hear, a little later, which frontends serve.
  void LookAtEndpoints();

  /// Names of pods whose container runs.
  std::vector<std::string> Running() const;

  std::uint64_t requests() const { return requests_; }

  std::uint64_t running_requests() const { return open_.size(); }

  std::uint64_t started() const { return started_; }

 private:
  struct Pod {
    std::string part;
    std::string type;
    bool runs = false;
    bool broken = false;  // never gets ready
    bool draining = false;
    bool is_up = false;                      // it has loaded
    rt::TimerId timer = rt::TimerId::kNone;  // loading, or the end of its patience
    std::set<std::uint64_t> requests;
  };

  struct Request {
    std::string frontend;
    std::map<std::string, std::string> workers;  // by type; empty: it waits for one
    rt::TimerId end = rt::TimerId::kNone;
    rt::TimerId patience = rt::TimerId::kNone;
  };

  void Arrive();
  void Ended(const std::string& name, Pod& pod);
  void Fail(const std::string& why);
  void CloseRequest(std::uint64_t id);
  void Finish(std::uint64_t id);
  void Lose(const std::string& worker, Pod& pod);
  std::optional<std::string> PickWorker(const std::string& type);
  std::set<std::string> WorkerTypes() const;

  bool Serves(const Pod& pod) const { return pod.runs && pod.is_up && !pod.draining; }

  void TryWaiting();

  rt::Loop& loop_;
  kube::ApiServer& server_;
  std::function<void()> kick_;
  std::function<void(const std::string&)> on_failure_;
  std::map<std::string, Pod> pods_;  // by name
  std::map<std::uint64_t, Request> open_;
  std::uint64_t requests_ = 0;
  std::uint64_t started_ = 0;
  bool coming_ = false;
  double per_second_ = 0;
  std::set<std::string> endpoints_;  // as proxies know them
  std::set<std::string> told_endpoints_;
  rt::Time told_at_{};  // no later news overtakes this
  rt::TimerId arrival_ = rt::TimerId::kNone;
  std::vector<rt::TimerId> news_;
};

}  // namespace pixii::sim
