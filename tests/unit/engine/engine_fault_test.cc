// A request that fails in the model fails alone, typed, and leaves nothing behind that others could
// believe.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "engine_harness.h"

namespace pixii::engine::testing {
namespace {

constexpr TokenId kPoison = 63;

wire::GenerateRequest Poisoned(std::uint64_t id, std::uint32_t prompt_size,
                               std::uint32_t max_tokens) {
  wire::GenerateRequest request = MakeRequest(id, prompt_size, max_tokens);
  request.prompt.back() = kPoison;
  return request;
}

// Keeps the poison out of what others generate.
wire::GenerateRequest Healthy(std::uint64_t id, std::uint32_t prompt_size,
                              std::uint32_t max_tokens) {
  wire::GenerateRequest request =
      MakeRequest(id, prompt_size, max_tokens, static_cast<TokenId>(id));
  request.sampling.logit_bias = {{kPoison, -100.0F}};
  return request;
}

TEST(EngineFault, TheGuiltyRequestFailsAloneAndTyped) {
  HarnessOptions options;
  options.faults.poison_token = kPoison;
  Harness harness(options);
  std::vector<wire::GenerateRequest> others;
  for (std::uint64_t id = 1; id <= 6; ++id) {
    others.push_back(Healthy(id, 5, 20));
    ASSERT_TRUE(harness.Submit(others.back()));
  }
  ASSERT_TRUE(harness.Submit(Poisoned(7, 9, 20)));
  harness.RunDry();
  const Stream& failed = harness.streams().at(7);
  ASSERT_TRUE(failed.error);
  EXPECT_EQ(failed.error->code(), Code::kModelFault);
  EXPECT_EQ(failed.finish, wire::FinishReason::kError);
  EXPECT_TRUE(failed.tokens.empty());
  for (const wire::GenerateRequest& request : others) {
    harness.ExpectOracle(request);
  }
  EXPECT_EQ(harness.engine().counters().failed_requests, 1U);
}

TEST(EngineFault, WhereTheExecutorNamesTheRowsTheOthersGoOnWithoutBeingRunAgain) {
  for (bool overlaps : {false, true}) {
    HarnessOptions options;
    options.faults.poison_token = kPoison;
    options.faults.name_rows = true;
    options.overlaps = overlaps;
    Harness harness(options);
    std::vector<wire::GenerateRequest> others;
    for (std::uint64_t id = 1; id <= 6; ++id) {
      others.push_back(Healthy(id, 5, 20));
      ASSERT_TRUE(harness.Submit(others.back()));
    }
    ASSERT_TRUE(harness.Submit(Poisoned(7, 9, 20)));
    harness.RunDry();
    EXPECT_EQ(harness.streams().at(7).error->code(), Code::kModelFault);
    for (const wire::GenerateRequest& request : others) {
      harness.ExpectOracle(request);
    }
    // The guilty one alone was run again, twice.
    EXPECT_EQ(harness.engine().counters().retried_chunks, 2U);
  }
}

TEST(EngineFault, ALoneSequenceIsRunAgainOnceAndSurvivesAFaultThatPasses) {
  HarnessOptions options;
  options.faults.fail_call = 3;
  Harness harness(options);
  ASSERT_TRUE(harness.Submit(Healthy(1, 5, 20)));
  harness.RunDry();
  harness.ExpectOracle(Healthy(1, 5, 20));
  EXPECT_EQ(harness.engine().counters().retried_chunks, 1U);
}

TEST(EngineFault, EveryChoiceOfTheGuiltyRequestEndsOnce) {
  HarnessOptions options;
  options.faults.poison_token = kPoison;
  Harness harness(options);
  wire::GenerateRequest request = Poisoned(1, 9, 20);
  request.choice_count = 4;
  ASSERT_TRUE(harness.Submit(request));
  ASSERT_TRUE(harness.Submit(Healthy(2, 9, 20)));
  harness.RunDry();
  for (std::uint32_t choice = 0; choice < 4; ++choice) {
    EXPECT_TRUE(harness.streams().at(1, choice).error);
  }
  harness.ExpectOracle(Healthy(2, 9, 20));
}

TEST(EngineFault, APassingFaultOfABatchCostsNobodyAToken) {
  for (std::uint64_t call = 0; call < 10; ++call) {
    HarnessOptions options;
    options.faults.fail_call = call;
    Harness harness(options);
    for (std::uint64_t id = 1; id <= 5; ++id) {
      ASSERT_TRUE(harness.Submit(Healthy(id, 20, 10)));
    }
    harness.RunDry();
    for (std::uint64_t id = 1; id <= 5; ++id) {
      harness.ExpectOracle(Healthy(id, 20, 10));
    }
    EXPECT_EQ(harness.engine().counters().faults, 1U);
  }
}

TEST(EngineFault, BlocksOfAFailedStepAreNeverFound) {
  HarnessOptions options;
  options.faults.poison_token = kPoison;
  Harness harness(options);
  // The poison stands in the third block of one step: no block of that step may be believed.
  wire::GenerateRequest request = MakeRequest(1, 16, 5);
  request.prompt[10] = kPoison;
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  EXPECT_EQ(harness.engine().cache().pool().cached_count(), 0U);
  EXPECT_EQ(harness.engine().cache().counters().published, 0U);
}

TEST(EngineFault, WhatTheGuiltySequenceComputedEarlierIsDistrustedToo) {
  // A model sees a fault where logits are wanted, maybe chunks after the one that spoilt the cache.
  HarnessOptions options;
  options.engine.batch_tokens_max = 8;
  options.engine.batch_sequences_max = 4;
  options.faults.poison_token = kPoison;
  Harness harness(options);
  wire::GenerateRequest request = MakeRequest(1, 20, 5);
  request.prompt[18] = kPoison;
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  EXPECT_EQ(harness.engine().cache().counters().published, 4U);  // two chunks of 8 tokens succeeded
  EXPECT_EQ(harness.engine().cache().pool().cached_count(), 0U);
  wire::GenerateRequest healthy = MakeRequest(2, 18, 5);
  healthy.sampling.logit_bias = {{kPoison, -100.0F}};
  ASSERT_TRUE(harness.Submit(healthy));
  harness.RunDry();
  harness.ExpectOracle(healthy);
  EXPECT_EQ(harness.streams().at(2).cached_tokens, 0U);
}

TEST(EngineFault, WhoSharesThePrefixOfAGuiltySequenceGoesOn) {
  HarnessOptions options;
  options.engine.batch_tokens_max = 16;
  options.faults.poison_token = kPoison;
  Harness harness(options);
  wire::GenerateRequest healthy = MakeRequest(1, 16, 40);
  healthy.sampling.logit_bias = {{kPoison, -100.0F}};
  ASSERT_TRUE(harness.Submit(healthy));
  harness.Step();
  wire::GenerateRequest guilty = MakeRequest(2, 20, 5);
  guilty.prompt.back() = kPoison;
  ASSERT_TRUE(harness.Submit(guilty));
  harness.Step();
  EXPECT_EQ(harness.streams().at(2).error->code(), Code::kModelFault);
  harness.engine().CheckInvariants();
  wire::GenerateRequest later = healthy;
  later.id = RequestId{3};
  ASSERT_TRUE(harness.Submit(later));
  harness.RunDry();
  harness.ExpectOracle(healthy);
  harness.ExpectOracle(later);
}

// Answers that the device is gone, once there were `calls_left` good ones.
class DyingExecutor final : public StepExecutor {
 public:
  explicit DyingExecutor(const ExecutorLimits& limits, int calls_left)
      : mock_({.limits = limits, .timing = {}, .faults = {}}), calls_left_(calls_left) {}

