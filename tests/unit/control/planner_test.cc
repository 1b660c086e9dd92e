// Decisions of a planner, one observation after the other.
#include "control/planner.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "unit/control/planner_engine.h"

namespace pixii::control {
namespace {

// A planner, and workers that are there as soon as they are asked for.
class World {
 public:
  explicit World(const std::string& config) {
    const Result<PlannerConfig> read = ReadPlannerConfig(config, "p.yaml");
    EXPECT_TRUE(read) << read.error().detail();
    Result<Planner> made = Planner::Create(*read, MakeEngine(), MakeEngine());
    EXPECT_TRUE(made);
    planner_.emplace(std::move(*made));
  }

  PlannerDecision Tick(double rate) {
    const double seconds = std::chrono::duration<double>(planner_->tick()).count();
    now_ += planner_->tick();
    PlannerObservation seen;
    seen.seconds = seconds;
    seen.arrivals = static_cast<std::uint64_t>(rate * seconds);
    if (rate > 0) {
      seen.sizes.assign(20, {.input = 2000, .output = 100});
    }
    seen.pools = pools;
    PlannerDecision out = planner_->Decide(seen, now_);
    for (std::size_t i = 0; i < kPoolCount; ++i) {
      if (follows) {
        pools[i].ready = out.pools[i].workers;
      }
    }
    return out;
  }

  std::uint32_t workers(const PlannerDecision& decision) const { return decision.pools[1].workers; }

  rt::Time now() const { return now_; }

  std::array<PoolObserved, kPoolCount> pools{PoolObserved{.ready = 1}, PoolObserved{.ready = 1}};
  bool follows = true;

