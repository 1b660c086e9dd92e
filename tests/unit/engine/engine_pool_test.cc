#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "unit/engine/engine_harness.h"

namespace pixii::engine {
namespace {

using testing::Harness;
using testing::HarnessOptions;
using testing::MakeRequest;

HarnessOptions Reading(PoolRows rows, bool whole_texts) {
  HarnessOptions options;
  options.limits.task = whole_texts ? wire::ModelTask::kClassify : wire::ModelTask::kEmbed;
  options.limits.row_size = 6;
  options.limits.step_logit_rows_max = 64;
  options.limits.token_type_count = whole_texts ? 3 : 0;
  options.limits.whole_texts = whole_texts;
  options.pool_rows = rows;
  return options;
}

wire::GenerateRequest Text(std::uint64_t id, std::uint32_t size, TokenId first = 1) {
  wire::GenerateRequest request = MakeRequest(id, size, 0, first);
  request.pool.emplace();
  return request;
}

std::string ParamOf(const Result<void>& result) {
  return result ? "" : std::string(result.error().param());
}

TEST(EnginePoolTest, RandomTextsGiveWhatTheOracleSaysInAnyCompany) {
  for (std::uint32_t seed = 0; seed < 120; ++seed) {
    std::mt19937 random(seed);
    auto rows = static_cast<PoolRows>(seed % 3);
    HarnessOptions options = Reading(rows, seed % 2 == 1);
    options.overlaps = seed % 4 >= 2;
    options.threaded = seed % 8 == 7;
    options.engine.batch_sequences_max = 1 + random() % 8;
    options.engine.batch_tokens_max = options.limits.whole_texts ? 40 : 5 + random() % 40;
    options.limits.block_count = 14 + random() % 40;  // some preempt nobody, some wait
    options.limits.step_tokens_max = 64;
    if (seed % 5 == 0) {
      options.limits.step_logit_rows_max = 12;  // fewer rows than tokens
      options.limits.step_logit_rows_max += options.engine.batch_sequences_max;
      options.engine.batch_tokens_max = std::max(options.engine.batch_tokens_max, 40U);
      options.limits.whole_texts = false;
      options.limits.token_type_count = 0;
    }
    Harness harness(options);
    std::vector<wire::GenerateRequest> sent;
    for (std::uint64_t id = 1; id <= 30; ++id) {
      wire::GenerateRequest request =
          Text(id, 1 + random() % 40, static_cast<TokenId>(random() % 3));
      if (options.limits.token_type_count > 0 && random() % 2 == 0) {
        for (std::size_t i = 0; i < request.prompt.size(); ++i) {
          request.pool->token_types.push_back(static_cast<std::int32_t>(random() % 3));
        }
      }
      request.pool->skip_tokens =
          rows == PoolRows::kAll ? random() % static_cast<std::uint32_t>(request.prompt.size()) : 0;
      request.tenant = random() % 2 == 0 ? "a" : "b";
      ASSERT_TRUE(harness.Submit(request)) << seed;
      sent.push_back(std::move(request));
      if (random() % 3 == 0) {
        harness.Step();
        harness.engine().CheckInvariants();
      }
    }
    harness.RunDry();
    for (const wire::GenerateRequest& request : sent) {
      harness.ExpectPooled(request);
    }
  }
}

TEST(EnginePoolTest, AnEncodersTextsShareAStepAndAreNeverCut) {
  HarnessOptions options = Reading(PoolRows::kFirst, true);
  options.engine.batch_tokens_max = 24;
  Harness harness(options);
  ASSERT_EQ(harness.engine().context_tokens_max(), 24U);
  for (std::uint64_t id = 1; id <= 4; ++id) {
    ASSERT_TRUE(harness.Submit(Text(id, 10)));
  }
  EXPECT_EQ(ParamOf(harness.Submit(Text(9, 25))), "prompt");
  harness.Step();
  EXPECT_EQ(harness.mock().call_count(), 1U);
  EXPECT_EQ(harness.streams().size(), 2U);  // a third would have to be cut
  harness.RunDry();
  EXPECT_EQ(harness.mock().call_count(), 2U);
  EXPECT_EQ(harness.engine().scheduler().counters().cached_tokens, 0U);
}

TEST(EnginePoolTest, ACausalTextTakesItsPrefixFromTheCache) {
  Harness harness(Reading(PoolRows::kLast, false));
  wire::GenerateRequest first = Text(1, 40);
  ASSERT_TRUE(harness.Submit(first));
  harness.RunDry();
  wire::GenerateRequest second = Text(2, 41);
  ASSERT_TRUE(harness.Submit(second));
  harness.RunDry();
  harness.ExpectPooled(second);
  EXPECT_EQ(harness.streams().at(2).cached_tokens, 40U);
}

TEST(EnginePoolTest, RowsThatArePooledAreComputedThoughTheirBlocksAreCached) {
  Harness harness(Reading(PoolRows::kAll, false));
  wire::GenerateRequest first = Text(1, 40);
  ASSERT_TRUE(harness.Submit(first));
  harness.RunDry();
  wire::GenerateRequest again = Text(2, 40);
  ASSERT_TRUE(harness.Submit(again));
  wire::GenerateRequest skipping = Text(3, 40);
  skipping.pool->skip_tokens = 21;
  ASSERT_TRUE(harness.Submit(skipping));
  harness.RunDry();
  harness.ExpectPooled(again);
  harness.ExpectPooled(skipping);
  EXPECT_EQ(harness.streams().at(2).cached_tokens, 0U);
  EXPECT_EQ(harness.streams().at(3).cached_tokens, 20U);
}

TEST(EnginePoolTest, AGeneratorGivesTheLogitsOfAFewTokensBesideOthersItServes) {
  Harness harness;
  wire::GenerateRequest score = Text(1, 30);
  score.pool->logit_tokens = {7, 3};
  wire::GenerateRequest talk = MakeRequest(2, 12, 9);
  ASSERT_TRUE(harness.Submit(talk));
  ASSERT_TRUE(harness.Submit(score));
  harness.RunDry();
  harness.ExpectPooled(score);
  harness.ExpectOracle(talk);
}

TEST(EnginePoolTest, AFaultEndsItsOwnTextAlone) {
  HarnessOptions options = Reading(PoolRows::kAll, true);
  options.faults.poison_token = 50;
  Harness harness(options);
  wire::GenerateRequest bad = Text(1, 10, 45);
  wire::GenerateRequest good = Text(2, 10, 1);
  ASSERT_TRUE(harness.Submit(bad));
  ASSERT_TRUE(harness.Submit(good));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).error->code(), Code::kModelFault);
  EXPECT_TRUE(harness.streams().at(1).pooled.empty());
  harness.ExpectPooled(good);
}

