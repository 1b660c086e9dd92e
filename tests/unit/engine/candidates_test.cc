#include "engine/candidates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "engine/philox.h"
#include "engine/sampler.h"

namespace pixii::engine {
namespace {

struct Case {
  std::vector<float> logits;
  wire::SamplingParams params;
  std::uint32_t position = 0;
  std::uint32_t choice = 0;
  float mean = 0;
};

TokenId SampleOf(const Case& c, float* mean) {
  Sampler sampler;
  wire::StopConditions stop;
  std::vector<TokenId> generated(c.position, 0);
  std::vector<float> row = c.logits;
  return sampler.Sample({.params = &c.params,
                         .stop = &stop,
                         .prompt = {},
                         .generated = generated,
                         .choice = c.choice,
                         .mirostat_mean = mean},
                        row);
}

using Probabilities = std::vector<double>;

Probabilities Softmax(const Case& c) {
  double max = *std::ranges::max_element(c.logits);
  Probabilities p;
  for (float logit : c.logits) {
    p.push_back(std::exp((logit - max) / double{c.params.temperature}));
  }
  double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) {
    value /= total;
  }
  return p;
}

void Normalize(Probabilities& p) {
  double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) {
    value /= total;
  }
}

std::vector<std::size_t> BestFirst(const Probabilities& p) {
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(-p[i], i); });
  return order;
}

// The filters in the header's order, each by its paper's words, renormalized after each.
Probabilities NaiveFiltered(const Case& c) {
  const wire::SamplingParams& params = c.params;
  Probabilities p = Softmax(c);
  double best = *std::ranges::max_element(p);
  for (double& value : p) {
    if (value < double{params.top_a} * best * best || value < double{params.min_p} * best) {
      value = 0;
    }
  }
  Normalize(p);
  if (params.top_k > 0) {
    std::vector<std::size_t> order = BestFirst(p);
    for (std::size_t i = static_cast<std::size_t>(params.top_k); i < order.size(); ++i) {
      p[order[i]] = 0;
    }
    Normalize(p);
  }
  double sum = 0;
  for (std::size_t i : BestFirst(p)) {
    double value = p[i];
    p[i] = sum >= double{params.top_p} ? 0 : value;
    sum += value;
  }
  Normalize(p);
  if (params.typical_p < 1) {
    double entropy = 0;
    for (double value : p) {
      entropy -= value > 0 ? value * std::log(value) : 0;
    }
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (p[i] > 0) {
        order.push_back(i);
      }
    }
    std::ranges::sort(order, {}, [&](std::size_t i) {
      return std::pair(std::abs(-std::log(p[i]) - entropy), i);
    });
    double kept = 0;
    for (std::size_t i : order) {
      double value = p[i];
      p[i] = kept >= double{params.typical_p} ? 0 : value;
      kept += value;
    }
    Normalize(p);
  }
  double coin = UniformDraw(params.seed, c.choice, c.position, DrawPurpose::kXtc);
  if (coin < double{params.xtc.probability}) {
    std::vector<std::size_t> likely;
    for (std::size_t i : BestFirst(p)) {
      if (p[i] >= double{params.xtc.threshold}) {
        likely.push_back(i);
      }
    }
    for (std::size_t i = 0; i + 1 < likely.size(); ++i) {
      p[likely[i]] = 0;
    }
    Normalize(p);
  }
  return p;
}

Case RandomCase(std::mt19937_64& random) {
  Case c;
  std::normal_distribution<float> normal(0, 2);
  for (std::uint64_t i = 5 + random() % 200; i > 0; --i) {
    c.logits.push_back(normal(random));
  }
  auto maybe = [&](float off, float step, std::uint64_t steps) {
    return random() % 2 == 0 ? off : step * static_cast<float>(1 + random() % steps);
  };
  c.params.seed = random();
  c.position = static_cast<std::uint32_t>(random() % 20);
  c.choice = static_cast<std::uint32_t>(random() % 4);
  c.params.temperature = 0.3F + 0.1F * static_cast<float>(random() % 15);
  c.params.top_k = random() % 3 == 0 ? static_cast<std::int32_t>(2 + random() % 30) : 0;
  c.params.top_p = maybe(1.0F, 0.07F, 13);
  c.params.min_p = maybe(0.0F, 0.01F, 20);
  c.params.top_a = maybe(0.0F, 0.05F, 18);
  c.params.typical_p = maybe(1.0F, 0.07F, 13);
  c.params.xtc = {.probability = maybe(0.0F, 0.25F, 4), .threshold = maybe(0.1F, 0.03F, 8)};
  return c;
}

TEST(Candidates, FiltersAgreeWithTheirDefinitionsInDoublePrecision) {
  std::mt19937_64 random(21);
  int at_an_edge = 0;
  for (int i = 0; i < 20'000; ++i) {
    Case c = RandomCase(random);
    Probabilities p = NaiveFiltered(c);
    double uniform = UniformDraw(c.params.seed, c.choice, c.position);
    TokenId token = SampleOf(c, nullptr);
    double below = std::accumulate(p.begin(), p.begin() + token, 0.0);
    double here = p[static_cast<std::size_t>(token)];
    bool agrees = below <= uniform + 5e-6 && below + here >= uniform - 5e-6 && here > 0;
    at_an_edge += agrees ? 0 : 1;  // rounding moved a filter's edge over a token
  }
  EXPECT_LE(at_an_edge, 10);
}