 private:
  std::optional<Planner> planner_;
  rt::Time now_{};
};

const char* const kSla =
    "mode: agg\noptimization_target: sla\nmax_gpu_budget: 100\nttft_ms: 500\nitl_ms: 60\n"
    "throughput_adjustment_interval_seconds: 30\nload_predictor: constant\n";

TEST(Planner, MoreLoadAsksForMoreWorkersAtOnceAndLessForFewerLater) {
  World world(kSla);
  PlannerDecision low;
  for (int i = 0; i < 10; ++i) {
    low = world.Tick(5);
  }
  PlannerDecision high;
  for (int i = 0; i < 3; ++i) {
    high = world.Tick(60);
  }
  EXPECT_GT(world.workers(high), 2 * world.workers(low));
  EXPECT_EQ(high.status, PlannerDecision::Status::kMet);
  EXPECT_GE(high.pools[1].at, 0.95);
  EXPECT_LE(high.pools[1].below, high.pools[1].at);
  EXPECT_GE(high.pools[1].above, high.pools[1].at);
  // Where most of the pool can be saved, a quarter of the window.
  PlannerDecision later;
  for (int i = 0; i < 2; ++i) {
    later = world.Tick(5);
    EXPECT_EQ(world.workers(later), world.workers(high)) << later.pools[1].reason;
  }
  for (int i = 0; i < 30; ++i) {
    later = world.Tick(5);
  }
  EXPECT_LE(world.workers(later), world.workers(low) + 1);
}

TEST(Planner, LoadThatGoesUpAndDownTurnsThePoolOnceInTenMinutesAtMost) {
  World world(std::string(kSla) + "scale_down_window_seconds: 0\n");
  std::uint32_t last = 1;
  int direction = 0;
  std::vector<rt::Time> turns;
  for (int i = 0; i < 400; ++i) {
    const PlannerDecision one = world.Tick(i % 4 < 2 ? 60 : 5);
    const std::uint32_t workers = world.workers(one);
    if (workers != last) {
      const int now = workers > last ? 1 : -1;
      if (direction != 0 && now != direction) {
        turns.push_back(world.now());
      }
      direction = now;
      last = workers;
    }
  }
  ASSERT_GT(turns.size(), 3U);
  for (std::size_t i = 1; i < turns.size(); ++i) {
    EXPECT_GE(turns[i] - turns[i - 1], std::chrono::minutes(10));
  }
}

TEST(Planner, NoTrafficIsAValueAndThePoolShrinksToItsLeast) {
  World world(kSla);
  for (int i = 0; i < 5; ++i) {
    world.Tick(60);
  }
  PlannerDecision one;
  for (int i = 0; i < 40; ++i) {
    one = world.Tick(0);
    EXPECT_TRUE(std::isfinite(one.pools[1].at) && std::isfinite(one.rate.mean));
  }
  EXPECT_EQ(world.workers(one), 1U);
  // From nothing at all.
  World idle(kSla);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(idle.workers(idle.Tick(0)), 1U);
  }
}

TEST(Planner, AGoalThatNothingKeepsIsCalledInfeasibleAndStillServed) {
  World world(
      "mode: agg\noptimization_target: sla\nmax_gpu_budget: 100\nttft_ms: 5\nitl_ms: 60\n"
      "throughput_adjustment_interval_seconds: 30\n");
  PlannerDecision one;
  for (int i = 0; i < 10; ++i) {
    one = world.Tick(30);
  }
  EXPECT_EQ(one.status, PlannerDecision::Status::kInfeasible);
  EXPECT_GE(world.workers(one), 2U);
  EXPECT_LE(world.workers(one), 10U);
}

TEST(Planner, TheBudgetHolds) {
  World world(
      "mode: agg\noptimization_target: sla\nmax_gpu_budget: 6\nmin_gpu_budget: 4\n"
      "gpus_per_worker: 2\nttft_ms: 500\nitl_ms: 60\nthroughput_adjustment_interval_seconds: 30\n"
      "scale_down_window_seconds: 30\n");
  PlannerDecision one;
  for (int i = 0; i < 5; ++i) {
    one = world.Tick(200);
  }
  EXPECT_EQ(world.workers(one), 3U);
  EXPECT_EQ(one.status, PlannerDecision::Status::kBudget);
  for (int i = 0; i < 60; ++i) {
    one = world.Tick(0);
  }
  EXPECT_EQ(world.workers(one), 2U);
}

TEST(Planner, WorkersWithoutRoomAreAskedForNoMoreForAWhile) {
  World world(kSla);
  world.Tick(5);
  world.follows = false;
  world.pools[1] = {.ready = 2};
  PlannerDecision one = world.Tick(60);
  ASSERT_GT(world.workers(one), 2U);
  world.pools[1] = {.ready = 2, .unschedulable = world.workers(one) - 2};
  one = world.Tick(60);
  EXPECT_EQ(world.workers(one), 2U);
  EXPECT_EQ(one.status, PlannerDecision::Status::kNoRoom);
  EXPECT_NE(one.pools[1].reason.find("no room"), std::string::npos) << one.pools[1].reason;
  world.pools[1] = {.ready = 2};
  for (int i = 0; i < 18; ++i) {
    EXPECT_EQ(world.workers(world.Tick(60)), 2U);
  }
  // Then it tries again.
  for (int i = 0; i < 4; ++i) {
    one = world.Tick(60);
  }
  EXPECT_GT(world.workers(one), 2U);
}

TEST(Planner, LoadRulesTakeOneStepAtATimeAndNoneWhileOneIsUnderWay) {
  World world(
      "mode: agg\noptimization_target: sla\nenable_throughput_scaling: false\n"
      "enable_load_scaling: true\nmax_gpu_budget: 3\nttft_ms: 500\nitl_ms: 60\n"
      "reversal_seconds: 0\nscale_down_window_seconds: 0\n");
  world.pools[1].engines = {{.ttft_ms = 600, .itl_ms = 10}};
  EXPECT_EQ(world.workers(world.Tick(5)), 2U);
  world.follows = false;
  world.pools[1].ready = 1;  // the second one starts
  world.pools[1].starting = 1;
  EXPECT_EQ(world.workers(world.Tick(5)), 2U);
  world.pools[1].ready = 2;
  world.pools[1].starting = 0;
  world.follows = true;
  // Only one of two is above: no step.
  world.pools[1].engines = {{.ttft_ms = 600, .itl_ms = 10}, {.ttft_ms = 450, .itl_ms = 10}};
  EXPECT_EQ(world.workers(world.Tick(5)), 2U);
  world.pools[1].engines = {{.ttft_ms = 600, .itl_ms = 10}, {.ttft_ms = 550, .itl_ms = 10}};
  EXPECT_EQ(world.workers(world.Tick(5)), 3U);
  EXPECT_EQ(world.workers(world.Tick(5)), 3U) << "the budget";
  // Below the goal, above 80 % of it: no step.
  world.pools[1].engines = {{.ttft_ms = 420, .itl_ms = 10}, {.ttft_ms = 100, .itl_ms = 10}};
  EXPECT_EQ(world.workers(world.Tick(5)), 3U);
  world.pools[1].engines = {{.ttft_ms = 390, .itl_ms = 10}, {.ttft_ms = 100, .itl_ms = 10}};
  EXPECT_EQ(world.workers(world.Tick(5)), 2U);
  EXPECT_EQ(world.workers(world.Tick(5)), 1U);
  EXPECT_EQ(world.workers(world.Tick(5)), 1U) << "min_endpoint";
}

TEST(Planner, TheFirstFormulasRuleWhereTheTargetIsThroughput) {
  World world("mode: disagg\nmax_gpu_budget: 100\nitl_ms: 50\nload_predictor: constant\n");
  PlannerDecision one;
  for (int i = 0; i < 3; ++i) {
    one = world.Tick(100);
  }
  // 200,000 tokens/s of prompts, 2,000 in 30 ms each worker: 3; 10,000 tokens/s of answers at a
  // context of 2,050: 14 sequences take 48.7 ms, 287.5 tokens/s: 34.8.
  EXPECT_EQ(one.pools[0].workers, 3U);
  EXPECT_EQ(one.pools[1].workers, 35U);
}

}  // namespace
}  // namespace pixii::control
