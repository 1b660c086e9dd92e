// An operator and the cluster that it keeps, under virtual time: graphs that are edited, pods that
// die, an API server that refuses, forgets and is away, operators that are restarted; and clients
// whose requests must not notice.
//
// Thread: one. A seed decides everything; equal seeds give equal events (state_hash).
// What runs is the product's own operator and client of the API; the API server, the controllers,
// the kubelet and the proxies in front of pods are models (sim/kube_cluster), and so is what pods
// do: frontends that pass a request to one worker of each kind, which take time to load and to
// drain. docs/kubernetes.md
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "control/graph_rules.h"

namespace pixii::sim {

struct OperatorSimOptions {
  /// For tests of the oracles: rules that are not the product's.
  control::GraphRuleOptions rules = {};
  /// Hears, line by line, what happens; empty: nobody.
  std::function<void(const std::string& line)> on_story = {};
};

struct OperatorSimResult {
  std::uint64_t seed = 0;
  bool rolling = true;  // no pod died and nothing was removed for good: no request may fail
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;  // requests, explained by a fault or not
  std::uint64_t edits = 0;
  std::uint64_t pods = 0;    // begun
  std::uint64_t writes = 0;  // of operators
  std::map<std::string, std::uint64_t> faults;
  double virtual_seconds = 0;
  double converged_seconds_max = 0;  // from the last edit or fault
  std::uint64_t events = 0;
  std::uint64_t state_hash = 0;
  std::vector<std::string> violations;
};

/// Runs one seed to its end. Oracles:
///  1. after the last edit and fault all becomes as the graph says, before the time limit: the
///  Deployments, Services and pods of its components and no others, of the newest template, and a
///  status that says so;
///  2. then the operator writes nothing more;
///  3. in a rolling sequence (edits, conflicts, lost watches, restarts of operators and of the API
///  server) no request fails, and of no component that stays fewer pods serve than it had and shall
///  have; in others only requests fail that a death explains;
///  4. a deleted graph leaves nothing.
OperatorSimResult RunOperatorSim(std::uint64_t seed, const OperatorSimOptions& options = {});

}  // namespace pixii::sim
