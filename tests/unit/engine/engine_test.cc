#include "engine/engine.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine_harness.h"

namespace pixii::engine::testing {
namespace {

TEST(Engine, OptionsOutOfRangeAreRefusedByName) {
  HarnessOptions options;
  auto create = [&](const EngineOptions& engine) {
    return Engine::Create(engine, std::make_unique<MockExecutor>(MockOptions{
                                      .limits = options.limits, .timing = {}, .faults = {}}));
  };
  EngineOptions engine = options.engine;
  engine.batch_tokens_max = 257;  // the executor takes 256
  auto made = create(engine);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().param(), "batch_tokens_max");
  EXPECT_NE(made.error().detail().find("257"), std::string::npos);
  engine = options.engine;
  engine.batch_sequences_max = 0;
  EXPECT_EQ(create(engine).error().param(), "batch_sequences_max");
}

TEST(Engine, EndsAtMaxTokensAtAStopTokenAndAtTheContext) {
  Harness harness;
  wire::GenerateRequest request = MakeRequest(1, 6, 10);
  ASSERT_TRUE(harness.Submit(request));
  wire::GenerateRequest full = MakeRequest(2, 250, 100);
  ASSERT_TRUE(harness.Submit(full));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).tokens.size(), 10U);
  EXPECT_EQ(harness.streams().at(2).tokens.size(), 6U);  // 256 of context
  EXPECT_EQ(harness.streams().at(2).finish, wire::FinishReason::kLength);
  TokenId third = harness.streams().at(1).tokens[2];
  for (bool as_eos : {true, false}) {
    request.id = RequestId{as_eos ? 3U : 4U};
    (as_eos ? request.stop.eos_token_ids : request.stop.stop_token_ids) = {third};
    ASSERT_TRUE(harness.Submit(request));
  }
  request.id = RequestId{5};
  request.stop.stop_token_ids.clear();
  request.stop.ignore_eos = true;
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  for (std::uint64_t id : {3U, 4U}) {
    EXPECT_EQ(harness.streams().at(id).finish, wire::FinishReason::kStop);
    EXPECT_EQ(harness.streams().at(id).stop_token, third);
    EXPECT_LE(harness.streams().at(id).tokens.size(), 2U);  // the stop token is not among them
  }
  EXPECT_EQ(harness.streams().at(5).tokens, harness.streams().at(1).tokens);
}

TEST(Engine, ARequestThatCanNeverFitIsRefusedNamingTheLimit) {
  HarnessOptions options;
  options.limits.block_count = 10;  // 40 tokens, less than the context of 256
  Harness harness(options);
  Result<void> refused = harness.Submit(MakeRequest(1, 40, 5));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(refused.error().param(), "prompt");
  EXPECT_NE(refused.error().detail().find("KV cache of 40"), std::string::npos)
      << refused.error().detail();
  ASSERT_TRUE(harness.Submit(MakeRequest(2, 39, 5)));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(2).tokens.size(), 1U);
}

TEST(Engine, AFullQueueRefusesNamingItsBound) {
  HarnessOptions options;
  options.engine.batch_sequences_max = 2;
  options.engine.queue_length_max = 3;
  Harness harness(options);
  for (std::uint64_t id = 1; id <= 5; ++id) {
    ASSERT_TRUE(harness.Submit(MakeRequest(id, 4, 4)));
  }
  Result<void> refused = harness.Submit(MakeRequest(6, 4, 4));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kResourceExhausted);
  EXPECT_NE(refused.error().detail().find("queue_length_max"), std::string::npos);
  harness.RunDry();
  EXPECT_TRUE(harness.Submit(MakeRequest(6, 4, 4)));
  harness.RunDry();
}

TEST(Engine, TheSameIdTwiceAtATimeIsRefused) {
  Harness harness;
  ASSERT_TRUE(harness.Submit(MakeRequest(1, 4, 4)));
  EXPECT_EQ(harness.Submit(MakeRequest(1, 4, 4)).error().param(), "id");
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).tokens.size(), 4U);
}

