#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/philox.h"

namespace pixii::engine {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

struct Case {
  std::vector<float> logits;
  wire::SamplingParams params;
  wire::StopConditions stop;
  std::vector<TokenId> prompt;
  std::vector<TokenId> generated;
  std::uint32_t choice = 0;

  SampleInput input() const {
    return {.params = &params,
            .stop = &stop,
            .prompt = prompt,
            .generated = generated,
            .choice = choice};
  }
};

TokenId SampleOf(const Case& c) {
  Sampler sampler;
  std::vector<float> row = c.logits;
  return sampler.Sample(c.input(), row);
}

// The header's order in plain double arithmetic.
std::vector<double> NaiveAdjusted(const Case& c) {
  std::vector<double> x(c.logits.begin(), c.logits.end());
  if (c.generated.size() < c.stop.min_tokens) {
    for (TokenId id : c.stop.stop_token_ids) {
      x[static_cast<std::size_t>(id)] = kNothing;
    }
    for (TokenId id : c.stop.eos_token_ids) {
      if (!c.stop.ignore_eos) {
        x[static_cast<std::size_t>(id)] = kNothing;
      }
    }
  }
  for (const auto& [id, bias] : c.params.logit_bias) {
    x[static_cast<std::size_t>(id)] += double{bias};
  }
  std::set<TokenId> seen(c.prompt.begin(), c.prompt.end());
  std::map<TokenId, int> counts;
  for (TokenId id : c.generated) {
    seen.insert(id);
    ++counts[id];
  }
  for (TokenId id : seen) {
    double& value = x[static_cast<std::size_t>(id)];
    value = value > 0 ? value / double{c.params.repetition_penalty}
                      : value * double{c.params.repetition_penalty};
  }
  for (auto [id, count] : counts) {
    x[static_cast<std::size_t>(id)] -=
        double{c.params.frequency_penalty} * count + double{c.params.presence_penalty};
  }
  return x;
}

// Probabilities after temperature and filters; 0 for what was filtered out.
std::vector<double> NaiveProbabilities(const Case& c) {
  std::vector<double> x = NaiveAdjusted(c);
  double max = *std::ranges::max_element(x);
  std::vector<double> p(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    p[i] = std::exp((x[i] - max) / double{c.params.temperature});
    p[i] = p[i] < double{c.params.min_p} ? 0 : p[i];
  }
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(
      order, [&](std::size_t a, std::size_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; });
  if (c.params.top_k > 0) {
    for (std::size_t i = static_cast<std::size_t>(c.params.top_k); i < order.size(); ++i) {
      p[order[i]] = 0;
    }
  }
  double total = std::accumulate(p.begin(), p.end(), 0.0);
  double sum = 0;
  for (std::size_t i : order) {
    if (c.params.top_p < 1 && sum >= total * double{c.params.top_p}) {
      p[i] = 0;
    }
    sum += p[i];
  }
  total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) {
    value /= total;
  }
  return p;
}

Case RandomCase(std::mt19937_64& random) {
  auto below = [&](std::uint32_t bound) { return static_cast<std::uint32_t>(random() % bound); };
  Case c;
  std::uint32_t vocab = 20 + below(300);
  std::normal_distribution<float> normal(0, 3);
  for (std::uint32_t i = 0; i < vocab; ++i) {
    c.logits.push_back(normal(random));
  }
  auto token = [&] { return static_cast<TokenId>(below(vocab)); };
  for (std::uint32_t i = below(20); i > 0; --i) {
    c.prompt.push_back(token());
  }
  for (std::uint32_t i = below(20); i > 0; --i) {
    c.generated.push_back(static_cast<TokenId>(below(10)));
  }
  c.params.seed = random();
  c.choice = below(4);
  c.params.temperature = 0.1F + 0.1F * static_cast<float>(below(20));
  c.params.top_p = below(2) == 0 ? 1.0F : 0.05F * static_cast<float>(1 + below(20));
  c.params.top_k = below(2) == 0 ? 0 : static_cast<std::int32_t>(1 + below(vocab + 10));
  c.params.min_p = below(2) == 0 ? 0.0F : 0.01F * static_cast<float>(below(50));
  c.params.presence_penalty = below(2) == 0 ? 0.0F : 0.25F * static_cast<float>(below(17)) - 2.0F;
  c.params.frequency_penalty = below(2) == 0 ? 0.0F : 0.25F * static_cast<float>(below(17)) - 2.0F;
  c.params.repetition_penalty = below(2) == 0 ? 1.0F : 0.1F * static_cast<float>(1 + below(20));
  c.stop.min_tokens = below(30);
  c.stop.eos_token_ids = {token()};
  c.stop.stop_token_ids = {token(), token()};
  c.stop.ignore_eos = below(3) == 0;
  if (below(2) == 0) {
    c.params.logit_bias = {{token(), 5.0F}, {token(), -5.0F}};
  }
  return c;
}

