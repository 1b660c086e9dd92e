#include "kv/tiers/copy_pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

namespace pixii::kv {
namespace {

constexpr rt::Time kBegin{std::chrono::seconds(100)};

TEST(TrafficBudget, ABurstPassesAtOnceAndTheRestAtItsRate) {
  TrafficBudget budget({.bytes_per_second = 1000, .burst = std::chrono::milliseconds(100)});
  EXPECT_EQ(budget.Take(kBegin, 100, CopyHaste::kNow), rt::Duration{});
  EXPECT_EQ(budget.Take(kBegin, 50, CopyHaste::kNow), std::chrono::milliseconds(50));
  EXPECT_EQ(budget.Take(kBegin, 50, CopyHaste::kNow), std::chrono::milliseconds(100))
      << "behind the one before";
  EXPECT_EQ(budget.Take(kBegin + std::chrono::milliseconds(150), 50, CopyHaste::kNow),
            rt::Duration{});
  EXPECT_EQ(budget.Take(kBegin + std::chrono::seconds(9), 100, CopyHaste::kNow), rt::Duration{});
  EXPECT_EQ(budget.Take(kBegin + std::chrono::seconds(9), 1, CopyHaste::kNow),
            std::chrono::milliseconds(1))
      << "what is not used is not kept beyond a burst";
}

TEST(TrafficBudget, WhatNobodyWaitsForLeavesHalfABurstToWhatSomebodyDoes) {
  TrafficBudget budget({.bytes_per_second = 1000, .burst = std::chrono::milliseconds(100)});
  EXPECT_EQ(budget.Take(kBegin, 50, CopyHaste::kLater), rt::Duration{});
  EXPECT_EQ(budget.Take(kBegin, 20, CopyHaste::kLater), std::chrono::milliseconds(20));
  EXPECT_EQ(budget.Take(kBegin, 30, CopyHaste::kNow), rt::Duration{});
  EXPECT_EQ(budget.Take(kBegin, 10, CopyHaste::kNow), std::chrono::milliseconds(10));
}

TEST(TrafficBudget, WhoeverTakesHoweverMuchTheRateIsKept) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const double rate = 1e6 + static_cast<double>(random() % 1'000'000'000);
    const TrafficLimits limits{.bytes_per_second = rate,
                               .burst = std::chrono::milliseconds(1 + random() % 50)};
    TrafficBudget budget(limits);
    std::vector<rt::Time> free_at(3, kBegin);  // of three tiers' threads
    double bytes = 0;
    rt::Time now = kBegin;
    while (now < kBegin + std::chrono::seconds(5)) {
      const auto thread = std::ranges::min_element(free_at);
      now = std::max(now, *thread);
      const auto block = 1 + random() % static_cast<std::uint64_t>(rate / 100);
      *thread =
          now + budget.Take(now, block, random() % 2 == 0 ? CopyHaste::kNow : CopyHaste::kLater);
      if (*thread < kBegin + std::chrono::seconds(5)) {
        bytes += static_cast<double>(block);
      }
      if (random() % 4 == 0) {
        *thread += std::chrono::microseconds(random() % 3000);  // nothing to do for a while
      }
    }
    const double burst = rate * std::chrono::duration<double>(limits.burst).count();
    EXPECT_LE(bytes, rate * 5 + burst + rate / 100 + 1);
    EXPECT_GE(bytes, rate * 5 * 0.5) << "nor is it held up for nothing";
  }
}

TEST(CopyPacer, ItWaitsAsLongAsTheBudgetSays) {
  rt::Time now = kBegin;
  CopyPacer pacer(
      {.bytes_per_second = 1000, .burst = std::chrono::milliseconds(10)}, [&] { return now; },
      [&](rt::Duration wait) { now += wait; });
  for (int i = 0; i < 100; ++i) {
    pacer.Pass(10, CopyHaste::kNow);
  }
  EXPECT_EQ(now, kBegin + std::chrono::milliseconds(990));
  EXPECT_EQ(pacer.waited_ns(), 990'000'000U);
}

TEST(CopyPacer, BandwidthIsWhatIsCopiedInTheTimeThatTheClockSays) {
  std::atomic<int> ticks = 0;
  const double measured =
      MeasureBandwidth({.threads = 1, .bytes_of_thread = 4096, .time = std::chrono::seconds(3)},
                       [&] { return kBegin + std::chrono::seconds(ticks++); });
  EXPECT_DOUBLE_EQ(measured, 2 * 4096);
}

}  // namespace
}  // namespace pixii::kv
