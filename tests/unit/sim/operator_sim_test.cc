#include "sim/operator_sim.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace pixii::sim {
namespace {

constexpr std::uint64_t kSeeds = 12;

std::string SaidOf(const OperatorSimResult& result) {
  std::string out = "seed " + std::to_string(result.seed);
  for (const std::string& violation : result.violations) {
    out += "\n  " + violation;
  }
  return out;
}

/// Whether one of so many rolling runs finds something wrong with these rules.
bool IsFoundWith(const control::GraphRuleOptions& rules, std::uint64_t runs) {
  for (std::uint64_t seed = 2; seed <= 2 * runs; seed += 2) {
    if (!RunOperatorSim(seed, {.rules = rules, .on_story = {}}).violations.empty()) {
      return true;
    }
  }
  return false;
}

TEST(OperatorSimTest, GraphsConvergeAndNoRequestNotices) {
  std::map<std::string, std::uint64_t> faults;
  std::uint64_t requests = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const OperatorSimResult result = RunOperatorSim(seed);
    EXPECT_TRUE(result.violations.empty()) << SaidOf(result);
    EXPECT_TRUE(!result.rolling || result.failed == 0) << SaidOf(result);
    requests += result.requests;
    for (const auto& [fault, count] : result.faults) {
      faults[fault] += count;
    }
  }
  EXPECT_GT(requests, 1000U);
  EXPECT_GT(faults.size(), 8U);
}

TEST(OperatorSimTest, ASeedGivesTheSameEventsAgain) {
  const OperatorSimResult one = RunOperatorSim(3);
  const OperatorSimResult two = RunOperatorSim(3);
  EXPECT_EQ(one.state_hash, two.state_hash);
  EXPECT_EQ(one.requests, two.requests);
}

TEST(OperatorSimTest, PodsThatEndWithoutAPauseLoseRequests) {
  control::GraphRuleOptions rules;
  rules.objects.pre_stop_seconds = 0;
  EXPECT_TRUE(IsFoundWith(rules, 6));
}

TEST(OperatorSimTest, AGracePeriodShorterThanTheRequestsLosesThem) {
  control::GraphRuleOptions rules;
  rules.objects.stop_grace_seconds = 6;
  EXPECT_TRUE(IsFoundWith(rules, 6));
}

TEST(OperatorSimTest, AnUpdateThatMayHaveFewerPodsLosesCapacity) {
  control::GraphRuleOptions rules;
  rules.keeps_capacity = false;
  EXPECT_TRUE(IsFoundWith(rules, 6));
}

TEST(OperatorSimTest, AComponentThatEndsBeforeItsSuccessorServesLosesRequests) {
  control::GraphRuleOptions rules;
  rules.old_waits_for_new = false;
  EXPECT_TRUE(IsFoundWith(rules, 20));
}

}  // namespace
}  // namespace pixii::sim
