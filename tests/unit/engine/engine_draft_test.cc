// Guessed tokens: judged several in one step, never part of an answer unless the model's own draw
// picks them.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "text/grammar/grammar_library.h"
#include "unit/engine/engine_harness.h"

namespace pixii::engine {
namespace {

using testing::Harness;
using testing::HarnessOptions;
using testing::MakeRequest;

HarnessOptions With(std::uint32_t right_percent) {
  HarnessOptions options;
  options.draft_right_percent = right_percent;
  return options;
}

wire::GenerateRequest Sampled(std::uint64_t id) {
  wire::GenerateRequest request = MakeRequest(id, 9, 40);
  request.sampling.temperature = 0.9F;
  request.sampling.top_p = 0.95F;
  request.sampling.seed = id * 77;
  request.sampling.frequency_penalty = 0.5F;
  request.top_logprobs = 2;
  request.choice_count = 2;
  return request;
}

TEST(EngineDraft, RightGuessesMakeAStepGiveSeveralTokens) {
  Harness harness(With(100));
  const wire::GenerateRequest request = MakeRequest(1, 10, 50);
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  harness.ExpectOracle(request);
  const EngineCounters& counters = harness.engine().counters();
  EXPECT_EQ(counters.sampled_tokens, 50U);
  EXPECT_LT(counters.steps, 30U);
  EXPECT_EQ(counters.accepted_tokens, counters.drafted_tokens);
  EXPECT_GT(counters.accepted_tokens, 20U);
}

TEST(EngineDraft, WrongGuessesChangeNothingAndAreGivenUp) {
  Harness harness(With(0));
  const wire::GenerateRequest request = MakeRequest(1, 10, 60);
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  harness.ExpectOracle(request);
  const EngineCounters& counters = harness.engine().counters();
  EXPECT_GT(counters.drafts, 0U);
  EXPECT_LT(counters.drafts, 30U);  // it rests in between
}

TEST(EngineDraft, SampledChoicesWithLogprobsAndPenaltiesAreTheSame) {
  for (const std::uint32_t right : {100U, 60U, 10U}) {
    Harness harness(With(right));
    std::vector<wire::GenerateRequest> requests;
    for (std::uint64_t id = 1; id <= 4; ++id) {
      requests.push_back(Sampled(id));
      ASSERT_TRUE(harness.Submit(requests.back()));
    }
    harness.RunDry();
    for (const wire::GenerateRequest& request : requests) {
      harness.ExpectOracle(request);
    }
    EXPECT_GT(harness.engine().counters().accepted_tokens, 0U);
  }
}

TEST(EngineDraft, AnEndInsideADraftEndsThere) {
  wire::GenerateRequest request = MakeRequest(1, 10, 40);
  Harness plain;
  ASSERT_TRUE(plain.Submit(request));
  plain.RunDry();
  request.stop.stop_token_ids = {plain.streams().at(1).tokens[7]};
  Harness harness(With(100));
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  harness.ExpectOracle(request);
  EXPECT_EQ(harness.streams().at(1).finish, wire::FinishReason::kStop);
}

TEST(EngineDraft, GuessesPreemptNobodyAndTakeNoRoomFromDecodes) {
  HarnessOptions options = With(100);
  options.limits.block_count = 12;
  options.engine.batch_tokens_max = 4;
  options.engine.admission = Admission::kEager;
  Harness harness(options);
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 4; ++id) {
    requests.push_back(MakeRequest(id, 5, 12, static_cast<TokenId>(id * 7)));
    ASSERT_TRUE(harness.Submit(requests.back()));
  }
  while (harness.engine().has_work()) {
    EXPECT_LE(harness.Step().tokens, 4U);
    harness.engine().CheckInvariants();
  }
  for (const wire::GenerateRequest& request : requests) {
    harness.ExpectOracle(request);
  }
}

TEST(EngineDraft, InACrowdNobodyGuesses) {
  HarnessOptions options = With(100);
  options.engine.draft_sequences_max = 2;
  Harness harness(options);
  for (std::uint64_t id = 1; id <= 5; ++id) {
    ASSERT_TRUE(harness.Submit(MakeRequest(id, 6, 20, static_cast<TokenId>(id))));
  }
  harness.RunDry();
  EXPECT_EQ(harness.engine().counters().drafts, 0U);
}

TEST(EngineDraft, AFaultThatAGuessCausesFailsNobody) {
  Harness plain;
  const wire::GenerateRequest request = MakeRequest(1, 10, 40);
  ASSERT_TRUE(plain.Submit(request));
  plain.RunDry();
  const std::vector<TokenId>& truth = plain.streams().at(1).tokens;
  std::uint64_t faults = 0;
  for (TokenId poison = 0; poison < 60; ++poison) {
    // In neither prompt nor answer: only a wrong guess can compute it.
    if (std::ranges::find(truth, poison) != truth.end() ||
        std::ranges::find(request.prompt, poison) != request.prompt.end()) {
      continue;
    }
    HarnessOptions options = With(0);
    options.faults.poison_token = poison;
    Harness harness(options);
    ASSERT_TRUE(harness.Submit(request));
    harness.RunDry();
    harness.ExpectOracle(request);
    faults += harness.engine().counters().faults;
  }
  EXPECT_GT(faults, 0U);
}

// Sixty tokens: bytes that JSON needs and some words; the last ends an answer.
std::vector<std::string> JsonTokens() {
  std::vector<std::string> out;
  for (const char c : std::string_view("{}[]\":, abcdefghijklmnopqrstuvwxyz0123456789")) {
    out.emplace_back(1, c);
  }
  for (const char* word :
       {"{\"", "\":", "\": ", "\",", "\":\"", "na", "me", "name", "kind", "true"}) {
    out.emplace_back(word);
  }
  out.resize(64);
  return out;
}

constexpr TokenId kJsonEnd{63};

std::shared_ptr<text::grammar::GrammarLibrary> JsonLibrary() {
  text::grammar::GrammarLibraryOptions options;
  options.encode = [](std::string_view text) -> Result<std::vector<TokenId>> {
    const std::vector<std::string> tokens = JsonTokens();
    std::vector<TokenId> out;
    while (!text.empty()) {
      std::size_t best = 0;
      for (std::size_t id = 0; id < tokens.size(); ++id) {
        if (text.starts_with(tokens[id]) && tokens[id].size() > tokens[best].size()) {
          best = id;
        } else if (text.starts_with(tokens[id]) && !text.starts_with(tokens[best])) {
          best = id;
        }
      }
      if (tokens[best].empty() || !text.starts_with(tokens[best])) {
        return Fail(Code::kInvalidArgument, "a byte without a token");
      }
      text.remove_prefix(tokens[best].size());
      out.push_back(static_cast<TokenId>(best));
    }
    return out;
  };
  return std::make_shared<text::grammar::GrammarLibrary>(
      [] {
        return text::grammar::GrammarVocabulary::FromBytes(
            JsonTokens(), {.eos_ids = {kJsonEnd}, .vocab_size = 64});
      },
      options);
}

wire::GenerateRequest Constrained(std::uint64_t id, float temperature) {
  wire::GenerateRequest request = MakeRequest(id, 9, 60);
  request.sampling.temperature = temperature;
  request.sampling.seed = id * 31;
  request.top_logprobs = 1;
  request.stop.eos_token_ids = {kJsonEnd};
  request.constraint.emplace();
  request.constraint->kind = wire::ConstraintKind::kJsonSchema;
  request.constraint->text = R"({"type":"object","properties":{"name":{"enum":["abcdef","xyz"]},
      "kind":{"const":"dropzone"}},"required":["name","kind"],"additionalProperties":false})";
  request.constraint->spelling = {.whitespace_run_max = 0, .needless_escapes = false};
  return request;
}

