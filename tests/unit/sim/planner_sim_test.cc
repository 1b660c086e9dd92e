// A planner in the loop: against an oracle, static fleets, and loads that break planners.
#include "sim/planner_sim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace pixii::sim {
namespace {

PlannerSimOptions Options() {
  PlannerSimOptions out;
  out.fleet.timing.speedup = 0.25;
  out.config.mode = "agg";
  out.config.optimization_target = "sla";
  out.config.max_gpu_budget = -1;
  out.config.ttft_ms = 4000;
  out.config.itl_ms = 150;
  out.config.throughput_adjustment_interval_seconds = 15;
  out.config.load_predictor = "kalman";
  out.config.scale_down_window_seconds = 120;
  return out;
}

PlannerComparison Compare(const std::string& kind, double rate, double seconds,
                          const PlannerSimOptions& options) {
  const Result<PlannerLoad> load = MakePlannerLoad(kind, rate, seconds, 1);
  EXPECT_TRUE(load);
  const Result<PlannerComparison> out = ComparePlanner(*load, options);
  EXPECT_TRUE(out);
  return out ? *out : PlannerComparison{};
}

bool Said(const PlannerComparison& all, const std::string& status) {
  return std::ranges::find(all.planner.statuses, status) != all.planner.statuses.end();
}

TEST(PlannerSim, ARampCostsLittleMoreThanTheOraclesAndBeatsEqualStaticFleets) {
  const PlannerComparison all = Compare("ramp", 6, 2400, Options());
  EXPECT_GE(all.attainment_ratio, 0.95);
  EXPECT_LE(all.cost_ratio, 1.2);
  EXPECT_GT(all.planner.attainment_after, all.equal_static);
  EXPECT_LE(all.planner.reversals_10min_max, 1U);
}

TEST(PlannerSim, ConstantLoadIsLeftAlone) {
  const PlannerComparison all = Compare("constant", 8, 2400, Options());
  EXPECT_GE(all.attainment_ratio, 0.95);
  EXPECT_LE(all.cost_ratio, 1.3);
  EXPECT_LE(all.planner.reversals, 4U);
}

TEST(PlannerSim, NoTrafficShrinksTheFleetAndNoFigureIsNaN) {
  const PlannerComparison all = Compare("zero", 10, 3600, Options());
  EXPECT_TRUE(all.planner.finite);
  const std::uint32_t least =
      std::ranges::min_element(all.planner.timeline, {}, [](const auto& one) {
        return one.second;
      })->second;
  EXPECT_EQ(least, 1U);
  EXPECT_GE(all.attainment_ratio, 0.95);
}

TEST(PlannerSim, AnImpossibleGoalIsSaid) {
  PlannerSimOptions options = Options();
  options.config.ttft_ms = 1;
  const PlannerComparison all = Compare("constant", 8, 1200, options);
  EXPECT_TRUE(Said(all, "infeasible"));
  EXPECT_FALSE(Said(all, "met") && all.planner.attainment > 0);
  EXPECT_LE(all.planner.workers_max, 12U);
}

TEST(PlannerSim, AFleetWithoutRoomIsSaidAndAskedForNoMore) {
  PlannerSimOptions options = Options();
  options.fleet.room = 3;
  const PlannerComparison all = Compare("step", 8, 2400, options);
  EXPECT_TRUE(Said(all, "no_room"));
  EXPECT_LE(all.planner.workers_max, 3U);
  EXPECT_LE(all.planner.refused_starts, 6U);
}

TEST(PlannerSim, EqualOptionsGiveEqualResults) {
  const PlannerComparison one = Compare("step", 6, 900, Options());
  const PlannerComparison two = Compare("step", 6, 900, Options());
  EXPECT_EQ(one.planner.timeline, two.planner.timeline);
  EXPECT_EQ(one.planner.kept, two.planner.kept);
  EXPECT_EQ(one.oracle.worker_hours, two.oracle.worker_hours);
}

}  // namespace
}  // namespace pixii::sim