TEST(Candidates, EachNewFilterChangesWhatIsDrawn) {
  Case base;
  base.logits = {std::log(0.5F), std::log(0.25F), std::log(0.15F), std::log(0.1F)};
  auto drawn = [&](auto set) {
    std::set<TokenId> out;
    for (std::uint64_t seed = 0; seed < 2000; ++seed) {
      Case c = base;
      c.params.seed = seed;
      set(c.params);
      out.insert(SampleOf(c, nullptr));
    }
    return out;
  };
  using Ids = std::set<TokenId>;
  EXPECT_EQ(drawn([](auto&) {}), (Ids{0, 1, 2, 3}));
  // 0.5^2 = 0.25: with 0.5 at least 0.125, with 0.9 at least 0.225.
  EXPECT_EQ(drawn([](auto& p) { p.top_a = 0.5F; }), (Ids{0, 1, 2}));
  EXPECT_EQ(drawn([](auto& p) { p.top_a = 0.9F; }), (Ids{0, 1}));
  // Entropy 1.21 nats; surprises 0.69, 1.39, 1.90, 2.30: the second is the most typical.
  EXPECT_EQ(drawn([](auto& p) { p.typical_p = 0.2F; }), (Ids{1}));
  EXPECT_EQ(drawn([](auto& p) { p.typical_p = 0.3F; }), (Ids{0, 1}));
  EXPECT_EQ(drawn([](auto& p) { p.xtc = {.probability = 1, .threshold = 0.2F}; }), (Ids{1, 2, 3}));
  EXPECT_EQ(drawn([](auto& p) { p.xtc = {.probability = 1, .threshold = 0.6F}; }),
            (Ids{0, 1, 2, 3}));
}

TEST(Candidates, XtcActsAsOftenAsItsProbabilitySays) {
  Case c;
  c.logits = {std::log(0.6F), std::log(0.4F)};
  c.params.xtc = {.probability = 0.3F, .threshold = 0.1F};
  int first = 0;
  constexpr int kDraws = 20'000;
  for (int i = 0; i < kDraws; ++i) {
    c.params.seed = static_cast<std::uint64_t>(i);
    first += SampleOf(c, nullptr) == 0 ? 1 : 0;
  }
  EXPECT_NEAR(first / double{kDraws}, 0.7 * 0.6, 0.012);
}

// Mirostat 2 as its paper's algorithm 2 says it, in double.
TEST(Candidates, MirostatFollowsItsAlgorithm) {
  std::mt19937_64 random(22);
  int apart = 0;
  for (int round = 0; round < 300; ++round) {
    Case c;
    c.params.mirostat = {.on = true,
                         .tau = 0.5F + 0.5F * static_cast<float>(random() % 8),
                         .eta = 0.05F * static_cast<float>(1 + random() % 10)};
    c.params.seed = random();
    double expected_mean = 2 * double{c.params.mirostat.tau};
    auto mean = static_cast<float>(expected_mean);
    for (std::uint32_t step = 0; step < 20; ++step) {
      std::normal_distribution<float> normal(0, 2.5F);
      c.logits.clear();
      for (int i = 0; i < 60; ++i) {
        c.logits.push_back(normal(random));
      }
      c.position = step;
      Probabilities p = Softmax(c);
      std::size_t best = BestFirst(p)[0];
      for (std::size_t i = 0; i < p.size(); ++i) {
        if (i != best && -std::log2(p[i]) > expected_mean) {
          p[i] = 0;
        }
      }
      Normalize(p);
      TokenId token = SampleOf(c, &mean);
      double below = std::accumulate(p.begin(), p.begin() + token, 0.0);
      double uniform = UniformDraw(c.params.seed, 0, step);
      double here = p[static_cast<std::size_t>(token)];
      if (!(here > 0 && below <= uniform + 5e-6 && below + here >= uniform - 5e-6)) {
        ++apart;  // rounding at the edge: the two go different ways from here
        break;
      }
      expected_mean -=
          double{c.params.mirostat.eta} * (-std::log2(here) - double{c.params.mirostat.tau});
      ASSERT_NEAR(mean, expected_mean, 1e-4) << round << " step " << step;
    }
  }
  EXPECT_LE(apart, 3);
}

TEST(Candidates, ARowWithoutAnAllowedTokenSaysSo) {
  Case c;
  c.logits.assign(10, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(SampleOf(c, nullptr), kNoToken);
  c.params.temperature = 0;
  EXPECT_EQ(SampleOf(c, nullptr), kNoToken);
  c.logits[4] = -3.0F;
  EXPECT_EQ(SampleOf(c, nullptr), 4);
}

}  // namespace
}  // namespace pixii::engine
