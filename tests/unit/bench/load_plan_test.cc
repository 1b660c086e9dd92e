#include "bench/load_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace pixii::bench {
namespace {

constexpr std::uint32_t kCount = 20'000;

std::vector<double> GapsOf(const LoadPlan& plan) {
  std::vector<double> gaps;
  rt::Duration last{};
  for (const PlannedRequest& request : plan.requests) {
    gaps.push_back(std::chrono::duration<double>(request.at - last).count());
    last = request.at;
  }
  return gaps;
}

struct Moments {
  double mean = 0;
  double variance = 0;
};

Moments MomentsOf(const std::vector<double>& values) {
  Moments out;
  for (const double value : values) {
    out.mean += value / static_cast<double>(values.size());
  }
  for (const double value : values) {
    out.variance += (value - out.mean) * (value - out.mean) / static_cast<double>(values.size());
  }
  return out;
}

TEST(LoadPlanTest, ArrivalsHaveTheMeanAndSpreadOfTheirProcess) {
  for (const auto& [arrival, burstiness, variance] :
       {std::tuple{Arrival::kConstant, 1.0, 0.0}, std::tuple{Arrival::kPoisson, 1.0, 1.0},
        std::tuple{Arrival::kGamma, 0.25, 4.0}, std::tuple{Arrival::kGamma, 4.0, 0.25}}) {
    const LoadPlan plan = MakeLoadPlan({.request_count = kCount,
                                        .rate_per_second = 10,
                                        .arrival = arrival,
                                        .burstiness = burstiness});
    const Moments gaps = MomentsOf(GapsOf(plan));
    EXPECT_NEAR(gaps.mean, 0.1, 0.005);
    EXPECT_NEAR(gaps.variance * 100, variance, 0.1 * variance + 1e-9);
    EXPECT_TRUE(plan.timed);
  }
}

TEST(LoadPlanTest, ARampEndsAtItsLastRate) {
  const std::vector<double> gaps = GapsOf(MakeLoadPlan({.request_count = 101,
                                                        .rate_per_second = 10,
                                                        .rate_end = 20,
                                                        .arrival = Arrival::kConstant}));
  EXPECT_NEAR(gaps.front(), 1.0 / 10, 1e-6);
  EXPECT_NEAR(gaps[50], 1.0 / 15, 1e-6);
  EXPECT_NEAR(gaps.back(), 1.0 / 20, 1e-6);
}

TEST(LoadPlanTest, LengthsHaveTheirDistributionAndNoRateChangesThem) {
  LoadPlanOptions options = {.request_count = kCount,
                             .input_tokens = 200,
                             .input_stddev = 30,
                             .output_tokens = 2,
                             .output_stddev = 10};
  const LoadPlan closed = MakeLoadPlan(options);
  options.rate_per_second = 7;
  const LoadPlan open = MakeLoadPlan(options);
  std::vector<double> inputs;
  for (std::size_t i = 0; i < kCount; ++i) {
    inputs.push_back(closed.requests[i].input_tokens);
    EXPECT_GE(closed.requests[i].output_tokens, 1U);
    EXPECT_EQ(closed.requests[i].input_tokens, open.requests[i].input_tokens);
    EXPECT_EQ(closed.requests[i].output_tokens, open.requests[i].output_tokens);
  }
  const Moments moments = MomentsOf(inputs);
  EXPECT_NEAR(moments.mean, 200, 2);
  EXPECT_NEAR(std::sqrt(moments.variance), 30, 1);
  EXPECT_FALSE(closed.timed);
}

TEST(LoadPlanTest, PromptsShareTheFrontOfTheirGroupAndNothingElse) {
  const LoadPlan plan = MakeLoadPlan(
      {.request_count = 40, .input_tokens = 64, .shared_prefix_tokens = 32, .prefix_groups = 3});
  std::size_t shared = 0;
  for (std::size_t i = 1; i < plan.requests.size(); ++i) {
    const std::vector<TokenId> first = plan.Prompt(plan.requests[0], 50'000);
    const std::vector<TokenId> other = plan.Prompt(plan.requests[i], 50'000);
    ASSERT_EQ(other.size(), 64U);
    const auto differ = std::ranges::mismatch(first, other).in1 - first.begin();
    const bool same_group = plan.requests[0].prefix_group == plan.requests[i].prefix_group;
    EXPECT_GE(differ, same_group ? 32 : 0);
    EXPECT_LE(differ, same_group ? 34 : 2);
    shared += same_group ? 1 : 0;
  }
  EXPECT_GT(shared, 0U);
  EXPECT_LT(shared, 39U);
}

TEST(LoadPlanTest, ATraceComesAsFastAsAskedWithEqualHashesAsEqualTokens) {
  const sim::Trace trace = {.requests = {{.at = std::chrono::seconds(2),
                                          .input_tokens = 6,
                                          .output_tokens = 3,
                                          .hash_ids = {1, 2}},
                                         {.at = std::chrono::seconds(4),
                                          .input_tokens = 7,
                                          .output_tokens = 1,
                                          .hash_ids = {1, 3}}},
                            .block_tokens = 4};
  const LoadPlan plan = PlanOfTrace(trace, 2, 1);
  ASSERT_EQ(plan.requests.size(), 2U);
  EXPECT_EQ(plan.requests[1].at, std::chrono::seconds(2));
  EXPECT_EQ(plan.requests[0].output_tokens, 3U);
  const std::vector<TokenId> first = plan.Prompt(plan.requests[0], 50'000);
  const std::vector<TokenId> second = plan.Prompt(plan.requests[1], 50'000);
  EXPECT_EQ(second.size(), 7U);
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + 4, second.begin()));
  EXPECT_FALSE(std::equal(first.begin() + 4, first.end(), second.begin() + 4));
}

}  // namespace
}  // namespace pixii::bench