TEST(Engine, ASecondRequestFindsTheFirstOnesBlocksButComputesTheLastToken) {
  Harness harness;
  ASSERT_TRUE(harness.Submit(MakeRequest(1, 16, 4)));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).cached_tokens, 0U);
  ASSERT_TRUE(harness.Submit(MakeRequest(2, 16, 4)));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(2).cached_tokens,
            12U);  // the last block holds the last prompt token
  EXPECT_EQ(harness.streams().at(2).tokens, harness.streams().at(1).tokens);
}

TEST(Engine, BlocksOfGeneratedTokensAreFoundByTheNextTurn) {
  Harness harness;
  wire::GenerateRequest first = MakeRequest(1, 8, 13);
  ASSERT_TRUE(harness.Submit(first));
  harness.RunDry();
  wire::GenerateRequest second = first;
  second.id = RequestId{2};
  second.prompt.insert(second.prompt.end(), harness.streams().at(1).tokens.begin(),
                       harness.streams().at(1).tokens.end());
  second.prompt.push_back(5);
  ASSERT_TRUE(harness.Submit(second));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(2).cached_tokens, 20U);
  harness.ExpectOracle(second);
}

TEST(Engine, ATenantNeverFindsAnothersBlocks) {
  Harness harness;
  wire::GenerateRequest request = MakeRequest(1, 16, 4);
  request.tenant = "alice";
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  request.id = RequestId{2};
  request.tenant = "mallory";
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(2).cached_tokens, 0U);
}

TEST(Engine, ARunningPromptGoesOnFromBlocksThatAnotherComputedMeanwhile) {
  HarnessOptions options;
  options.engine.batch_tokens_max = 8;
  options.engine.batch_sequences_max = 4;
  Harness harness(options);
  ASSERT_TRUE(harness.Submit(MakeRequest(1, 40, 4)));
  harness.Step();
  ASSERT_TRUE(harness.Submit(MakeRequest(2, 40, 4)));
  harness.RunDry();
  harness.ExpectOracle(MakeRequest(2, 40, 4));
  EXPECT_EQ(harness.engine().scheduler().counters().computed_tokens, 40U + 3U + 4U + 3U);
}

TEST(Engine, ChoicesShareThePromptsBlocksAndDifferByTheirDraws) {
  Harness harness;
  wire::GenerateRequest request = MakeRequest(1, 18, 8);
  request.choice_count = 4;
  request.sampling.temperature = 1.5F;
  request.sampling.seed = 9;
  ASSERT_TRUE(harness.Submit(request));
  harness.Step();
  harness.Step();
  EXPECT_EQ(harness.engine().cache().pool().pinned_count(), 4U + 4U);  // 4 shared, one tail each
  harness.RunDry();
  harness.ExpectOracle(request);
  EXPECT_NE(harness.streams().at(1, 0).tokens, harness.streams().at(1, 1).tokens);
  for (std::uint32_t choice = 1; choice < 4; ++choice) {
    EXPECT_EQ(harness.streams().at(1, choice).cached_tokens, 16U);
  }
}

TEST(Engine, TheOtherChoicesGoOnIfTheOneThatComputesThePromptIsCancelled) {
  HarnessOptions options;
  options.engine.batch_tokens_max = 8;
  options.engine.batch_sequences_max = 4;
  Harness harness(options);
  wire::GenerateRequest request = MakeRequest(1, 40, 5);
  request.choice_count = 3;
  ASSERT_TRUE(harness.Submit(request));
  harness.Step();
  harness.engine().Cancel({.id = request.id, .choice = 0});
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1, 0).finish, wire::FinishReason::kCancelled);
  for (std::uint32_t choice : {1U, 2U}) {
    EXPECT_EQ(harness.streams().at(1, choice).tokens, MockStream(request, choice, 64, 256).tokens);
  }
}

TEST(Engine, ACancelFreesEverythingAtOnceInEveryState) {
  HarnessOptions options;
  options.engine.batch_tokens_max = 8;
  options.engine.batch_sequences_max = 2;
  for (int steps : {0, 1, 3, 6, 9}) {
    Harness harness(options);
    ASSERT_TRUE(harness.Submit(MakeRequest(1, 30, 50)));
    for (int i = 0; i < steps; ++i) {
      harness.Step();
    }
    harness.engine().Cancel({.id = RequestId{1}, .choice = std::nullopt});
    EXPECT_EQ(harness.engine().cache().pool().pinned_count(), 0U) << steps;
    EXPECT_EQ(harness.engine().request_count(), 0U);
    StepReport report = harness.Step();
    EXPECT_FALSE(report.ran);  // not one step more is computed for it
    EXPECT_EQ(harness.streams().at(1).finish, wire::FinishReason::kCancelled);
    harness.engine().Cancel({.id = RequestId{1}, .choice = std::nullopt});  // again: nothing
    harness.RunDry();
  }
}

