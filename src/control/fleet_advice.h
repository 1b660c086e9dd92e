// Which fleet an engine's profile recommends for a load, and why. Pure.
//
// Thread: functions and values. docs/planner.md
// Source: spec/dynamo-core.md F.4 (autoscale, load match, default).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/planner_model.h"

namespace pixii::control {

/// What the fleet is for.
enum class FleetPick : std::uint8_t {
  kDefault,    // as much as the budget carries
  kLoadMatch,  // the fewest workers that carry the target
  kAutoscale,  // one of each; a planner changes that
};

struct FleetWish {
  FleetPick pick = FleetPick::kDefault;
  LatencyGoal goal;
  RequestSize size;
  double attainment = 0.95;  // share of requests that shall keep the goal
  std::uint32_t budget = 8;  // workers
  double rate = 0;           // requests/s, of the target; 0: none is said
  double concurrency = 0;    // requests that run at a time, in its place
};

struct FleetAdvice {
  /// Workers that do both; 0: prompts and answers are apart.
  std::uint32_t workers = 0;
  std::uint32_t prefill = 0;
  std::uint32_t decode = 0;
  double rate = 0;           // requests/s that the figures below are of
  double rate_max = 0;       // that the fleet is expected to carry within the goal
  PoolOutlook outlook = {};  // at `rate`
  bool meets = true;         // the target within the goal and the budget
  std::vector<std::string> reasons = {};

  std::uint32_t total() const { return workers + prefill + decode; }
};

/// Errors: kInvalidArgument naming the field, for a load match without a target and the like.
Result<FleetAdvice> AdviseFleet(const EngineModel& engine, const FleetWish& wish);

/// The largest rate at which `workers` that do both keep the goal for the share; 0: none does.
double LargestRate(const EngineModel& engine, const FleetWish& wish, std::uint32_t workers);

}  // namespace pixii::control