TEST(EnginePoolTest, ACancelledTextEndsOnceAndHoldsNothing) {
  HarnessOptions options = Reading(PoolRows::kAll, false);
  options.engine.batch_tokens_max = 8;
  Harness harness(options);
  ASSERT_TRUE(harness.Submit(Text(1, 40)));
  harness.Step();
  harness.engine().Cancel({.id = RequestId{1}, .choice = std::nullopt});
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).finish, wire::FinishReason::kCancelled);
  EXPECT_TRUE(harness.streams().at(1).pooled.empty());
}

TEST(EnginePoolTest, RefusesWhatTheModelDoesNotDo) {
  Harness encoder(Reading(PoolRows::kFirst, true));
  EXPECT_EQ(ParamOf(encoder.Submit(MakeRequest(1, 5, 5))), "model");
  wire::GenerateRequest request = Text(1, 5);
  request.pool->token_types = {0, 0, 3, 0, 0};
  EXPECT_EQ(ParamOf(encoder.Submit(request)), "token_types");
  request.pool->token_types = {0};
  EXPECT_EQ(ParamOf(encoder.Submit(request)), "token_types");
  request = Text(1, 5);
  request.pool->logit_tokens = {1};
  EXPECT_EQ(ParamOf(encoder.Submit(request)), "logit_tokens");
  request = Text(1, 5);
  request.pool->skip_tokens = 5;
  EXPECT_EQ(ParamOf(encoder.Submit(request)), "skip_tokens");
  request = Text(1, 5);
  request.choice_count = 2;
  EXPECT_EQ(ParamOf(encoder.Submit(request)), "pool");

  Harness generator;
  EXPECT_EQ(ParamOf(generator.Submit(Text(1, 5))), "logit_tokens");
  request = Text(1, 5);
  request.pool->logit_tokens = {64};
  EXPECT_EQ(ParamOf(generator.Submit(request)), "logit_tokens");
  EXPECT_EQ(encoder.engine().card().task, wire::ModelTask::kClassify);
  EXPECT_EQ(encoder.engine().card().feature_count, 6U);
  EXPECT_EQ(encoder.engine().card().token_type_count, 3U);
  EXPECT_EQ(generator.engine().card().feature_count, 0U);
}

}  // namespace
}  // namespace pixii::engine