TEST(Engine, ADeadlineEndsWaitingAndRunningRequestsTyped) {
  HarnessOptions options;
  options.engine.batch_sequences_max = 1;
  Harness harness(options);
  wire::GenerateRequest running = MakeRequest(1, 4, 100);
  running.deadline_left_ns = 10'000'000;  // ten of the harness's steps
  wire::GenerateRequest waiting = MakeRequest(2, 4, 100);
  waiting.deadline_left_ns = 5'000'000;
  ASSERT_TRUE(harness.Submit(running));
  ASSERT_TRUE(harness.Submit(waiting));
  ASSERT_TRUE(harness.Submit(MakeRequest(3, 4, 20)));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).error->code(), Code::kDeadlineExceeded);
  EXPECT_EQ(harness.streams().at(1).tokens.size(), 9U);
  EXPECT_EQ(harness.streams().at(2).error->code(), Code::kDeadlineExceeded);
  EXPECT_TRUE(harness.streams().at(2).tokens.empty());
  harness.ExpectOracle(MakeRequest(3, 4, 20));
  EXPECT_EQ(harness.engine().counters().expired_requests, 2U);
}

TEST(Engine, ADeadlineThatPassedAlreadyIsRefused) {
  Harness harness;
  wire::GenerateRequest request = MakeRequest(1, 4, 4);
  request.deadline_left_ns = -1;
  EXPECT_EQ(harness.Submit(request).error().code(), Code::kDeadlineExceeded);
}

TEST(Engine, EchoGivesPromptLogprobsInOneFrameWhateverTheChunks) {
  for (std::uint32_t rows : {1U, 3U, 64U}) {
    HarnessOptions options;
    options.engine.prompt_logprob_rows_max = rows;
    Harness harness(options);
    wire::GenerateRequest echo = MakeRequest(1, 50, 0);
    echo.prompt_logprobs = true;
    echo.top_logprobs = 5;
    wire::GenerateRequest one_token = MakeRequest(2, 1, 0);
    one_token.prompt_logprobs = true;
    ASSERT_TRUE(harness.Submit(MakeRequest(9, 50, 1)));  // a warm cache must not swallow rows
    harness.RunDry();
    ASSERT_TRUE(harness.Submit(echo));
    ASSERT_TRUE(harness.Submit(one_token));
    harness.RunDry();
    harness.ExpectOracle(echo);
    EXPECT_EQ(harness.streams().at(1).prompt_logprobs.size(), 50U);
    EXPECT_TRUE(harness.streams().at(1).tokens.empty());
    harness.ExpectOracle(one_token);
  }
}

TEST(Engine, AContinuedRequestThatIsAlreadyFullEndsWithoutAToken) {
  Harness harness;
  wire::GenerateRequest request = MakeRequest(1, 4, 3);
  request.generated = {{5, 6, 7}};
  ASSERT_TRUE(harness.Submit(request));
  EXPECT_TRUE(harness.engine().has_work());
  harness.RunDry();
  EXPECT_TRUE(harness.streams().at(1).tokens.empty());
  EXPECT_EQ(harness.streams().at(1).finish, wire::FinishReason::kLength);
}

TEST(Engine, AbortEndsEveryChoiceWithTheError) {
  Harness harness;
  wire::GenerateRequest request = MakeRequest(1, 30, 50);
  request.choice_count = 3;
  ASSERT_TRUE(harness.Submit(request));
  ASSERT_TRUE(harness.Submit(MakeRequest(2, 5, 50)));
  harness.Step();
  harness.engine().AbortAll(Error(Code::kShuttingDown, "bye"));
  harness.RunDry();
  for (std::uint32_t choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(harness.streams().at(1, choice).error->code(), Code::kShuttingDown);
  }
  EXPECT_EQ(harness.streams().at(2).error->code(), Code::kShuttingDown);
}

}  // namespace
}  // namespace pixii::engine::testing
