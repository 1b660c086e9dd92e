#include "control/readiness.h"

#include <gtest/gtest.h>

namespace pixii::control {
namespace {

using namespace std::chrono_literals;

class ReadinessTest : public ::testing::Test {
 protected:
  rt::Time At(rt::Duration since) const { return rt::Time(rt::Duration(1h)) + since; }

  Readiness readiness{{.canary_interval = 10s, .canary_timeout = 5s, .stall_limit = 30s}, At(0s)};
};

TEST_F(ReadinessTest, IsReadyOnlyAfterAToken) {
  EXPECT_FALSE(readiness.ready(At(1s)));
  EXPECT_TRUE(readiness.CanaryDue(At(1s)));
  readiness.OnToken(At(2s));
  EXPECT_TRUE(readiness.ready(At(2s)));
  EXPECT_FALSE(readiness.CanaryDue(At(11s)));
  EXPECT_TRUE(readiness.CanaryDue(At(12s)));
}

TEST_F(ReadinessTest, AFailedCanaryEndsItAndATokenBringsItBack) {
  readiness.OnToken(At(1s));
  readiness.OnCanaryFailed("boom");
  EXPECT_FALSE(readiness.ready(At(2s)));
  EXPECT_NE(readiness.Describe(At(2s)).find("boom"), std::string::npos);
  readiness.OnToken(At(3s));
  EXPECT_TRUE(readiness.ready(At(3s)));
}

TEST_F(ReadinessTest, ASleeperIsNotReadyUntilItHasAnsweredAgain) {
  readiness.OnToken(At(0s));
  readiness.Observe({.state = WorkerState::kDraining, .running = 1, .steps = 1}, At(1s));
  EXPECT_FALSE(readiness.ready(At(1s)));
  EXPECT_NE(readiness.Describe(At(1s)).find("about to sleep"), std::string::npos);
  // A release that was given up changes nothing.
  readiness.Observe({.state = WorkerState::kAwake, .steps = 2}, At(2s));
  EXPECT_TRUE(readiness.ready(At(2s)));
  readiness.Observe({.state = WorkerState::kAsleep, .steps = 2}, At(3s));
  EXPECT_FALSE(readiness.ready(At(3s)));
  EXPECT_FALSE(readiness.CanaryDue(At(300s))) << "it would only be refused";
  EXPECT_TRUE(readiness.slept());
  readiness.Observe({.state = WorkerState::kAwake, .steps = 2}, At(301s));
  EXPECT_FALSE(readiness.ready(At(301s)));
  EXPECT_TRUE(readiness.CanaryDue(At(301s)));
  readiness.OnToken(At(302s));
  EXPECT_TRUE(readiness.ready(At(302s)));
  EXPECT_FALSE(readiness.slept());
  readiness.Observe({.state = WorkerState::kDead, .steps = 3}, At(303s));
  EXPECT_FALSE(readiness.ready(At(303s)));
  EXPECT_NE(readiness.Describe(At(303s)).find("every data-parallel rank"), std::string::npos);
}

TEST_F(ReadinessTest, WithoutCanariesWhoeverIsAwakeIsReadyUnlessItStalls) {
  readiness = Readiness({.canary_interval = 0s, .canary_timeout = 5s, .stall_limit = 30s}, At(0s));
  EXPECT_TRUE(readiness.ready(At(0s)));
  EXPECT_TRUE(readiness.ever_ready());
  EXPECT_FALSE(readiness.CanaryDue(At(3600s)));
  readiness.Observe({.state = WorkerState::kAsleep, .steps = 1}, At(1s));
  EXPECT_FALSE(readiness.ready(At(1s)));
  readiness.Observe({.state = WorkerState::kAwake, .steps = 1}, At(2s));
  EXPECT_TRUE(readiness.ready(At(2s))) << "nobody would prove it";
  readiness.Observe({.running = 1, .steps = 5}, At(3s));
  readiness.Observe({.running = 1, .steps = 5}, At(34s));
  EXPECT_FALSE(readiness.ready(At(34s)));
}

TEST_F(ReadinessTest, WorkWithoutStepsIsAStall) {
  readiness.OnToken(At(0s));
  readiness.Observe({.running = 1, .steps = 5}, At(1s));
  EXPECT_TRUE(readiness.ready(At(30s)));
  readiness.Observe({.running = 1, .steps = 5}, At(40s));
  EXPECT_FALSE(readiness.ready(At(40s)));
  readiness.Observe({.running = 1, .steps = 6}, At(41s));
  EXPECT_TRUE(readiness.ready(At(41s)));
  readiness.Observe({.steps = 6}, At(100s));
  EXPECT_TRUE(readiness.ready(At(101s))) << "an idle engine makes no steps and is well";
}

}  // namespace
}  // namespace pixii::control