TEST(Sampler, AgreesWithANaiveOracleInDoublePrecision) {
  constexpr std::uint64_t kSeed = 7;
  std::mt19937_64 random(kSeed);
  int near_boundary = 0;
  for (int i = 0; i < 20'000; ++i) {
    Case c = RandomCase(random);
    std::vector<double> p = NaiveProbabilities(c);
    double u = UniformDraw(c.params.seed, c.choice, static_cast<std::uint32_t>(c.generated.size()));
    TokenId token = SampleOf(c);
    double below = std::accumulate(p.begin(), p.begin() + token, 0.0);
    double here = p[static_cast<std::size_t>(token)];
    constexpr double kRounding = 2e-6;
    ASSERT_LE(below, u + kRounding) << "seed " << kSeed << " case " << i;
    ASSERT_GE(below + here, u - kRounding) << "seed " << kSeed << " case " << i;
    near_boundary += here == 0 ? 1 : 0;  // a filter's edge that rounding moved
  }
  EXPECT_LE(near_boundary, 20);
}

TEST(Sampler, GreedyAgreesWithANaiveOracle) {
  std::mt19937_64 random(8);
  for (int i = 0; i < 2000; ++i) {
    Case c = RandomCase(random);
    c.params.temperature = 0;
    std::vector<double> x = NaiveAdjusted(c);
    double best = *std::ranges::max_element(x);
    EXPECT_NEAR(x[static_cast<std::size_t>(SampleOf(c))], best, 1e-4) << i;
  }
}

TEST(Sampler, GreedyTakesTheLowestIdAmongEquals) {
  std::vector<float> logits(100, 1.0F);
  EXPECT_EQ(Argmax(logits), 0);
  logits[0] = 0.0F;
  EXPECT_EQ(Argmax(logits), 1);
  logits[63] = logits[98] = 2.0F;
  EXPECT_EQ(Argmax(logits), 63);
  logits[99] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Argmax(logits), 63);
}

TEST(Sampler, TopKOneIsGreedyAtAnyTemperature) {
  std::mt19937_64 random(9);
  for (int i = 0; i < 200; ++i) {
    Case c = RandomCase(random);
    c.params.top_k = 1;
    Case greedy = c;
    greedy.params.temperature = 0;
    EXPECT_EQ(SampleOf(c), SampleOf(greedy));
  }
}

Case FourTokens() {
  Case c;
  c.logits = {std::log(0.4F), std::log(0.3F), std::log(0.2F), std::log(0.1F)};
  return c;
}

std::set<TokenId> Drawn(Case c, int draws = 2000) {
  std::set<TokenId> out;
  for (int i = 0; i < draws; ++i) {
    c.params.seed = static_cast<std::uint64_t>(i);
    out.insert(SampleOf(c));
  }
  return out;
}

