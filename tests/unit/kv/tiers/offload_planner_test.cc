#include "kv/tiers/offload_planner.h"

#include <gtest/gtest.h>

namespace pixii::kv {
namespace {

Hash128 HashOf(std::uint64_t value) { return {value, value}; }

TEST(OffloadFilterTest, FrequenciesBeginAtOneDoubleWhenUsedAndFadeByOne) {
  OffloadFilter filter(16);
  filter.Hit(HashOf(1));
  EXPECT_EQ(filter.frequency(HashOf(1)), 0U);  // it was never computed
  filter.Seen(HashOf(1));
  EXPECT_EQ(filter.frequency(HashOf(1)), 1U);
  filter.Hit(HashOf(1));
  EXPECT_EQ(filter.frequency(HashOf(1)), 2U);
  filter.Hit(HashOf(1));
  EXPECT_EQ(filter.frequency(HashOf(1)), 4U);
  filter.Seen(HashOf(1));
  EXPECT_EQ(filter.frequency(HashOf(1)), 4U);
  filter.Decay();
  EXPECT_EQ(filter.frequency(HashOf(1)), 3U);
  for (int i = 0; i < 3; ++i) {
    filter.Decay();
  }
  EXPECT_EQ(filter.size(), 0U);
}

TEST(OffloadFilterTest, ItRemembersNoMoreThanItMay) {
  OffloadFilter filter(8);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    filter.Seen(HashOf(i));
    filter.Hit(HashOf(i));
    filter.Hit(HashOf(0));
    ASSERT_LE(filter.size(), 8U);
  }
}

OffloadPlannerOptions Options() {
  return {.queue_blocks_max = 4, .bytes_in_flight_max = 300, .block_bytes = 100};
}

TEST(OffloadPlannerTest, ABlockUsedOnceStaysAndOneUsedTwiceGoes) {
  const OffloadPlanner planner(Options());
  EXPECT_FALSE(planner.Wants(1));
  EXPECT_TRUE(planner.Wants(2));
  OffloadPlannerOptions all = Options();
  all.frequency_min = 0;
  EXPECT_TRUE(OffloadPlanner(all).Wants(1));
}

TEST(OffloadPlannerTest, HigherPrioritiesGoFirstThenWhoCameFirst) {
  OffloadPlanner planner(Options());
  EXPECT_TRUE(planner.Offer(HashOf(1), 0));
  EXPECT_TRUE(planner.Offer(HashOf(2), 5));
  EXPECT_TRUE(planner.Offer(HashOf(3), 0));
  EXPECT_TRUE(planner.Offer(HashOf(1), 9));  // it waits already
  EXPECT_EQ(planner.Next(), HashOf(2));
  EXPECT_EQ(planner.Next(), HashOf(1));
  EXPECT_EQ(planner.Next(), HashOf(3));
  EXPECT_EQ(planner.Next(), std::nullopt);
}

TEST(OffloadPlannerTest, NoMoreBytesAreOnTheirWayThanMay) {
  OffloadPlanner planner(Options());
  for (std::uint64_t i = 1; i <= 4; ++i) {
    EXPECT_TRUE(planner.Offer(HashOf(i), 0));
  }
  EXPECT_TRUE(planner.Next() && planner.Next() && planner.Next());
  EXPECT_TRUE(planner.full());
  EXPECT_FALSE(planner.Next());
  planner.Done(HashOf(2));
  EXPECT_EQ(planner.Next(), HashOf(4));
}

TEST(OffloadPlannerTest, ABlockLargerThanTheLimitGoesAlone) {
  OffloadPlannerOptions options = Options();
  options.block_bytes = 1000;
  OffloadPlanner planner(options);
  planner.Offer(HashOf(1), 0);
  planner.Offer(HashOf(2), 0);
  EXPECT_TRUE(planner.Next());
  EXPECT_FALSE(planner.Next());
}

TEST(OffloadPlannerTest, AFullQueueForgetsWhoIsLastInOrder) {
  OffloadPlanner planner(Options());
  for (std::uint64_t i = 1; i <= 4; ++i) {
    EXPECT_TRUE(planner.Offer(HashOf(i), 1));
  }
  EXPECT_FALSE(planner.Offer(HashOf(5), 0));
  EXPECT_TRUE(planner.Offer(HashOf(6), 2));
  EXPECT_EQ(planner.waiting(), 4U);
  EXPECT_EQ(planner.Next(), HashOf(6));
}

TEST(OffloadPlannerTest, WhatIsOnItsWayIsNotQueuedAgain) {
  OffloadPlanner planner(Options());
  planner.Offer(HashOf(1), 0);
  EXPECT_TRUE(planner.Next());
  EXPECT_TRUE(planner.Offer(HashOf(1), 0));
  EXPECT_EQ(planner.waiting(), 0U);
}

}  // namespace
}  // namespace pixii::kv
