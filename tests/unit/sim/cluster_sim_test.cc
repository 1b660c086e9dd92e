#include "sim/cluster_sim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace pixii::sim {
namespace {

TEST(ClusterSim, ASeedRepeatsExactlyAndSeedsDiffer) {
  const SimResult first = RunClusterSim(7);
  const SimResult again = RunClusterSim(7);
  EXPECT_EQ(first.state_hash, again.state_hash);
  EXPECT_EQ(first.events, again.events);
  EXPECT_EQ(first.tokens, again.tokens);
  EXPECT_EQ(first.faults, again.faults);
  EXPECT_NE(first.state_hash, RunClusterSim(8).state_hash);
}

TEST(ClusterSim, AHundredSeedsPassAndExerciseWhatTheyShould) {
  SimResult sum;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const SimResult result = RunClusterSim(seed);
    EXPECT_TRUE(result.violations.empty()) << "seed " << seed << ": " << result.violations.front();
    sum.finished += result.finished;
    sum.cancelled += result.cancelled;
    sum.moves += result.moves;
    sum.preemptions += result.preemptions;
    for (const auto& [fault, count] : result.faults) {
      sum.faults[fault] += count;
    }
    sum.requests += result.requests;
    for (const auto& [error, count] : result.errors) {
      sum.failed += count;
    }
    EXPECT_GE(static_cast<double>(result.requests), 50 * result.load_seconds) << "seed " << seed;
  }
  EXPECT_LT(sum.failed, sum.requests / 4) << "most requests must live through what happens";
  EXPECT_GT(sum.finished, 500U);
  EXPECT_GT(sum.cancelled, 100U);
  EXPECT_GT(sum.moves, 50U);
  EXPECT_GT(sum.preemptions, 10U);
  for (const char* fault :
       {"clear_cache",     "clock_drift",     "corrupt",       "delay",     "drain",
        "freeze",          "frontend_freeze", "frontend_kill", "half_open", "kill",
        "listener_freeze", "partition",       "poison",        "refuse",    "reset",
        "restart",         "rolling_update",  "sleep",         "slow_line", "stall",
        "store_freeze",    "store_set_back",  "store_wipe",    "vanish"}) {
    EXPECT_GT(sum.faults[fault], 3U) << fault;
  }
}

TEST(ClusterSim, FortySeedsWithPrefillWorkersPassAndHandOver) {
  SimResult sum;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const SimResult result = RunClusterSim(seed, {.disaggregated = true});
    EXPECT_TRUE(result.violations.empty()) << "seed " << seed << ": " << result.violations.front();
    sum.finished += result.finished;
    for (const auto& [end, count] : result.handovers) {
      sum.handovers[end] += count;
    }
  }
  EXPECT_GT(sum.finished, 200U);
  EXPECT_GT(sum.handovers["loads done"], 100U);
  EXPECT_GT(sum.handovers["early offers"], 10U);
  EXPECT_GT(sum.handovers["early blocks"], 5U);
  for (const char* end : {"offers done", "offers cancelled", "offers expired", "loads cancelled"}) {
    EXPECT_GT(sum.handovers[end], 0U) << end;
  }
  EXPECT_EQ(RunClusterSim(7, {.disaggregated = true}).state_hash,
            RunClusterSim(7, {.disaggregated = true}).state_hash);
}

TEST(ClusterSim, ALongRunOfALargerClusterEndsWithNothingLeft) {
  std::uint64_t told = 0;
  const SimResult result = RunClusterSim(1, {.disaggregated = true,
                                             .long_run = LongRun{.workers = 16,
                                                                 .time = std::chrono::minutes(8),
                                                                 .requests_per_s = 5,
                                                                 .faults_per_hour = 200},
                                             .on_hour = [&](int, std::uint64_t) { ++told; }});
  EXPECT_TRUE(result.violations.empty()) << result.violations.front();
  EXPECT_EQ(result.requests, 8U * 60 * 5);
  EXPECT_EQ(told, 0U) << "no hour of it is over";
  EXPECT_EQ(result.finished + result.cancelled + result.refused + result.failed, result.requests);
  EXPECT_GT(result.faults.size(), 5U);
  EXPECT_GT(result.handovers.at("loads done"), 500U);
  for (const char* name : {"pinned blocks", "leases", "loads", "credits", "staging bytes"}) {
    ASSERT_TRUE(result.left.contains(name)) << name;
  }
  for (const auto& [name, count] : result.left) {
    EXPECT_EQ(count, 0U) << name;
  }
}

TEST(ClusterSim, WhoeverWantsToKnowIsToldWhatHappens) {
  std::vector<std::string> story;
  const SimResult told =
      RunClusterSim(7, {.on_story = [&](const std::string& line) { story.push_back(line); }});
  EXPECT_EQ(told.state_hash, RunClusterSim(7).state_hash) << "telling changes nothing";
  const auto tells = [&](std::string_view word) {
    return std::ranges::any_of(
        story, [&](const std::string& line) { return line.find(word) != std::string::npos; });
  };
  for (const auto& [fault, count] : told.faults) {
    EXPECT_TRUE(fault == "clock_drift" || fault == "restart" || tells(fault)) << fault;
  }
  EXPECT_TRUE(tells("begins")) << "of a worker";
}

// The oracles must be able to fail: here the expectation is of another token.
TEST(ClusterSim, AWrongTokenIsAViolation) {
  const auto wrong = [](const Expectation& truth) -> Expectation {
    return [truth](const wire::GenerateRequest& request, std::uint32_t choice) {
      Expected expected = truth(request, choice);
      if (!expected.tokens.empty()) {
        expected.tokens.back() ^= 1;
      }
      return expected;
    };
  };
  EXPECT_FALSE(RunClusterSim(3, {.expect = wrong}).violations.empty());
}

}  // namespace
}  // namespace pixii::sim
