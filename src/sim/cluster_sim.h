// A cluster and its clients under virtual time: workers that are killed, freeze, are cut off, drain
// and come back; a store that hangs or forgets.
//
// Thread: one. A seed decides everything; equal seeds give equal events (state_hash).
// What runs is the product's own frontend, fleet, discovery, service and engine; only the model is
// a mock. docs/subsystems/sim.md
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "sim/cluster.h"
#include "sim/workload.h"

namespace pixii::sim {

struct ClusterSimOptions {
  bool disaggregated = false;  // prompts are computed by workers of their own
  /// A large cluster for hours, instead of a small one that the seed draws for a minute.
  std::optional<LongRun> long_run = {};
  /// What replaces the expectation, for tests of the oracles; empty: the mock's.
  std::function<Expectation(Expectation)> expect = {};
  /// Hears, line by line, what happens to whom and when; empty: nobody.
  std::function<void(const std::string& line)> on_story = {};
  /// Hears of a long run after each hour of it: how many, and requests so far.
  std::function<void(int hours, std::uint64_t requests)> on_hour = {};
};

/// Runs one seed to its end. Oracles:
///  1. every accepted request ends exactly once, with its whole answer or a typed error that the
///  faults of the run explain, before the time limit;
///  2. every stream's tokens equal the mock's pure function, or are its beginning where the client
///  gave up or an error came;
///  3. when the clients are gone and the faults over, nothing is held for any request anywhere, and
///  every worker that lives is used again;
///  4. no queue is ever past its bound, and nothing was logged as an error.
SimResult RunClusterSim(std::uint64_t seed, const ClusterSimOptions& options = {});

}  // namespace pixii::sim
