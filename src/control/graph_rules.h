// What an operator does next for one graph: objects as they are in the API + the graph -> calls.
//
// Thread: pure functions. docs/kubernetes.md lists the rules with the pages that they follow.
// Source: Kubernetes documentation: "Deployments" (rollout status, rollover, progress deadline),
// "Custom Resources" (status subresource), "API conventions" (conditions, observedGeneration),
// "Garbage Collection", "Resource versions" (optimistic concurrency).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "control/deployment_graph.h"
#include "control/graph_objects.h"
#include "control/kube_objects.h"
#include "rt/time.h"
#include "wire/json.h"

namespace pixii::control {

struct GraphRuleOptions {
  GraphObjectOptions objects;
  bool one_after_another = true;  // updates of parts, in their order
  bool old_waits_for_new = true;  // what left the graph ends once all that is in it serves
  bool keeps_capacity = true;     // maxUnavailable is what the options say; false: tests alone
};

/// Objects of the graph's namespace that the operator made, by name; and what refused to be made.
struct GraphSeen {
  const wire::Json* graph = nullptr;
  const std::map<std::string, wire::Json>* deployments = nullptr;
  const std::map<std::string, wire::Json>* services = nullptr;
  /// By kind and name: what the server said of the last attempt to write it.
  std::map<std::string, std::string> refused = {};
};

struct KubeAction {
  enum class Verb : std::uint8_t { kCreate, kReplace, kReplaceStatus, kDelete };
  Verb verb = Verb::kCreate;
  KubeKind kind = KubeKind::kDeployment;
  std::string name;
  wire::Json object = {};    // but of deletions
  KubeVersion version = {};  // of deletions: only if it is still this
  std::string why = {};      // a few words for an operator
};

/// Of `refused`.
std::string RefusalKey(KubeKind kind, std::string_view name);

/// "2026-01-31T23:59:59Z".
std::string KubeTime(rt::WallTime time);

/// Where a Deployment's rollout is ("Deployment status").
struct Rollout {
  bool observed = false;      // the controller has seen what the spec says now
  std::int64_t replicas = 0;  // wanted
  std::int64_t total = 0;
  std::int64_t updated = 0;
  std::int64_t ready = 0;
  std::int64_t available = 0;
  bool failed = false;  // its progress deadline is over

  /// All pods are of the newest template, none older is left, and all serve.
  bool complete() const {
    return observed && updated == replicas && total == updated && available == replicas;
  }

  /// It moves, or shall: others wait. One whose pods are all new and do not serve for longer than
  /// the deadline moves no more.
  bool holds_others() const {
    return !observed || updated < replicas || total > updated || (available < replicas && !failed);
  }
};

Rollout RolloutOf(const wire::Json& deployment);

/// Calls in the order in which they are to be made; nothing if all is as it should be. Equal input
/// gives equal output.
std::vector<KubeAction> PlanGraph(const GraphSeen& seen, const GraphRuleOptions& options,
                                  rt::WallTime now);

}  // namespace pixii::control
