#include "sim/server_sim.h"

#include <gtest/gtest.h>

namespace pixii::sim {
namespace {

SimResult Simulate(std::uint64_t seed, SimEngine engine) {
  return RunServerSim(seed, std::move(engine));
}

SimEngine Mock(std::uint64_t seed) {
  auto engine = MakeMockEngine(seed);
  EXPECT_TRUE(engine) << engine.error().ToString();
  return std::move(*engine);
}

TEST(ServerSim, ASeedRepeatsExactlyAndSeedsDiffer) {
  SimResult first = Simulate(7, Mock(7));
  SimResult again = Simulate(7, Mock(7));
  EXPECT_EQ(first.state_hash, again.state_hash);
  EXPECT_EQ(first.events, again.events);
  EXPECT_EQ(first.tokens, again.tokens);
  EXPECT_NE(first.state_hash, Simulate(8, Mock(8)).state_hash);
}

TEST(ServerSim, AHundredSeedsPassAndExerciseWhatTheyShould) {
  SimResult sum;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    SimResult result = Simulate(seed, Mock(seed));
    EXPECT_TRUE(result.violations.empty()) << "seed " << seed << ": " << result.violations.front();
    sum.finished += result.finished;
    sum.cancelled += result.cancelled;
    sum.refused += result.refused;
    sum.preemptions += result.preemptions;
    sum.prefix_hit_tokens += result.prefix_hit_tokens;
  }
  EXPECT_GT(sum.finished, 500U);
  EXPECT_GT(sum.cancelled, 200U);
  EXPECT_GT(sum.refused, 50U);
  EXPECT_GT(sum.preemptions, 10U);
  EXPECT_GT(sum.prefix_hit_tokens, 1000U);
}

// The oracles must be able to fail: here the expectation is of another token.
TEST(ServerSim, AWrongTokenIsAViolation) {
  SimEngine engine = Mock(26);
  auto truth = engine.expect;
  engine.expect = [truth](const wire::GenerateRequest& request, std::uint32_t choice) {
    Expected expected = truth(request, choice);
    if (!expected.tokens.empty()) {
      expected.tokens.back() ^= 1;
    }
    return expected;
  };
  EXPECT_FALSE(Simulate(26, std::move(engine)).violations.empty());
}

}  // namespace
}  // namespace pixii::sim
