#include "engine/rank_balance.h"

#include <gtest/gtest.h>

namespace pixii::engine {
namespace {

constexpr StepOutlook kDecodes{.prompts = 0, .decodes = 3};
constexpr StepOutlook kBoth{.prompts = 2, .decodes = 3};
constexpr StepOutlook kPrompts{.prompts = 2, .decodes = 0};

TEST(RankBalance, WithoutItNothingWaits) {
  RankBalance balance({.enable = false}, 2);
  EXPECT_FALSE(balance.Holds(0, kBoth));
}

TEST(RankBalance, PromptsWaitForPromptsOfTheOtherRanks) {
  RankBalance balance({.enable = true, .timeout_steps = 50, .batching_steps = 0}, 2);
  EXPECT_FALSE(balance.Holds(1, kDecodes));
  EXPECT_TRUE(balance.Holds(0, kBoth));
  EXPECT_TRUE(balance.Holds(0, kBoth));
  EXPECT_FALSE(balance.Holds(1, kBoth)) << "now both have some";
  EXPECT_FALSE(balance.Holds(0, kBoth));
}

TEST(RankBalance, NotForLongerThanTheTimeout) {
  RankBalance balance({.enable = true, .timeout_steps = 4, .batching_steps = 0}, 2);
  EXPECT_FALSE(balance.Holds(1, kDecodes));
  for (int round = 0; round < 3; ++round) {
    for (int step = 1; step < 4; ++step) {
      EXPECT_TRUE(balance.Holds(0, kBoth)) << step;
    }
    EXPECT_FALSE(balance.Holds(0, kBoth));
  }
}

TEST(RankBalance, OnceAllHaveSomeTheyWaitForMoreSoManySteps) {
  RankBalance balance({.enable = true, .timeout_steps = 50, .batching_steps = 3}, 2);
  EXPECT_FALSE(balance.Holds(1, kDecodes));
  EXPECT_TRUE(balance.Holds(0, kBoth));
  for (int step = 0; step < 3; ++step) {
    EXPECT_TRUE(balance.Holds(1, kBoth)) << step;
    EXPECT_TRUE(balance.Holds(0, kBoth)) << step;
  }
  EXPECT_FALSE(balance.Holds(1, kBoth));
  EXPECT_FALSE(balance.Holds(0, kBoth));
}

TEST(RankBalance, NobodyWaitsWhereARankWouldHaveNothingToCompute) {
  RankBalance balance({.enable = true, .timeout_steps = 50, .batching_steps = 10}, 2);
  EXPECT_FALSE(balance.Holds(0, kPrompts)) << "its own step would be empty";
  EXPECT_FALSE(balance.Holds(1, kBoth)) << "the other's would";
  EXPECT_FALSE(balance.Holds(0, kDecodes));
  EXPECT_TRUE(balance.Holds(1, kBoth));
  balance.Rest(0);
  EXPECT_FALSE(balance.Holds(1, kBoth)) << "a rank without work brings no prompts";
}

}  // namespace
}  // namespace pixii::engine