TEST(Sampler, EachFilterKeepsExactlyWhatItSays) {
  using Ids = std::set<TokenId>;
  Case c = FourTokens();
  EXPECT_EQ(Drawn(c), (Ids{0, 1, 2, 3}));
  c.params.top_k = 2;
  EXPECT_EQ(Drawn(c), (Ids{0, 1}));
  c.params.top_k = 4;
  EXPECT_EQ(Drawn(c), (Ids{0, 1, 2, 3}));
  c.params.top_k = 0;
  c.params.top_p = 0.39F;
  EXPECT_EQ(Drawn(c), (Ids{0}));
  c.params.top_p = 0.41F;
  EXPECT_EQ(Drawn(c), (Ids{0, 1}));
  c.params.top_p = 0.91F;
  EXPECT_EQ(Drawn(c), (Ids{0, 1, 2, 3}));
  c.params.top_p = 1e-6F;
  EXPECT_EQ(Drawn(c), (Ids{0}));
  c.params.top_p = 1.0F;
  c.params.min_p = 0.49F;
  EXPECT_EQ(Drawn(c), (Ids{0, 1, 2}));
  c.params.min_p = 1.0F;
  EXPECT_EQ(Drawn(c), (Ids{0}));
}

TEST(Sampler, TopPCountsWhatTopKLeft) {
  Case c = FourTokens();
  c.params.top_k = 2;     // 4/7 and 3/7 are left
  c.params.top_p = 0.5F;  // the first alone is enough
  EXPECT_EQ(Drawn(c), (std::set<TokenId>{0}));
}

TEST(Sampler, TopKAmongEqualsKeepsTheLowestIds) {
  Case c;
  c.logits.assign(200, 1.5F);
  c.params.top_k = 3;
  EXPECT_EQ(Drawn(c), (std::set<TokenId>{0, 1, 2}));
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  Case c = FourTokens();
  c.params.temperature = 1e-7F;
  EXPECT_EQ(Drawn(c), (std::set<TokenId>{0}));
  c.params.temperature = 0.01F;
  EXPECT_EQ(Drawn(c), (std::set<TokenId>{0}));
}

TEST(Sampler, MinTokensMasksEndAndStopIdsUntilThatManyAreThere) {
  Case c = FourTokens();
  c.params.temperature = 0;
  c.stop.eos_token_ids = {0};
  c.stop.stop_token_ids = {1};
  c.stop.min_tokens = 2;
  c.generated = {3};
  EXPECT_EQ(SampleOf(c), 2);
  c.generated = {3, 3};
  EXPECT_EQ(SampleOf(c), 0);
  c.generated = {3};
  c.stop.ignore_eos = true;  // then it ends nothing and needs no mask
  EXPECT_EQ(SampleOf(c), 0);
}

TEST(Sampler, PenaltiesCountGeneratedTokensAndRepetitionThePromptToo) {
  Case c;
  c.params.temperature = 0;
  c.logits = {2.0F, 1.9F, 0.0F, -1.0F};
  c.prompt = {0};
  c.params.presence_penalty = 2.0F;
  c.params.frequency_penalty = 2.0F;
  EXPECT_EQ(SampleOf(c), 0);  // the prompt is not penalised by these
  c.generated = {0};
  EXPECT_EQ(SampleOf(c), 1);
  c.params.presence_penalty = 0;
  c.params.frequency_penalty = 0.06F;
  EXPECT_EQ(SampleOf(c), 0);  // 1.94
  c.generated = {0, 0};
  EXPECT_EQ(SampleOf(c), 1);  // 1.88
  c.generated.clear();
  c.params.frequency_penalty = 0;
  c.params.repetition_penalty = 2.0F;
  EXPECT_EQ(SampleOf(c), 1);
  c.logits = {-1.0F, -1.5F, -1.7F, -3.0F};  // a negative logit is multiplied
  EXPECT_EQ(SampleOf(c), 1);
}

TEST(Sampler, LogitBiasBansAndForces) {
  Case c = FourTokens();
  c.params.logit_bias = {{0, -100.0F}};
  EXPECT_FALSE(Drawn(c).contains(0));
  c.params.logit_bias = {{3, 100.0F}};
  EXPECT_EQ(Drawn(c), (std::set<TokenId>{3}));
}

TEST(Sampler, ScratchOfOneCallNeverReachesTheNext) {
  std::mt19937_64 random(10);
  Sampler shared;
  for (int i = 0; i < 500; ++i) {
    Case c = RandomCase(random);
    std::vector<float> row = c.logits;
    EXPECT_EQ(shared.Sample(c.input(), row), SampleOf(c)) << i;
  }
}

