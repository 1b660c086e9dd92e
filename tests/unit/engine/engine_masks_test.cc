// Costly grammars in a batch: who has one waits, and nobody else does.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "text/grammar/grammar_library.h"
#include "unit/engine/engine_harness.h"

namespace pixii::engine {
namespace {

using testing::Harness;
using testing::HarnessOptions;
using testing::MakeRequest;

constexpr TokenId kEndToken{63};

// Letters a to j, then pairs of them.
std::shared_ptr<text::grammar::GrammarLibrary> Letters() {
  return std::make_shared<text::grammar::GrammarLibrary>([] {
    std::vector<std::string> tokens;
    for (char c = 'a'; c <= 'j'; ++c) {
      tokens.emplace_back(1, c);
    }
    for (std::size_t i = 0; tokens.size() < 63; ++i) {
      tokens.push_back(tokens[i % 10] + tokens[i / 10]);
    }
    tokens.emplace_back();
    return text::grammar::GrammarVocabulary::FromBytes(std::move(tokens),
                                                       {.eos_ids = {kEndToken}, .vocab_size = 64});
  });
}

wire::GenerateRequest Constrained(std::uint64_t id, const std::string& regex,
                                  std::uint32_t tokens = 60) {
  wire::GenerateRequest request = MakeRequest(id, 9, tokens);
  request.sampling.temperature = 1.0F;
  request.sampling.seed = id * 31;
  request.stop.eos_token_ids = {kEndToken};
  request.constraint.emplace();
  request.constraint->kind = wire::ConstraintKind::kRegex;
  request.constraint->text = regex;
  return request;
}

// States of many combinations of where the letters stood.
const char* const kCostly = "(.*a.{20}|.*b.{19}|.*c.{18}|.*d.{21})";

TEST(EngineMasks, WhoHasACostlyGrammarWaitsAndTheOthersGoOn) {
  for (const int with : {0, 1, 2}) {
    HarnessOptions options;
    options.engine.grammars = Letters();
    options.engine.jump_ahead = with != 1;
    options.threaded = with == 2;
    Harness harness(options);
    ASSERT_TRUE(harness.Submit(Constrained(1, kCostly)));
    ASSERT_TRUE(harness.Submit(MakeRequest(2, 9, 40)));
    ASSERT_TRUE(harness.Submit(Constrained(3, "[a-j]*")));
    int steps = 0;
    while (!harness.streams().has(2) || !harness.streams().at(2).finish) {
      harness.Step();
      harness.engine().CheckInvariants();
      ASSERT_LT(++steps, 50);  // a token a step, whatever the costly one does
    }
    harness.RunDry();
    harness.ExpectOracle(MakeRequest(2, 9, 40));
    EXPECT_FALSE(harness.streams().at(3).error);
  }
}

TEST(EngineMasks, ACostlyAnswerIsTheSameInAnyCompany) {
  std::vector<TokenId> alone;
  std::optional<Error> error;
  for (const int with : {0, 1, 2, 3}) {
    HarnessOptions options;
    options.engine.grammars = Letters();
    options.engine.jump_ahead = with != 1;
    options.engine.reuse_blocks = with != 2;
    options.threaded = with == 2;
    Harness harness(options);
    if (with > 0) {
      ASSERT_TRUE(harness.Submit(Constrained(7, kCostly)));
      for (int i = 0; i < 8; ++i) {
        harness.Step();
      }
      ASSERT_TRUE(harness.Submit(Constrained(8, "[a-j]*")));
    }
    ASSERT_TRUE(harness.Submit(Constrained(1, kCostly)));
    harness.RunDry();
    const testing::Stream& stream = harness.streams().at(1);
    if (with == 0) {
      alone = stream.tokens;
      error = stream.error;
      EXPECT_GT(harness.engine().counters().steps, 0U);
    }
    EXPECT_EQ(stream.tokens, alone) << with;
    EXPECT_EQ(stream.error.has_value(), error.has_value()) << with;
  }
}

TEST(EngineMasks, WhoWaitsCanBeCancelledAndEndsOnce) {
  HarnessOptions options;
  options.engine.grammars = Letters();
  Harness harness(options);
  wire::GenerateRequest several = Constrained(1, kCostly);
  several.choice_count = 3;
  ASSERT_TRUE(harness.Submit(several));
  ASSERT_TRUE(harness.Submit(Constrained(2, kCostly)));
  for (int i = 0; i < 6; ++i) {
    harness.Step();
  }
  harness.engine().Cancel({.id = RequestId{1}, .choice = 1});
  harness.Step();
  harness.engine().Cancel({.id = RequestId{1}, .choice = {}});
  harness.engine().Cancel({.id = RequestId{2}, .choice = {}});
  harness.RunDry();
  EXPECT_TRUE(harness.streams().at(1).finish && harness.streams().at(2).finish);
}

}  // namespace
}  // namespace pixii::engine
