#include "router/session_table.h"

#include <gtest/gtest.h>

namespace pixii::router {
namespace {

constexpr Target kHere{InstanceId{1}, 0};
constexpr Target kThere{InstanceId{2}, 3};

rt::Time At(int seconds) { return rt::Time{} + std::chrono::seconds(seconds); }

TEST(SessionTable, TimeCountsFromTheEndOfTheLastRequest) {
  SessionTable table({.ttl = std::chrono::seconds(10), .session_count_max = 10});
  EXPECT_FALSE(table.Find("a", At(0)));
  EXPECT_TRUE(table.Begin("a", kHere, At(0)));
  EXPECT_TRUE(table.Begin("a", kHere, At(1)));
  table.End("a", At(2));
  EXPECT_EQ(table.Find("a", At(100)), kHere) << "one still runs";
  table.End("a", At(100));
  EXPECT_EQ(table.Find("a", At(109)), kHere);
  EXPECT_FALSE(table.Find("a", At(110)));
  EXPECT_EQ(table.size(), 0);
}

TEST(SessionTable, ALostWorkerBindsNobody) {
  SessionTable table({.ttl = std::chrono::seconds(10), .session_count_max = 10});
  table.Begin("a", kHere, At(0));
  table.Forget(kHere.instance);
  EXPECT_FALSE(table.Find("a", At(0)));
  table.Begin("a", kThere, At(1));
  EXPECT_EQ(table.Find("a", At(1)), kThere);
  table.End("a", At(2));
  table.End("a", At(2));
  table.End("a", At(2));  // nobody began so often
  EXPECT_FALSE(table.Find("a", At(13)));
}

TEST(SessionTable, TheOneIdleLongestMakesRoom) {
  SessionTable table({.ttl = std::chrono::seconds(10), .session_count_max = 2});
  table.Begin("a", kHere, At(0));
  table.End("a", At(0));
  table.Begin("b", kHere, At(1));
  EXPECT_TRUE(table.Begin("c", kHere, At(2)));
  EXPECT_FALSE(table.Find("a", At(2)));
  EXPECT_FALSE(table.Begin("d", kHere, At(3))) << "b and c have requests";
  EXPECT_EQ(table.size(), 2);
}

}  // namespace
}  // namespace pixii::router
