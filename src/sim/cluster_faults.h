// What goes wrong in a simulated cluster, when, and who is told of it.
//
// Thread: one; outside every node.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "rt/random.h"
#include "rt/time.h"
#include "sim/blame.h"
#include "sim/cluster.h"

namespace pixii::sim {

class ClusterFaults final {
 public:
  ClusterFaults(Cluster& cluster, rt::Random& random, std::map<std::string, std::uint64_t>& counts)
      : cluster_(cluster), random_(random), counts_(counts) {
    cluster_.OnPoison([this] { KillPoisoned(); });
  }

  /// As many as the shape says, at random instants until `end`.
  void Plan(rt::Time end);

  /// Goes on with what takes several steps. Call now and then.
  void Continue();

  /// Nobody will ask what was over before `before`.
  void Forget(rt::Time before);

  /// No new ones; networks are as they were. What is frozen, cut or asleep comes back by itself.
  void Stop();

  /// Whether connects were refused, or connections reset, at some time within these.
  bool Refused(rt::Time begin, rt::Time end) const { return AnyWithin(refusals_, begin, end); }

  bool Reset(rt::Time begin, rt::Time end) const { return AnyWithin(resets_, begin, end); }

  /// Until when the last fault lasts by itself.
  rt::Time last_until() const { return last_until_; }

 private:
  struct Window {
    rt::Time begin{};
    rt::Time until{};
  };

  static bool AnyWithin(const std::vector<Window>& windows, rt::Time begin, rt::Time end);
  void Make();
  rt::Duration DrawWhile();
  rt::Duration DrawRestart();
  bool AnyWorker(std::size_t& worker);

  std::size_t AnyFrontend() { return random_.Below(cluster_.frontends().size()); }

  /// `worker` to every frontend.
  void Disturb(std::string_view fault, std::size_t worker, Blame::Kind kind,
               rt::Duration time = {});
  void DisturbAll(std::string_view fault, Blame::Kind kind, rt::Duration time);
  void DisturbPair(std::string_view fault, std::size_t worker, std::size_t frontend,
                   Blame::Kind kind, rt::Duration time);
  /// The same, and to whoever comes to its host meanwhile.
  void DisturbLine(std::string_view fault, std::size_t worker, std::size_t frontend,
                   Blame::Kind kind, rt::Duration time);
  rt::Time Until(rt::Duration time);

  void StartWorker(const std::string& host, control::WorkerRole role);
  void RestartLater(const std::string& host, rt::Duration wait);
  void ForAWhile(double rt::SimOptions::* probability, double value, rt::Duration time);

  void KillWorker();
  void VanishWorker();
  void DrainWorker();
  void RollingUpdate();
  void KillPoisoned();
  void FreezeWorker();
  void SleepWorker();
  void StallWorker();
  void CutWorker();
  void HalfCutWorker();
  void CorruptLine();
  void ResetConnections();
  void RefuseConnects();
  void DelayBytes();
  void SlowLines();
  void FreezeStore();
  void WipeStore();
  void SetStoreBack();
  void FreezeFrontend();
  void KillFrontend();
  void ClearCaches();
  void FreezeListener();

  /// Something is wrong between a host of workers and a frontend.
  struct LineFault {
    std::string fault;
    std::string host;
    std::size_t frontend = 0;
    Blame::Kind kind{};
    rt::Time until{};
  };

  Cluster& cluster_;
  rt::Random& random_;
  std::map<std::string, std::uint64_t>& counts_;
  std::vector<std::size_t> rolling_;  // workers that are to be replaced, the next one last
  std::map<std::string, std::uint32_t> poison_kills_;  // by the request's salt
  std::size_t rolling_now_ = 0;                        // one more than the one that drains; 0: none
  std::vector<LineFault> lines_;
  std::vector<Window> refusals_;
  std::vector<Window> resets_;
  rt::Time last_until_{};
  rt::Time reset_until_{};
  bool stopped_ = false;
};

}  // namespace pixii::sim
