// A planner in the loop: against an oracle, static fleets, and loads that break planners.
#include "sim/planner_sim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
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
  out.config.load_predictor = "adaptive";
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
  EXPECT_LE(all.cost_ratio, 1.25);
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

// Each bar of the comparison, on seeds that no constant was chosen by.
TEST(PlannerSim, StepsRampsAndCrowdsAreFollowedAtLittleMoreThanTheOraclesCost) {
  for (const std::string kind : {"step", "ramp", "flash"}) {
    for (const std::uint64_t seed : {101, 102}) {
      PlannerSimOptions options = Options();
      options.seed = seed;
      options.after = kind == "flash" ? 1260 : 0;
      const Result<PlannerLoad> load = MakePlannerLoad(kind, 6, 3600, seed);
      ASSERT_TRUE(load);
      const Result<PlannerComparison> all = ComparePlanner(*load, options);
      ASSERT_TRUE(all);
      EXPECT_GE(all->attainment_ratio, 0.95) << kind << " " << seed;
      EXPECT_LE(all->cost_ratio, 1.2) << kind << " " << seed;
      EXPECT_GT(all->planner.attainment_after, all->equal_static) << kind << " " << seed;
      EXPECT_LE(all->planner.reversals_10min_max, 1U) << kind << " " << seed;
      EXPECT_TRUE(all->planner.finite) << kind << " " << seed;
    }
  }
}

// What comes in bursts asks for more workers than as much that comes evenly, once bursts were seen.
TEST(PlannerSim, BurstsSeenBeforeAreProvidedFor) {
  PlannerSimOptions options = Options();
  const Result<PlannerLoad> even = MakePlannerLoad("constant", 12, 1800, 5);
  ASSERT_TRUE(even);
  // The same requests, those of each minute within its first twenty seconds.
  PlannerLoad bursts = *even;
  for (TraceRequest& request : bursts.trace.requests) {
    const double at = std::chrono::duration<double>(request.at).count();
    const double minute = std::floor(at / 60) * 60;
    request.at = std::chrono::duration_cast<rt::Duration>(
        std::chrono::duration<double>(minute + (at - minute) / 3));
  }
  const control::EngineModel engine = EngineModelOf(options.fleet);
  const auto wanted = [&](const PlannerLoad& past) {
    Result<control::Planner> planner = control::Planner::Create(options.config, engine, engine);
    EXPECT_TRUE(planner);
    WarmUp(*planner, past);
    control::PlannerObservation seen;
    seen.seconds = 15;
    seen.arrivals = 180;
    seen.pools[1].ready = 1;
    return planner->Decide(seen, rt::Time(std::chrono::seconds(15))).pools[1].workers;
  };
  EXPECT_GE(wanted(bursts), 2 * wanted(*even));
}

TEST(PlannerSim, PartsOfALoadBeginAtZero) {
  const Result<PlannerLoad> load = MakePlannerLoad("step", 6, 900, 1);
  ASSERT_TRUE(load);
  const PlannerLoad part = PartOf(*load, 300, 600);
  EXPECT_EQ(part.seconds, 300);
  EXPECT_EQ(part.rate(0), 18);
  ASSERT_FALSE(part.trace.requests.empty());
  EXPECT_GE(part.trace.requests.front().at.count(), 0);
  EXPECT_LT(part.trace.requests.back().at, std::chrono::seconds(300));
}

TEST(PlannerSim, CopiesOfATraceAllRunFromBeginningToEnd) {
  Trace trace;
  for (int i = 0; i <= 1000; ++i) {
    trace.requests.push_back({.at = std::chrono::seconds(i), .input_tokens = 10});
  }
  const PlannerLoad load = LoadOfTrace(trace, 4, 3);
  EXPECT_LT(load.seconds, 1000);
  EXPECT_GT(load.seconds, 890);
  for (double at = 0; at < load.seconds; at += 50) {
    EXPECT_NEAR(load.rate(at), 4, 0.2) << at;
  }
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
