// A planner in the loop of a fleet that starts slowly: requests, engines with the times of a mock,
// and whoever decides how many there are, in virtual time.
//
// Thread: one. Equal options give equal results. docs/planner.md
// An engine here is its steps: chunks of prompts and one token of each sequence that decodes, of
// the time that engine::MockStepTime says. Left out: prefix caches, preemption, failures.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "control/planner.h"
#include "engine/mock_timing.h"
#include "sim/trace.h"

namespace pixii::sim {

struct FleetModel {
  engine::MockTiming timing = {.model = engine::MockTimingModel::kPolynomial};
  std::uint32_t sequences_max = 256;
  std::uint32_t batch_tokens_max = 8192;
  std::uint64_t kv_tokens = 1 << 20;
  double start_up_seconds = 60;
  std::uint32_t room = 10'000;  // workers that the cluster holds; more are unschedulable
};

/// The same engine, as a planner sees it.
control::EngineModel EngineModelOf(const FleetModel& fleet);

/// What is arriving, and what is right for it to know.
struct PlannerLoad {
  Trace trace;
  /// Requests per second at an instant, in truth; of a trace, its arrivals around it.
  std::function<double(double seconds)> rate;
  double seconds = 0;  // of arrivals
};

/// Loads made here: constant, step, ramp, flash, zero.
Result<PlannerLoad> MakePlannerLoad(const std::string& kind, double base_rate, double seconds,
                                    std::uint64_t seed);
/// `copies` of a trace at a time, each begun at a random instant of its first tenth.
PlannerLoad LoadOfTrace(const Trace& trace, std::uint32_t copies, std::uint64_t seed);
/// Of a load, what comes within [from, to) seconds, as if it began then.
PlannerLoad PartOf(const PlannerLoad& load, double from, double to);

struct FleetRun {
  std::uint64_t requests = 0;
  std::uint64_t kept = 0;
  double attainment = 0;        // kept over requests
  double attainment_after = 0;  // of those from `after` on
  double worker_hours = 0;      // from being asked for to having ended
  std::uint32_t workers_max = 0;
  std::uint32_t changes = 0;
  std::uint32_t reversals = 0;
  std::uint32_t reversals_10min_max = 0;  // in any ten minutes
  std::uint32_t refused_starts = 0;
  double ttft_p50_ms = 0;
  double ttft_p99_ms = 0;
  double itl_p50_ms = 0;
  double itl_p99_ms = 0;
  std::vector<std::pair<double, std::uint32_t>> timeline;  // when, how many are asked for
  std::vector<std::string> statuses;                       // of decisions, each once
  bool finite = true;                                      // no figure was NaN or infinite
};

/// Says how many workers there shall be, each `tick` seconds.
struct FleetPolicy {
  double tick_seconds = 15;
  std::uint32_t first = 1;  // there at the beginning
  std::function<std::uint32_t(const control::PlannerObservation& seen, double now)> decide;
};

FleetRun RunFleet(const FleetModel& fleet, const PlannerLoad& load,
                  const control::LatencyGoal& goal, const FleetPolicy& policy, double after = 0);

struct PlannerComparison {
  FleetRun planner;
  FleetRun oracle;
  std::vector<FleetRun> statics;  // of 1, 2, ... workers
  double oracle_margin = 0;       // that its rates are multiplied by
  double oracle_target = 0;       // share that the oracle's fleets keep when load stands still
  double attainment_ratio = 0;    // planner's over the oracle's
  double cost_ratio = 0;          // of worker-hours
  double equal_static = 0;        // attainment of static fleets at the planner's worker-hours
};

struct PlannerSimOptions {
  FleetModel fleet;
  control::PlannerConfig config;
  double after = 0;  // attainment is compared from here on
  std::uint64_t seed = 1;
  const PlannerLoad* warm = nullptr;  // that the planner has seen before
};

/// Shows a planner what came before, an interval at a time.
void WarmUp(control::Planner& planner, const PlannerLoad& load);

/// The planner, the oracle and every static fleet of up to a little more than the planner's most
/// on one load. The oracle knows the true rate of the instant and the lengths of the whole load,
/// and what waits, nothing of what comes; it has, at each of the planner's ticks, the smallest
/// fleet that kept `oracle_target` of the goal when such a load, times a margin, stood still, and
/// starts as slowly. Its margin is the best one for the very load, in hindsight; it may turn at any
/// time.
Result<PlannerComparison> ComparePlanner(const PlannerLoad& load, const PlannerSimOptions& options);

}  // namespace pixii::sim
