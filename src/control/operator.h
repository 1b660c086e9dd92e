// Keeps the objects of DynamoGraphDeployments of one namespace as graph_rules says: watches, plans,
// writes; one of several at a time.
//
// Thread: one loop. Thin: what to do is decided by PlanGraph and KubeElection.
// Every write names the version that it was decided on; one that comes too late reads the object
// anew and is decided again ("Resource versions", optimistic concurrency).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/result.h"
#include "control/graph_rules.h"
#include "control/kube_client.h"
#include "control/kube_election.h"
#include "control/kube_follower.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"

namespace pixii::control {

struct OperatorOptions {
  KubeAccess access;
  GraphRuleOptions rules;
  ElectionOptions election;
  rt::Duration beat = std::chrono::seconds(10);    // a call's time, and of silence of a watch
  rt::Duration resync = std::chrono::seconds(60);  // everything is looked at so often, news or not
  rt::Duration pause_min = std::chrono::milliseconds(50);  // between two looks at one graph
  rt::Duration pause_max = std::chrono::seconds(30);       // that would write the same again
};

class Operator final {
 public:
  /// `loop` and `net` outlive it. `on_news` hears of what was done and what is wrong, a line each.
  Operator(rt::Loop& loop, rt::Net& net, OperatorOptions options,
           std::function<void(const std::string& line)> on_news);
  Operator(const Operator&) = delete;
  Operator& operator=(const Operator&) = delete;

  void Start();
  /// Does nothing more but give its Lease back, then calls `on_done`.
  void Stop(std::function<void()> on_done);

  bool leads() const { return election_.Leads(loop_.Now()); }

  /// It leads, and has seen all there is.
  bool works() const;
  /// Why the server cannot be asked, if it cannot.
  std::optional<Error> trouble() const;

  std::uint64_t writes() const { return writes_; }

 private:
  using Objects = std::map<std::string, wire::Json>;  // by name

  /// What is known of one kind.
  struct Side {
    KubeKind kind;
    Objects objects;
    std::unique_ptr<KubeFollower> follower;
  };

  /// When a graph is looked at next.
  struct Turn {
    rt::Time not_before{};
    std::string last;  // what was written last time
    std::uint32_t repeats = 0;
    std::map<std::string, std::string> refused;
  };

  void Follow(Side& side, std::string selector);
  Side& SideOf(KubeKind kind);
  void Take(Side& side, wire::Json object);
  void Drop(Side& side, const std::string& name, std::string_view version);
  void MarkOf(const Side& side, const wire::Json& object);
  void Mark(const std::string& graph);
  void MarkAll();
  rt::Task<void> ElectLoop();
  rt::Task<void> ElectOnce();
  rt::Task<void> WorkLoop();
  rt::Task<void> Work(std::string graph);
  rt::Task<bool> Do(std::string graph, KubeAction action);
  rt::Task<void> Refresh(std::string graph, KubeKind kind, std::string name);
  rt::Task<Result<KubeAnswer>> Send(KubeAction action);
  rt::Task<void> GiveBack(std::function<void()> on_done);
  rt::Time NextTurn() const;
  void Pause(Turn& turn, const std::vector<KubeAction>& actions);

  rt::Time call_deadline() const;

  rt::Loop& loop_;
  rt::Net& net_;
  OperatorOptions options_;
  std::function<void(const std::string&)> on_news_;
  KubeElection election_;
  bool led_ = false;
  Side graphs_{.kind = KubeKind::kGraph, .objects = {}, .follower = {}};
  Side deployments_{.kind = KubeKind::kDeployment, .objects = {}, .follower = {}};
  Side services_{.kind = KubeKind::kService, .objects = {}, .follower = {}};
  std::map<std::string, Turn> turns_;  // of graphs
  std::set<std::string> marked_;       // graphs to look at
  std::uint64_t writes_ = 0;
  KubeClient client_;
  rt::WaitList changed_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
