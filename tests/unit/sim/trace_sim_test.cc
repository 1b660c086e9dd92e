// Replay against times and hits worked out by hand.
#include "sim/trace_sim.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/mock_timing.h"

namespace pixii::sim {
namespace {

using router::RouterMode;

constexpr std::uint32_t kBlock = 16;
constexpr std::uint32_t kBlockCount = 1000;

rt::Duration Ms(std::int64_t milliseconds) { return std::chrono::milliseconds(milliseconds); }

TraceSimOptions Options(std::uint32_t workers, RouterMode mode) {
  TraceSimOptions out;
  out.workers = workers;
  out.router.mode = mode;
  out.engine.queue_length_max = 1000;
  out.block_tokens = kBlock;
  out.block_count = kBlockCount;
  return out;
}

// Prompts in blocks of 16 tokens, as the engines have them.
Trace MakeTrace(std::vector<TraceRequest> requests) {
  return {.requests = std::move(requests), .block_tokens = kBlock};
}

TraceSimResult Replay(const Trace& trace, const TraceSimOptions& options) {
  Result<TraceSimResult> result = RunTraceSim(trace, options);
  EXPECT_TRUE(result) << result.error().ToString();
  return result ? *result : TraceSimResult{};
}

double DecodeMs(double context) {
  return engine::PolynomialDecodeMs(context / (kBlock * kBlockCount));
}

TEST(TraceSim, OneRequestTakesWhatTheModelOfTimeSays) {
  const TraceSimResult result =
      Replay(MakeTrace({{.at = {}, .input_tokens = 100, .output_tokens = 4, .hash_ids = {}}}),
             Options(1, RouterMode::kRoundRobin));
  const double first = engine::PolynomialPrefillMs(100);
  const double rest = DecodeMs(101) + DecodeMs(102) + DecodeMs(103);
  EXPECT_EQ(result.finished, 1U);
  EXPECT_EQ(result.output_tokens, 4U);
  EXPECT_NEAR(result.ttft_ms.mean, first, 1e-4);
  EXPECT_NEAR(result.e2e_ms.mean, first + rest, 1e-4);
  EXPECT_NEAR(result.itl_ms.mean, rest / 3, 1e-4);
  EXPECT_EQ(result.hit_rate, 0);
  EXPECT_EQ(result.oracle_hit_rate, 0);
  EXPECT_EQ(result.seen_rate, 0);
}

TEST(TraceSim, APrefillWorkersTokenComesFirstAndTheRestBehindTheTransfer) {
  TraceSimOptions options = Options(2, RouterMode::kRoundRobin);
  options.prefill_workers = 1;
  options.transfer = {.bytes_per_second = 1e6, .token_bytes = 1000, .latency = Ms(5)};
  options.ttft_goal_ms = 1;
  const TraceSimResult result = Replay(
      MakeTrace({{.at = {}, .input_tokens = 100, .output_tokens = 4, .hash_ids = {}}}), options);
  const double first = engine::PolynomialPrefillMs(100);
  // 96 tokens in whole blocks move at 1 ms each; the last four and the first answer are computed.
  const double move = 5 + 96;
  const double rest = engine::PolynomialPrefillMs(5) + DecodeMs(102) + DecodeMs(103);
  EXPECT_EQ(result.finished, 1U);
  EXPECT_EQ(result.output_tokens, 4U);
  EXPECT_NEAR(result.ttft_ms.mean, first, 1e-4);
  EXPECT_NEAR(result.e2e_ms.mean, first + move + rest, 1e-3);
  EXPECT_EQ(result.good_share, 0);
}

TEST(TraceSim, PromptsThatArePrefilledApartShareNoStepWithAnswers) {
  std::vector<TraceRequest> requests;
  for (int i = 0; i < 60; ++i) {
    requests.push_back(
        {.at = Ms(150 * i), .input_tokens = 4000, .output_tokens = 50, .hash_ids = {}});
  }
  TraceSimOptions together = Options(2, RouterMode::kLeastLoaded);
  together.block_count = 10'000;
  TraceSimOptions apart = together;
  apart.prefill_workers = 1;
  const TraceSimResult both = Replay(MakeTrace(requests), together);
  const TraceSimResult split = Replay(MakeTrace(requests), apart);
  EXPECT_EQ(split.finished, 60U);
  EXPECT_EQ(split.output_tokens, both.output_tokens);
  EXPECT_NEAR(split.ttft_ms.max, engine::PolynomialPrefillMs(4000), 1e-4);
  EXPECT_GT(both.ttft_ms.max, split.ttft_ms.max);
}

TEST(TraceSim, APrefixThatIsCachedIsNotComputedAgain) {
  // Three blocks and a part of a fourth; the second shares two of them.
  const Trace trace = MakeTrace(
      {{.at = {}, .input_tokens = 52, .output_tokens = 1, .hash_ids = {1, 2, 3, 4}},
       {.at = Ms(1000), .input_tokens = 52, .output_tokens = 1, .hash_ids = {1, 2, 8, 9}}});
  const TraceSimResult result = Replay(trace, Options(1, RouterMode::kKv));
  EXPECT_NEAR(result.ttft_ms.mean,
              (engine::PolynomialPrefillMs(52) + engine::PolynomialPrefillMs(20)) / 2, 1e-4);
  for (const double rate :
       {result.hit_rate, result.oracle_hit_rate, result.chosen_hit_rate, result.seen_rate}) {
    EXPECT_DOUBLE_EQ(rate, 32.0 / 104);
  }
}

TEST(TraceSim, TheLastTokenOfAPromptIsAlwaysComputed) {
  const TraceRequest one{.at = {}, .input_tokens = 32, .output_tokens = 1, .hash_ids = {1, 2}};
  TraceRequest again = one;
  again.at = Ms(1000);
  const TraceSimResult result = Replay(MakeTrace({one, again}), Options(1, RouterMode::kKv));
  EXPECT_DOUBLE_EQ(result.hit_rate, 16.0 / 64);
  EXPECT_DOUBLE_EQ(result.oracle_hit_rate, 16.0 / 64);
  EXPECT_DOUBLE_EQ(result.seen_rate, 16.0 / 64);
}

TEST(TraceSim, TheOracleKnowsTheOtherWorkersCache) {
  const TraceRequest one{.at = {}, .input_tokens = 40, .output_tokens = 1, .hash_ids = {1, 2, 3}};
  TraceRequest again = one;
  again.at = Ms(1000);
  const Trace trace = MakeTrace({one, again});
  const TraceSimResult round_robin = Replay(trace, Options(2, RouterMode::kRoundRobin));
  EXPECT_EQ(round_robin.hit_rate, 0);
  EXPECT_EQ(round_robin.chosen_hit_rate, 0);
  EXPECT_DOUBLE_EQ(round_robin.oracle_hit_rate, 32.0 / 80);
  EXPECT_DOUBLE_EQ(Replay(trace, Options(2, RouterMode::kKv)).hit_rate, 32.0 / 80);
}

TEST(TraceSim, WhatIsBeingComputedIsNoHitForTheOracleButWaitedForByTheEngine) {
  const TraceRequest one{.at = {}, .input_tokens = 40, .output_tokens = 1, .hash_ids = {1, 2, 3}};
  TraceRequest again = one;
  again.at = Ms(1);  // the first takes 17 ms
  const TraceSimResult result = Replay(MakeTrace({one, again}), Options(1, RouterMode::kKv));
  EXPECT_EQ(result.oracle_hit_rate, 0);
  EXPECT_DOUBLE_EQ(result.hit_rate, 32.0 / 80);
  EXPECT_DOUBLE_EQ(result.seen_rate, 32.0 / 80);
}

TEST(TraceSim, ARouterThatHearsLateSendsElsewhere) {
  std::vector<TraceRequest> requests;
  for (std::int64_t i = 0; i < 40; ++i) {
    requests.push_back(
        {.at = Ms(500 * i), .input_tokens = 200, .output_tokens = 1, .hash_ids = {1, 2, 3}});
  }
  TraceSimOptions options = Options(8, RouterMode::kKv);
  const double prompt = Replay(MakeTrace(requests), options).hit_rate;
  options.event_delay = std::chrono::hours(1);
  const TraceSimResult late = Replay(MakeTrace(requests), options);
  EXPECT_DOUBLE_EQ(prompt, 39 * 48.0 / (40 * 200));
  EXPECT_LT(late.chosen_hit_rate, prompt);
  EXPECT_DOUBLE_EQ(late.oracle_hit_rate, prompt);
}

// Twelve conversations of five turns, each turn's prompt the last one's and two blocks more.
Trace Conversations() {
  std::vector<TraceRequest> requests;
  for (std::uint64_t turn = 0; turn < 5; ++turn) {
    for (std::uint64_t talk = 0; talk < 12; ++talk) {
      TraceRequest& request = requests.emplace_back();
      request.at = Ms(static_cast<std::int64_t>(turn * 10'000 + talk * 300));
      request.output_tokens = 5;
      for (std::uint64_t block = 0; block < 10 + 2 * turn; ++block) {
        request.hash_ids.push_back(talk * 100 + block);
      }
      request.input_tokens = static_cast<std::uint32_t>(request.hash_ids.size()) * kBlock - 3;
    }
  }
  return MakeTrace(std::move(requests));
}

TEST(TraceSim, RoutingByCacheFindsWhatTheOracleFindsAndRoundRobinDoesNot) {
  const TraceSimResult kv = Replay(Conversations(), Options(5, RouterMode::kKv));
  const TraceSimResult round_robin = Replay(Conversations(), Options(5, RouterMode::kRoundRobin));
  EXPECT_EQ(kv.finished, 60U);
  EXPECT_GT(kv.oracle_hit_rate, 0.5);
  EXPECT_DOUBLE_EQ(kv.hit_rate, kv.oracle_hit_rate);
  EXPECT_DOUBLE_EQ(kv.hit_rate, kv.seen_rate);
  EXPECT_LT(round_robin.hit_rate, kv.hit_rate);
  EXPECT_LT(kv.ttft_ms.mean, round_robin.ttft_ms.mean);
  EXPECT_DOUBLE_EQ(round_robin.requests_max_of_mean, 1);
}

TEST(TraceSim, EqualOptionsGiveEqualResults) {
  TraceSimOptions options = Options(3, RouterMode::kPowerOfTwo);
  options.copies = 2;
  const TraceSimResult first = Replay(Conversations(), options);
  const TraceSimResult again = Replay(Conversations(), options);
  EXPECT_EQ(first.ttft_ms.mean, again.ttft_ms.mean);
  EXPECT_EQ(first.virtual_seconds, again.virtual_seconds);
  EXPECT_EQ(first.hit_rate, again.hit_rate);
  options.seed = 2;
  EXPECT_NE(first.virtual_seconds, Replay(Conversations(), options).virtual_seconds);
}

TEST(TraceSim, CopiesAreOthersPrompts) {
  TraceSimOptions options = Options(1, RouterMode::kKv);
  const TraceRequest one{
      .at = {}, .input_tokens = 100, .output_tokens = 1, .hash_ids = {1, 2, 3, 4, 5, 6, 7}};
  TraceRequest again = one;
  again.at = Ms(100'000);
  options.copies = 3;
  const TraceSimResult result = Replay(MakeTrace({one, again}), options);
  EXPECT_EQ(result.requests, 6U);
  EXPECT_DOUBLE_EQ(result.seen_rate, 3 * 96.0 / 600);
}

TEST(TraceSim, WaitingRequestsAreSeenToGrowPastSaturation) {
  std::vector<TraceRequest> requests;
  for (std::int64_t i = 0; i < 200; ++i) {
    requests.push_back(
        {.at = Ms(100 * i), .input_tokens = 800, .output_tokens = 2, .hash_ids = {}});
  }
  const Trace trace = MakeTrace(std::move(requests));
  TraceSimOptions options = Options(1, RouterMode::kRoundRobin);
  const TraceSimResult calm = Replay(trace, options);
  options.speed = 10;
  const TraceSimResult flooded = Replay(trace, options);
  ASSERT_EQ(calm.waiting_by_slice.size(), kTraceSlices);
  // One waits for 29 ms of each 100, longer when the other's last token is computed with it.
  EXPECT_NEAR(calm.waiting_by_slice[7], engine::PolynomialPrefillMs(800) / 100, 0.01);
  EXPECT_GT(flooded.waiting_by_slice[9], 3 * flooded.waiting_by_slice[1]);
  EXPECT_GT(flooded.busy_max, 0.95);
  EXPECT_LT(calm.busy_max, 0.5);
  EXPECT_EQ(flooded.finished, 200U);
}

TEST(TraceSim, WhatNoWorkerCanHoldIsRefused) {
  TraceSimOptions options = Options(2, RouterMode::kRoundRobin);
  options.block_count = 16;
  const TraceSimResult result =
      Replay(MakeTrace({{.at = {}, .input_tokens = 1000, .output_tokens = 4, .hash_ids = {}},
                        {.at = Ms(1), .input_tokens = 100, .output_tokens = 4, .hash_ids = {}}}),
             options);
  EXPECT_EQ(result.refused, 1U);
  EXPECT_EQ(result.finished, 1U);
}

TEST(TraceSim, OptionsOutOfRangeAreRefusedByName) {
  const Trace trace = MakeTrace({{}});
  const auto refused = [&](const TraceSimOptions& options) {
    const Result<TraceSimResult> result = RunTraceSim(trace, options);
    return result ? std::string() : result.error().param();
  };
  EXPECT_EQ(refused(Options(0, RouterMode::kKv)), "workers");
  EXPECT_EQ(refused(Options(1, RouterMode::kDirect)), "router-mode");
  TraceSimOptions still = Options(1, RouterMode::kKv);
  still.speed = 0;
  EXPECT_EQ(refused(still), "speed");
  EXPECT_FALSE(RunTraceSim({}, Options(1, RouterMode::kKv)));
}

}  // namespace
}  // namespace pixii::sim
