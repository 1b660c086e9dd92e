// The formulas worked out by hand, the rules of load, and the queueing model's bounds.
#include "control/planner_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "unit/control/planner_engine.h"

namespace pixii::control {
namespace {

struct FormulaCase {
  FormulaInput in;
  std::uint32_t prefill;
  std::uint32_t decode;
};

TEST(PlannerModel, TheFormulasGiveWhatIsWorkedOutByHand) {
  const FormulaCase cases[] = {
      // 600 x 3000 / 180 = 10,000 tokens/s by 20,000; 600 x 150 / 180 = 500 by 1,000.
      {{600, 3000, 150, 180, 20'000, 1000, 1, 1, 1}, 1, 1},
      // 6,000 requests: 100,000 by 20,000 = 5; 5,000 by 1,000 = 5.
      {{6000, 3000, 150, 180, 20'000, 1000, 1, 1, 1}, 5, 5},
      // One request more asks for one more of each.
      {{6001, 3000, 150, 180, 20'000, 1000, 1, 1, 1}, 6, 6},
      // A prompt half as slow as expected counts half: 50,000 by 20,000 = 2.5.
      {{6000, 3000, 150, 180, 20'000, 1000, 1, 1, 0.5}, 3, 5},
      // A correction above 1 counts as 1: queueing is not cured by it.
      {{6000, 3000, 150, 180, 20'000, 1000, 1, 1, 4}, 5, 5},
      // Engines of 2 and 4 GPUs: 5 / 2 and 5 / 4.
      {{6000, 3000, 150, 180, 20'000, 1000, 2, 4, 1}, 3, 2},
      // Half the decode throughput, as a corrected goal gives: 10.
      {{6000, 3000, 150, 180, 20'000, 500, 1, 1, 1}, 5, 10},
      // Nothing comes.
      {{0, 3000, 150, 180, 20'000, 1000, 1, 1, 1}, 0, 0},
      // An engine that never keeps the goal: no count is enough.
      {{600, 3000, 150, 180, 20'000, 0, 1, 1, 1}, 1, kReplicasUnbounded},
      // 60 x 1000 / 60 = 1,000 by 333 = 3.003; 60 x 100 / 60 = 100 by 50 = 2.
      {{60, 1000, 100, 60, 333, 50, 1, 1, 1}, 4, 2},
  };
  for (const FormulaCase& one : cases) {
    EXPECT_EQ(PrefillReplicas(one.in), one.prefill);
    EXPECT_EQ(DecodeReplicas(one.in), one.decode);
  }
}

TEST(PlannerModel, TheGoalOfDecodingIsCorrectedByWhatWasSeen) {
  EXPECT_DOUBLE_EQ(CorrectedItlGoal(50, 40, 20), 25);
  EXPECT_DOUBLE_EQ(CorrectedItlGoal(50, 0, 20), 50);
  EXPECT_DOUBLE_EQ(CorrectedItlGoal(50, 40, 0), 50);
}

TEST(PlannerModel, ThroughputIsThatOfTheLargestBatchThatKeepsTheGoal) {
  const EngineModel engine = MakeEngine();
  // 20 + batch x 1 <= 50 at 1,000 tokens of context: 30 sequences in 50 ms.
  EXPECT_DOUBLE_EQ(DecodeThroughput(engine, 1000, 50), 600);
  EXPECT_DOUBLE_EQ(DecodeThroughput(engine, 1000, 19), 0);
  // 64 of 1,500 tokens would be 96,000 of context: all fit, the step takes 116 ms.
  EXPECT_NEAR(DecodeThroughput(engine, 1500, 1000), 64 / 0.116, 1e-9);
  // 10,000 tokens are 3 steps, of 4,000, 4,000 and 2,000.
  EXPECT_DOUBLE_EQ(PromptMs(engine, 10'000), 50 + 50 + 30);
  EXPECT_DOUBLE_EQ(PrefillThroughput(engine, 4000), 80'000);
}

TEST(PlannerModel, AWorkerMoreNeverMakesItWorseAndLoadNeverBetter) {
  const EngineModel engine = MakeEngine();
  std::vector<RequestSize> sizes;
  for (int i = 1; i <= 50; ++i) {
    sizes.push_back({.input = 100.0 * i, .output = 10.0 * i});
  }
  for (const PoolRole role : {PoolRole::kBoth, PoolRole::kPrefill, PoolRole::kDecode}) {
    const LatencyGoal goal{.ttft_ms = 500, .itl_ms = 60};
    const auto at = [&](double rate, double workers) {
      return Predict(engine, {.role = role, .rate = rate, .sizes = sizes}, goal, workers);
    };
    EXPECT_GT(at(0, 1).attainment, 0.99);
    EXPECT_EQ(at(1000, 1).attainment, 0);
    EXPECT_GE(at(1000, 1).busy, 1);
    for (double workers = 1; workers < 20; ++workers) {
      EXPECT_LE(at(20, workers).attainment, at(20, workers + 1).attainment + 1e-9);
      EXPECT_TRUE(std::isfinite(at(20, workers).ttft_ms));
    }
    for (double rate = 1; rate < 40; rate += 3) {
      EXPECT_GE(at(rate, 4).attainment, at(rate + 3, 4).attainment - 1e-9);
    }
  }
}

TEST(PlannerModel, AGoalBelowWhatAPromptTakesAloneIsNeverKept) {
  const std::vector<RequestSize> sizes = {{.input = 2000, .output = 10}};
  const PoolOutlook out =
      Predict(MakeEngine(), {.role = PoolRole::kBoth, .rate = 0, .sizes = sizes},
              {.ttft_ms = 29, .itl_ms = 1000}, 100);
  EXPECT_EQ(out.attainment, 0);
  EXPECT_LT(out.busy, 1);
}

TEST(PlannerModel, OneMoreOnlyIfAllExceedAndOneFewerOnlyIfAllAreWellBelow) {
  const LatencyGoal goal{.ttft_ms = 100, .itl_ms = 10};
  using Engines = std::vector<EngineEstimate>;
  const auto step = [&](PoolRole role, const Engines& engines) {
    return LoadStep(role, engines, goal, 0.8);
  };
  EXPECT_EQ(step(PoolRole::kPrefill, {{101, 0}, {150, 0}}), 1);
  EXPECT_EQ(step(PoolRole::kPrefill, {{101, 0}, {99, 0}}), 0);
  EXPECT_EQ(step(PoolRole::kPrefill, {{79, 0}, {10, 0}}), -1);
  EXPECT_EQ(step(PoolRole::kPrefill, {{81, 0}, {10, 0}}), 0);
  EXPECT_EQ(step(PoolRole::kDecode, {{0, 11}, {0, 12}}), 1);
  EXPECT_EQ(step(PoolRole::kDecode, {{500, 7.9}, {500, 1}}), -1);
  // Both: up if either is above everywhere, down if both are below everywhere.
  EXPECT_EQ(step(PoolRole::kBoth, {{10, 11}, {10, 11}}), 1);
  EXPECT_EQ(step(PoolRole::kBoth, {{101, 1}, {10, 11}}), 0);
  EXPECT_EQ(step(PoolRole::kBoth, {{10, 9}, {10, 1}}), 0);
  EXPECT_EQ(step(PoolRole::kBoth, {{10, 1}, {10, 1}}), -1);
  EXPECT_EQ(step(PoolRole::kBoth, {}), 0);
}

TEST(PlannerModel, ALineThroughStepsSaysWhatAQueueTakes) {
  StepLine line;
  EXPECT_EQ(line.WallMs(100), 0);
  line.Add(0, 0, 64);  // a heartbeat
  EXPECT_EQ(line.samples(), 0U);
  for (const double tokens : {100, 200, 400}) {
    line.Add(tokens, 5 + 0.1 * tokens, 64);
  }
  EXPECT_NEAR(line.WallMs(1000), 105, 1e-9);
  EXPECT_NEAR(line.QueueMs(2500, 1000), 105 + 105 + 55, 1e-9);
  for (int i = 0; i < 200; ++i) {
    line.Add(100, 30, 64);
  }
  EXPECT_EQ(line.samples(), 64U);
  EXPECT_NEAR(line.WallMs(100), 30, 1e-9);
}

}  // namespace
}  // namespace pixii::control