TEST(Sampler, DrawsFollowTheDistribution) {
  // Chi-square over 50 tokens with all filters off and a fixed seed: positions give the draws, as
  // in a real stream.
  constexpr int kTokens = 50;
  constexpr int kDraws = 100'000;
  Case c;
  std::mt19937_64 random(11);
  std::normal_distribution<float> normal(0, 1);
  for (int i = 0; i < kTokens; ++i) {
    c.logits.push_back(normal(random));
  }
  c.params.temperature = 0.8F;
  c.params.seed = 123;
  std::vector<double> p = NaiveProbabilities(c);
  std::vector<int> counts(kTokens);
  Sampler sampler;
  std::vector<TokenId> generated(kDraws);
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> row = c.logits;
    SampleInput input = c.input();
    input.generated = std::span(generated).first(static_cast<std::size_t>(i));
    ++counts[static_cast<std::size_t>(sampler.Sample(input, row))];
  }
  double chi_square = 0;
  for (int i = 0; i < kTokens; ++i) {
    double expected = p[static_cast<std::size_t>(i)] * kDraws;
    chi_square += (counts[static_cast<std::size_t>(i)] - expected) *
                  (counts[static_cast<std::size_t>(i)] - expected) / expected;
  }
  EXPECT_LT(chi_square, 85.4);  // 49 degrees of freedom, one in a thousand
  EXPECT_GT(chi_square, 23.0);  // too even would be wrong too
}

TEST(Sampler, SeedChoiceAndPositionEachGiveOtherDraws) {
  std::set<double> draws;
  for (std::uint64_t seed : {0ULL, 1ULL, 1ULL << 32}) {
    for (std::uint32_t choice : {0U, 1U}) {
      for (std::uint32_t position : {0U, 1U, 1000U}) {
        double u = UniformDraw(seed, choice, position);
        EXPECT_GE(u, 0.0);
        EXPECT_LT(u, 1.0);
        EXPECT_TRUE(draws.insert(u).second);
      }
    }
  }
}

TEST(Philox, GivesThePublishedAnswers) {
  // Random123 1.09, kat_vectors: philox4x32 10.
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Logprob, IsTheLogSoftmaxOfTheRawRowWithTheBestFirst) {
  std::mt19937_64 random(12);
  Sampler sampler;
  for (int i = 0; i < 300; ++i) {
    std::vector<float> logits = RandomCase(random).logits;
    double max = double{*std::ranges::max_element(logits)};
    double sum = 0;
    for (float logit : logits) {
      sum += std::exp(double{logit} - max);
    }
    TokenId token = static_cast<TokenId>(random() % logits.size());
    wire::TokenLogprob logprob = sampler.Logprob(logits, token, 20);
    EXPECT_NEAR(double{logprob.logprob},
                double{logits[static_cast<std::size_t>(token)]} - max - std::log(sum), 2e-6);
    ASSERT_EQ(logprob.top.size(), 20U);
    std::vector<TokenId> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::sort(order, [&](TokenId a, TokenId b) {
      float x = logits[static_cast<std::size_t>(a)];
      float y = logits[static_cast<std::size_t>(b)];
      return x != y ? x > y : a < b;
    });
    for (std::size_t k = 0; k < 20; ++k) {
      EXPECT_EQ(logprob.top[k].first, order[k]);
    }
  }
}

TEST(Logprob, OfEqualLogitsNamesTheLowestIdsAndFewerThanAskedIfThereAreFewer) {
  Sampler sampler;
  std::vector<float> logits(3, 0.5F);
  wire::TokenLogprob logprob = sampler.Logprob(logits, 2, 5);
  ASSERT_EQ(logprob.top.size(), 3U);
  EXPECT_EQ(logprob.top[0].first, 0);
  EXPECT_EQ(logprob.top[2].first, 2);
  EXPECT_FLOAT_EQ(logprob.logprob, std::log(1.0F / 3));
}

}  // namespace
}  // namespace pixii::engine
