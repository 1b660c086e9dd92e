#include "engine/row_rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace pixii::engine {
namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();

struct Case {
  std::vector<float> logits;
  wire::SamplingParams params;
  wire::StopConditions stop;
  std::vector<TokenId> prompt;
  std::vector<TokenId> generated;
};

std::vector<float> Applied(const Case& c) {
  RowRules rules;
  std::vector<float> row = c.logits;
  rules.Apply({.params = &c.params, .stop = &c.stop, .prompt = c.prompt, .generated = c.generated},
              row);
  return row;
}

// DRY by its words: for each earlier place, count back while the tokens agree and none is a
// breaker.
std::map<TokenId, double> NaiveDry(const Case& c) {
  std::vector<TokenId> text = c.prompt;
  text.insert(text.end(), c.generated.begin(), c.generated.end());
  const wire::DryParams& dry = c.params.dry;
  if (dry.range > 0 && text.size() > dry.range) {
    text.erase(text.begin(), text.end() - dry.range);
  }
  std::set<TokenId> breakers(dry.breakers.begin(), dry.breakers.end());
  std::map<TokenId, std::uint32_t> longest;
  auto size = static_cast<int>(text.size());
  for (int end = 0; end + 1 < size; ++end) {  // the earlier place ends at `end`
    std::uint32_t length = 0;
    for (int back = 0; back <= end; ++back) {
      TokenId here = text[static_cast<std::size_t>(end - back)];
      if (here != text[static_cast<std::size_t>(size - 1 - back)] || breakers.contains(here)) {
        break;
      }
      ++length;
    }
    TokenId next = text[static_cast<std::size_t>(end + 1)];
    if (!breakers.contains(next)) {
      longest[next] = std::max(longest[next], length);
    }
  }
  std::map<TokenId, double> penalties;
  for (auto [id, length] : longest) {
    if (length >= dry.allowed_length) {
      penalties[id] =
          double{dry.multiplier} * std::pow(double{dry.base}, length - dry.allowed_length);
    }
  }
  return penalties;
}

TEST(RowRules, DryAgreesWithCountingBackFromEveryPlace) {
  std::mt19937_64 random(11);
  int penalized = 0;
  for (int round = 0; round < 3000; ++round) {
    Case c;
    c.logits.assign(12, 0.0F);
    auto token = [&] { return static_cast<TokenId>(random() % 4); };
    for (std::uint64_t i = random() % 30; i > 0; --i) {
      c.prompt.push_back(token());
    }
    for (std::uint64_t i = 1 + random() % 40; i > 0; --i) {
      c.generated.push_back(token());
    }
    c.params.dry = {.multiplier = 0.8F,
                    .base = 1.0F + 0.25F * static_cast<float>(random() % 5),
                    .allowed_length = static_cast<std::uint32_t>(1 + random() % 4),
                    .range = static_cast<std::uint32_t>(random() % 3 == 0 ? random() % 25 : 0),
                    .breakers = {}};
    if (random() % 2 == 0) {
      c.params.dry.breakers = {3};
    }
    std::map<TokenId, double> expected = NaiveDry(c);
    std::vector<float> row = Applied(c);
    for (std::size_t id = 0; id < row.size(); ++id) {
      auto found = expected.find(static_cast<TokenId>(id));
      double penalty = found == expected.end() ? 0 : found->second;
      ASSERT_NEAR(row[id], -penalty, 1e-5 * (1 + penalty)) << "round " << round << " id " << id;
    }
    penalized += static_cast<int>(expected.size());
  }
  EXPECT_GT(penalized, 1500);
}

TEST(RowRules, ADryPenaltyStaysFiniteHoweverLongTheRepetition) {
  Case c;
  c.logits.assign(4, 1.0F);
  c.prompt.assign(5000, 2);
  c.params.dry = {.multiplier = 5, .base = 10, .allowed_length = 1, .range = 0, .breakers = {}};
  std::vector<float> row = Applied(c);
  EXPECT_TRUE(std::isfinite(row[2]));
  EXPECT_LT(row[2], -1e29F);
  EXPECT_EQ(row[1], 1.0F);
}

TEST(RowRules, OnlyAllowedTokensKeepTheirLogits) {
  Case c;
  c.logits = {1, 2, 3, 4, 5};
  c.params.allowed_token_ids = {3, 1, 3};
  c.params.logit_bias = {{1, 10.0F}, {4, 10.0F}};
  EXPECT_EQ(Applied(c), (std::vector<float>{kExcluded, 12, kExcluded, 4, kExcluded}));
}

TEST(RowRules, ABadWordLosesItsLastTokenBehindItsBeginning) {
  Case c;
  c.logits = {1, 2, 3, 4, 5};
  c.params.bad_words = {{4}, {1, 2}, {1, 1, 3}};
  c.prompt = {1};  // not generated, so it begins no bad word
  EXPECT_EQ(Applied(c), (std::vector<float>{1, 2, 3, 4, kExcluded}));
  c.generated = {1};
  EXPECT_EQ(Applied(c), (std::vector<float>{1, 2, kExcluded, 4, kExcluded}));
  c.generated = {0, 1, 1};
  EXPECT_EQ(Applied(c), (std::vector<float>{1, 2, kExcluded, kExcluded, kExcluded}));
}

}  // namespace
}  // namespace pixii::engine
