#include "router/cost.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace pixii::router {
namespace {

// Blocks of one token: tokens are blocks.
CostInput Blocks(std::uint32_t prompt, std::uint32_t device, double decode) {
  CostInput out;
  out.prompt_tokens = prompt;
  out.device_blocks = device;
  out.active_decode_blocks = decode;
  return out;
}

TEST(Cost, IsThatOfTheWorkedExample) {
  const CostOptions options;
  EXPECT_DOUBLE_EQ(CostOf(options, Blocks(10, 2, 10)).cost, 18);
  EXPECT_DOUBLE_EQ(CostOf(options, Blocks(10, 5, 5)).cost, 10);
  EXPECT_DOUBLE_EQ(CostOf(options, Blocks(10, 8, 9)).cost, 11);
}

TEST(Cost, CreditsLowerTiersByTheirWeights) {
  const CostOptions options;
  CostInput input = Blocks(10, 0, 0);
  input.host_blocks = 4;
  EXPECT_DOUBLE_EQ(CostOf(options, input).credit, 3);
  EXPECT_EQ(CachedTokens(options, input), 3);
  input.disk_blocks = 4;
  EXPECT_DOUBLE_EQ(CostOf(options, input).credit, 4);
  CostOptions shared = options;
  shared.shared_cache_multiplier = 0.5;
  input.device_blocks = 2;
  input.shared_blocks = 8;
  EXPECT_DOUBLE_EQ(CostOf(shared, input).credit, 2 + 4 + 3);
}

TEST(Cost, DecayTakesDeviceCreditAlone) {
  CostOptions options;
  options.overlap_credit_decay = 1;
  CostInput input = Blocks(10, 8, 0);
  input.host_blocks = 4;
  input.active_prefill_tokens = 13;
  input.active_prefill_tokens_least = 3;  // one request's worth more than the least
  const CostTerms terms = CostOf(options, input);
  EXPECT_DOUBLE_EQ(terms.decay, 0.5);
  EXPECT_DOUBLE_EQ(terms.credit, 4 + 3);
  options.track_prefill_tokens = false;
  EXPECT_DOUBLE_EQ(CostOf(options, input).decay, 1);
}

TEST(Cost, PrefillIsNeverNegative) {
  CostOptions options;
  options.overlap_credit = 5;
  const CostTerms terms = CostOf(options, Blocks(10, 8, 3));
  EXPECT_DOUBLE_EQ(terms.credit, 40);
  EXPECT_DOUBLE_EQ(terms.adjusted_prefill, 0);
  EXPECT_DOUBLE_EQ(terms.cost, 3);
}

TEST(Cost, ActiveRequestsWeigh) {
  CostOptions options;
  options.active_request_weight = 32;
  CostInput input = Blocks(10, 0, 0);
  const double without = CostOf(options, input).cost;
  input.active_requests = 4;
  EXPECT_DOUBLE_EQ(CostOf(options, input).cost - without, 128);
}

TEST(Cost, WhatTheRankLacksIsPaidByWeightAndPrice) {
  CostOptions options;
  options.recompute_weight = 3;
  CostInput input = Blocks(10, 4, 1);
  input.prompt_price = 8;
  input.held_price = 2.5;
  const CostTerms terms = CostOf(options, input);
  EXPECT_DOUBLE_EQ(terms.recompute, 3 * 5.5);
  EXPECT_DOUBLE_EQ(terms.adjusted_prefill, 6 + 3 * 5.5);
  EXPECT_DOUBLE_EQ(terms.cost, 6 + 3 * 5.5 + 1);
  options.overlap_credit = 0;  // nothing that is cached counts
  EXPECT_DOUBLE_EQ(CostOf(options, input).recompute, 3 * 8);
  options.track_prefill_tokens = false;
  EXPECT_DOUBLE_EQ(CostOf(options, input).recompute, 0);
}

TEST(Cost, OfADecodePoolIsDecodeLessCredit) {
  CostOptions options;
  options.decode_pool = true;
  options.track_prefill_tokens = false;
  EXPECT_DOUBLE_EQ(CostOf(options, Blocks(10, 4, 9)).cost, 5);
  EXPECT_DOUBLE_EQ(CostOf(options, Blocks(10, 9, 4)).cost, 0);
}

TEST(Cost, LmetricIsAProduct) {
  CostOptions options;
  options.policy = SelectionPolicy::kLmetric;
  EXPECT_DOUBLE_EQ(CostOf(options, Blocks(10, 4, 9)).cost, 60);
}

TEST(Cost, PreferredTaintsScaleItWithinBounds) {
  const CostOptions options;
  CostInput input = Blocks(10, 0, 0);
  input.preferred_taints = 100;
  EXPECT_NEAR(CostOf(options, input).cost, 10 / std::exp(1.0), 1e-9);
  input.preferred_taints = -100;
  EXPECT_NEAR(CostOf(options, input).cost, 10 * std::exp(1.0), 1e-9);
}

TEST(PickByCost, TakesTheLeastAtTemperatureZero) {
  rt::Random random(1);
  const std::array<double, 3> costs{3, 1, 2};
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(PickByCost(costs, 0, random), 1);
  }
}

TEST(PickByCost, EqualCostsAreEquallyLikely) {
  for (const double temperature : {0.0, 1.0}) {
    rt::Random random(2);
    const std::array<double, 4> costs{5, 5, 5, 5};
    std::array<int, 4> seen{};
    for (int i = 0; i < 10'000; ++i) {
      ++seen.at(PickByCost(costs, temperature, random));
    }
    for (const int count : seen) {
      EXPECT_NEAR(count, 2500, 3 * std::sqrt(10'000 * 0.25 * 0.75));
    }
  }
}

TEST(PickByCost, TemperatureOneGivesARatioOfE) {
  rt::Random random(3);
  const std::array<double, 2> costs{0, 1};
  std::array<double, 2> seen{};
  for (int i = 0; i < 200'000; ++i) {
    ++seen.at(PickByCost(costs, 1, random));
  }
  EXPECT_NEAR(seen[0] / seen[1], std::exp(1.0), 0.05 * std::exp(1.0));
}

}  // namespace
}  // namespace pixii::router
