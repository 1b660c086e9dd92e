#include "control/fleet_advice.h"

#include <gtest/gtest.h>

#include "unit/control/planner_engine.h"

namespace pixii::control {
namespace {

FleetWish Wish(FleetPick pick) {
  return {.pick = pick,
          .goal = {.ttft_ms = 500, .itl_ms = 60},
          .size = {.input = 1000, .output = 100},
          .budget = 8};
}

PoolOutlook Outlook(const FleetWish& wish, double rate, std::uint32_t workers) {
  return Predict(MakeEngine(), {.role = PoolRole::kBoth, .rate = rate, .sizes = {&wish.size, 1}},
                 wish.goal, workers);
}

TEST(FleetAdvice, LoadMatchIsTheFewestWorkersThatKeepTheGoal) {
  FleetWish wish = Wish(FleetPick::kLoadMatch);
  std::uint32_t before = 0;
  for (const double rate : {1.0, 5.0, 12.0, 24.0}) {
    wish.rate = rate;
    const auto advice = AdviseFleet(MakeEngine(), wish);
    ASSERT_TRUE(advice);
    ASSERT_GT(advice->workers, 0U) << "apart would not be fewer";
    EXPECT_TRUE(advice->meets);
    EXPECT_GE(advice->workers, before);
    EXPECT_GE(Outlook(wish, rate, advice->workers).attainment, wish.attainment);
    if (advice->workers > 1) {
      EXPECT_LT(Outlook(wish, rate, advice->workers - 1).attainment, wish.attainment);
    }
    EXPECT_GE(advice->rate_max, rate * 0.999);
    EXPECT_GE(advice->reasons.size(), 2U);
    before = advice->workers;
  }
  EXPECT_GT(before, 1U);
}

TEST(FleetAdvice, ATargetBeyondTheBudgetIsSaidAndHasAllOfIt) {
  FleetWish wish = Wish(FleetPick::kLoadMatch);
  wish.rate = 10'000;
  const auto advice = AdviseFleet(MakeEngine(), wish);
  ASSERT_TRUE(advice);
  EXPECT_FALSE(advice->meets);
  EXPECT_EQ(advice->total(), wish.budget);
}

TEST(FleetAdvice, ConcurrencyIsARateByLittlesLaw) {
  FleetWish wish = Wish(FleetPick::kLoadMatch);
  wish.concurrency = 8;
  const auto advice = AdviseFleet(MakeEngine(), wish);
  ASSERT_TRUE(advice);
  const double seconds = (advice->outlook.ttft_ms + 99 * advice->outlook.itl_ms) / 1000;
  EXPECT_NEAR(advice->rate * seconds, 8, 0.1);
}

TEST(FleetAdvice, DefaultIsTheWholeBudgetAndAutoscaleOne) {
  const auto whole = AdviseFleet(MakeEngine(), Wish(FleetPick::kDefault));
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->workers, 8U);
  const auto one = AdviseFleet(MakeEngine(), Wish(FleetPick::kAutoscale));
  ASSERT_TRUE(one);
  EXPECT_EQ(one->workers, 1U);
  EXPECT_GT(whole->rate_max, 7 * one->rate_max) << "a large fleet waits less";
}

TEST(FleetAdvice, AGoalThatNoFleetKeepsIsNotMet) {
  FleetWish wish = Wish(FleetPick::kDefault);
  wish.goal.ttft_ms = 1;
  const auto advice = AdviseFleet(MakeEngine(), wish);
  ASSERT_TRUE(advice);
  EXPECT_FALSE(advice->meets);
  EXPECT_NE(advice->reasons[0].find("a request alone"), std::string::npos);
}

TEST(FleetAdvice, WishesThatSayTooLittleOrTooMuchAreRefused) {
  FleetWish wish = Wish(FleetPick::kLoadMatch);
  EXPECT_EQ(AdviseFleet(MakeEngine(), wish).error().param(), "target-rate");
  wish.rate = wish.concurrency = 1;
  EXPECT_EQ(AdviseFleet(MakeEngine(), wish).error().param(), "target-concurrency");
  wish.budget = 0;
  EXPECT_EQ(AdviseFleet(MakeEngine(), wish).error().param(), "budget");
}

}  // namespace
}  // namespace pixii::control