TEST(EngineDraft, WhatAGrammarForcesIsGuessedAndChangesNothing) {
  // Alone, with a drafter that is right or wrong, with steps on a thread.
  for (const int with : {0, 1, 2, 3}) {
    std::map<std::uint64_t, std::vector<TokenId>> answers[2];
    std::uint64_t steps[2] = {};
    for (const bool jumps : {false, true}) {
      HarnessOptions options;
      options.engine.grammars = JsonLibrary();
      options.engine.jump_ahead = jumps;
      options.threaded = with == 3;
      if (with == 1 || with == 2) {
        options.draft_right_percent = with == 1 ? 60U : 0U;
      }
      Harness harness(options);
      for (std::uint64_t id = 1; id <= 6; ++id) {
        ASSERT_TRUE(harness.Submit(Constrained(id, id % 2 == 0 ? 0.0F : 1.1F)));
      }
      ASSERT_TRUE(harness.Submit(MakeRequest(7, 9, 30)));  // not constrained
      harness.RunDry();
      for (std::uint64_t id = 1; id <= 7; ++id) {
        const testing::Stream& stream = harness.streams().at(id);
        EXPECT_FALSE(stream.error) << stream.error->ToString();
        answers[jumps ? 1 : 0][id] = stream.tokens;
        EXPECT_TRUE(id == 7 || stream.finish == wire::FinishReason::kStop);
      }
      steps[jumps ? 1 : 0] = harness.engine().counters().steps;
      EXPECT_TRUE(jumps || with != 0 || harness.engine().counters().drafts == 0);
      EXPECT_TRUE(!jumps || harness.engine().counters().accepted_tokens > 0);
    }
    EXPECT_EQ(answers[0], answers[1]) << with;
    EXPECT_LT(steps[1], steps[0]) << with;
  }
}

TEST(EngineDraft, MoreThanSixteenGuessesAreRefused) {
  MockOptions mock;
  mock.limits = HarnessOptions().limits;
  const auto engine =
      Engine::Create({.batch_sequences_max = 4, .batch_tokens_max = 16, .draft_tokens_max = 17},
                     std::make_unique<MockExecutor>(mock));
  ASSERT_FALSE(engine.has_value());
  EXPECT_EQ(engine.error().param(), "draft_tokens_max");
}

}  // namespace
}  // namespace pixii::engine