  ExecutorLimits limits() const override { return mock_.limits(); }

  Result<void> Execute(const kernels::StepBatch& batch, std::span<float> logits) override {
    if (calls_left_-- <= 0) {
      return Fail(Code::kUnavailable, "the device is gone");
    }
    return mock_.Execute(batch, logits);
  }

 private:
  MockExecutor mock_;
  int calls_left_;
};

TEST(EngineFault, ADeadDeviceEndsWhatRunsWithItsOwnErrorSoThatItCanMoveOn) {
  HarnessOptions options;
  auto engine = *Engine::Create(options.engine, std::make_unique<DyingExecutor>(options.limits, 3));
  for (std::uint64_t id = 1; id <= 3; ++id) {
    ASSERT_TRUE(engine->Submit(MakeRequest(id, 5, 20, static_cast<TokenId>(id)), rt::Time{}));
  }
  Collector streams;
  std::vector<wire::TokenFrame> frames;
  while (engine->has_work()) {
    engine->Step(rt::Time{}, frames);
    streams.Take(frames);
  }
  for (std::uint64_t id = 1; id <= 3; ++id) {
    ASSERT_TRUE(streams.at(id).error);
    EXPECT_EQ(streams.at(id).error->code(), Code::kUnavailable);
    EXPECT_EQ(streams.at(id).tokens.size(), 3U);
  }
  EXPECT_EQ(engine->cache().pool().pinned_count(), 0U);
}

}  // namespace
}  // namespace pixii::engine::testing
