#include "engine/constraint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

namespace pixii::engine {
namespace {

using text::grammar::GrammarLibrary;
using text::grammar::GrammarLibraryOptions;
using text::grammar::GrammarVocabulary;

// Tokens 0 .. 9 are digits, 10 is a bracket, 11 its end, 12 two digits, 13 ends an answer, 14 and
// 15 are the marks around reasoning, 16 is a letter.
constexpr TokenId kOpen{10};
constexpr TokenId kClose{11};
constexpr TokenId kPair{12};
constexpr TokenId kEnd{13};
constexpr TokenId kThink{14};
constexpr TokenId kThought{15};
constexpr std::size_t kVocab = 17;

std::shared_ptr<GrammarLibrary> Library(const GrammarLibraryOptions& options = {}) {
  const auto build = [] {
    std::vector<std::string> bytes;
    for (char digit = '0'; digit <= '9'; ++digit) {
      bytes.emplace_back(1, digit);
    }
    bytes.insert(bytes.end(), {"[", "]", "42", "", "\xFF<think>", "\xFF</think>", "é"});
    return GrammarVocabulary::FromBytes(std::move(bytes), {.eos_ids = {kEnd}, .vocab_size = 0});
  };
  return std::make_shared<GrammarLibrary>(build, options);
}

wire::Constraint Regex(std::string pattern) {
  wire::Constraint out;
  out.kind = wire::ConstraintKind::kRegex;
  out.text = std::move(pattern);
  return out;
}

std::vector<TokenId> Allowed(RequestConstraint& constraint, std::uint32_t choice,
                             const std::vector<TokenId>& generated) {
  std::vector<float> logits(kVocab, 1.0F);
  const Result<void> applied = constraint.Apply(choice, generated, logits);
  EXPECT_TRUE(applied) << applied.error().ToString();
  std::vector<TokenId> out;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!std::isinf(logits[i])) {
      EXPECT_EQ(logits[i], 1.0F);
      out.push_back(static_cast<TokenId>(i));
    }
  }
  return out;
}

TEST(Constraint, RowsKeepWhatMayFollowAndEachChoiceHasItsOwnPlace) {
  Constraints constraints(Library());
  auto open = constraints.Open(Regex("\\[4[0-3]\\]"), 2);
  ASSERT_TRUE(open) << open.error().ToString();
  RequestConstraint& request = **open;
  EXPECT_EQ(Allowed(request, 0, {}), std::vector{kOpen});
  EXPECT_EQ(Allowed(request, 0, {kOpen}), (std::vector{TokenId{4}, kPair}));
  EXPECT_EQ(Allowed(request, 0, {kOpen, kPair}), std::vector{kClose});
  EXPECT_EQ(Allowed(request, 1, {}), std::vector{kOpen});
  EXPECT_EQ(Allowed(request, 0, {kOpen, kPair, kClose}), std::vector{kEnd});
  // The end is ignored by the request: nothing but ends may follow.
  EXPECT_EQ(Allowed(request, 0, {kOpen, kPair, kClose, kEnd}), std::vector{kEnd});
}

TEST(Constraint, MasksMadeAheadAreThoseOfTheTokensThatCame) {
  Constraints constraints(Library());
  auto plain = constraints.Open(Regex("\\[[0-9]{2}4[0-3]\\]"), 1).value();
  auto ahead = constraints.Open(Regex("\\[[0-9]{2}4[0-3]\\]"), 1).value();
  const std::vector<TokenId> guesses = {TokenId{1}, TokenId{2}, kPair};
  std::uint64_t work = 1'000'000;
  ahead->Prepare(0, std::vector{kOpen}, guesses, work);
  EXPECT_LT(work, 1'000'000U);
  // As guessed, then otherwise, then as guessed by a later call: tokens decide.
  for (const std::vector<TokenId>& generated :
       std::vector<std::vector<TokenId>>{{kOpen},
                                         {kOpen, TokenId{1}},
                                         {kOpen, TokenId{1}, TokenId{2}},
                                         {kOpen, TokenId{1}, TokenId{2}, TokenId{4}},
                                         {kOpen, TokenId{1}, TokenId{2}, TokenId{4}, TokenId{0}}}) {
    EXPECT_EQ(Allowed(*ahead, 0, generated), Allowed(*plain, 0, generated));
  }
}

TEST(Constraint, GuessesAreTheForcedBytesAsTheTokenizerWritesThem) {
  GrammarLibraryOptions options;
  options.encode = [](std::string_view text) -> Result<std::vector<TokenId>> {
    std::vector<TokenId> out;
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (text.substr(at).starts_with("42")) {
        out.push_back(kPair);
        ++at;
      } else {
        out.push_back(text[at] == '[' ? kOpen : text[at] == ']' ? kClose : TokenId(text[at] - '0'));
      }
    }
    return out;
  };
  Constraints constraints(Library(options));
  auto request = constraints.Open(Regex("\\[4242(0|1)42\\]"), 3).value();
  std::vector<TokenId> guesses;
  request->Guess(0, {}, 8, guesses);
  EXPECT_EQ(guesses, (std::vector{kOpen, kPair, kPair}));
  guesses.clear();
  request->Guess(1, std::vector{kOpen, TokenId{4}}, 2, guesses);  // a token of its own ended there
  EXPECT_EQ(guesses, (std::vector<TokenId>{TokenId{2}, kPair}));
  guesses.clear();
  request->Guess(2, std::vector{kOpen, kPair, kPair}, 4, guesses);
  EXPECT_TRUE(guesses.empty());  // 0 or 1
  request->Guess(2, std::vector{kOpen, kPair, kPair, TokenId{1}}, 4, guesses);
  EXPECT_EQ(guesses, (std::vector{kPair, kClose}));
  auto silent = Constraints(Library()).Open(Regex("\\[42\\]"), 1).value();
  guesses.clear();
  silent->Guess(0, {}, 8, guesses);
  EXPECT_TRUE(guesses.empty());
}

TEST(Constraint, AChoiceContinuesFromItsTokensElsewhere) {
  Constraints first(Library());
  Constraints second(Library());
  auto walked = first.Open(Regex("\\[[0-9]+\\]"), 1).value();
  std::vector<TokenId> generated;
  for (const TokenId token : {kOpen, TokenId{7}, kPair}) {
    EXPECT_FALSE(Allowed(*walked, 0, generated).empty());
    generated.push_back(token);
  }
  auto moved = second.Open(Regex("\\[[0-9]+\\]"), 1).value();
  ASSERT_TRUE(moved->Resume(0, generated));
  EXPECT_EQ(Allowed(*moved, 0, generated), Allowed(*walked, 0, generated));
}

TEST(Constraint, TokensThatDoNotFollowTheGrammarAreRefused) {
  Constraints constraints(Library());
  auto request = constraints.Open(Regex("\\[4\\]"), 1).value();
  const std::vector<TokenId> wrong = {kOpen, kClose};
  const auto followed = request->Follow(0, wrong);
  ASSERT_FALSE(followed);
  EXPECT_EQ(followed.error().param(), "generated");
}

// `pattern` behind reasoning, which may be left out unless the prompt has begun it.
wire::Constraint Thoughtful(std::string pattern, bool inside) {
  wire::Constraint out = Regex(std::move(pattern));
  const wire::ScriptNode start{
      .edges = {{.text = "\xFF<think>", .next = 1}, {.text = {}, .next = wire::kScriptBody}}};
  const wire::ScriptNode reasoning{.free = true,
                                   .edges = {{.text = "\xFF</think>", .next = wire::kScriptBody}}};
  out.script.nodes = {inside ? reasoning : start, reasoning};
  return out;
}

TEST(Constraint, ReasoningIsFreeUntilItsMarkAndTheAnswerHeldFromThere) {
  Constraints constraints(Library());
  auto request = constraints.Open(Thoughtful("\\[4[0-3]\\]", false), 2).value();
  EXPECT_EQ(Allowed(*request, 0, {}), (std::vector{kOpen, kThink}));
  std::vector<TokenId> any;
  for (std::size_t token = 0; token < kVocab; ++token) {
    if (static_cast<TokenId>(token) != kEnd) {
      any.push_back(static_cast<TokenId>(token));
    }
  }
  EXPECT_EQ(Allowed(*request, 0, {kThink}), any) << "no end inside";
  EXPECT_EQ(Allowed(*request, 0, {kThink, kClose, TokenId{7}, kOpen}), any);
  const std::vector<TokenId> thought = {kThink, kClose, TokenId{7}, kOpen, kThought};
  EXPECT_EQ(Allowed(*request, 0, thought), std::vector{kOpen});
  EXPECT_EQ(Allowed(*request, 1, {kOpen}), (std::vector{TokenId{4}, kPair}));
  auto inside = constraints.Open(Thoughtful("\\[4\\]", true), 1).value();
  EXPECT_EQ(Allowed(*inside, 0, {}), any);
  EXPECT_EQ(Allowed(*inside, 0, {kThought}), std::vector{kOpen});
}

TEST(Constraint, RowsBehindReasoningDependOnTheTokensAlone) {
  const wire::Constraint constraint = Thoughtful("\\[[0-9]+\\]", false);
  const std::vector<TokenId> answer = {kThink, kPair, kOpen, kThought, kOpen, TokenId{7}, kClose};
  Constraints stepwise(Library());
  auto walked = stepwise.Open(constraint, 2).value();
  std::vector<TokenId> generated;
  for (const TokenId token : answer) {
    EXPECT_FALSE(Allowed(*walked, 1, generated).empty());
    // Moved, resumed or drafted ahead: from its tokens it stands at the same place.
    Constraints elsewhere(Library());
    auto moved = elsewhere.Open(constraint, 1).value();
    ASSERT_TRUE(moved->Resume(0, generated));
    EXPECT_EQ(Allowed(*moved, 0, generated), Allowed(*walked, 1, generated));
    generated.push_back(token);
  }
  EXPECT_EQ(Allowed(*walked, 1, generated), std::vector{kEnd});
  EXPECT_EQ(Allowed(*walked, 0, {}), (std::vector{kOpen, kThink}));
}

// Digits whose states double with every token: 4 or 2, and a 4 twenty digits before the end.
constexpr const char* kExplosive = "[24]*4[24]{20}";

// How many tokens of `answer` the grammar's budget lets one choice have.
std::size_t Survived(RequestConstraint& constraint, const std::vector<TokenId>& answer,
                     std::size_t begin = 0) {
  for (std::size_t count = begin; count < answer.size(); ++count) {
    std::vector<float> logits(kVocab, 1.0F);
    const Result<void> applied = constraint.Apply(0, std::span(answer).first(count), logits);
    if (!applied) {
      EXPECT_EQ(applied.error().code(), Code::kInvalidArgument);
      EXPECT_EQ(applied.error().param(), "response_format");
      return count;
    }
    EXPECT_FALSE(std::isinf(logits[static_cast<std::size_t>(answer[count])]));
  }
  return answer.size();
}

std::vector<TokenId> Digits(std::size_t count, std::uint32_t seed) {
  std::vector<TokenId> out;
  for (std::size_t i = 0; i < count; ++i) {
    seed = seed * 1'664'525U + 1'013'904'223U;
    out.push_back(TokenId{(seed >> 20 & 1U) != 0 ? 4 : 2});
  }
  return out;
}

// The budget is the request's own: others that met the same states before take nothing from it and
// give it nothing, nor does where it was begun, or how its work was cut.
TEST(Constraint, WhereABudgetEndsDependsOnTheAnswerAlone) {
  const ConstraintBudget budget{.steps_max = 5'000,
                                .steps_of_token = 0,
                                .bytes_max = 33'554'432,
                                .choice_steps_min = 0,
                                .choice_bytes_min = 0,
                                .slice_steps = 20};
  const std::vector<TokenId> answer = Digits(400, 3);
  Constraints alone(Library(), budget);
  const std::size_t tokens = Survived(*alone.Open(Regex(kExplosive), 1).value(), answer);
  EXPECT_GT(tokens, 1U);
  EXPECT_LT(tokens, answer.size());
  Constraints crowd(Library(), budget);
  auto early = crowd.Open(Regex(kExplosive), 1).value();
  auto late = crowd.Open(Regex(kExplosive), 1).value();
  Survived(*crowd.Open(Regex(kExplosive), 1).value(), Digits(20, 9));
  EXPECT_EQ(Survived(*early, answer), tokens);
  EXPECT_EQ(Survived(*late, answer), tokens);
  auto moved = crowd.Open(Regex(kExplosive), 1).value();
  ASSERT_TRUE(moved->Resume(0, std::span(answer).first(tokens / 2)));
  EXPECT_EQ(Survived(*moved, answer, tokens / 2), tokens);
  auto cut = crowd.Open(Regex(kExplosive), 1).value();
  std::size_t calls = 0;
  for (std::size_t count = 0; count < tokens; ++count) {
    std::uint64_t work = 1;
    for (; !cut->MakeReady(0, std::span(answer).first(count), work); work = 1) {
      ++calls;
    }
  }
  EXPECT_GT(calls, 10U);
  EXPECT_EQ(Survived(*cut, answer, tokens - 1), tokens);
}

TEST(Constraint, EachOfManyChoicesHasItsShareOfTheBudget) {
  const ConstraintBudget budget{
      .steps_max = 80'000, .steps_of_token = 0, .choice_steps_min = 0, .slice_steps = 500};
  const std::vector<TokenId> answer = Digits(400, 3);
  Constraints one(Library(), budget);
  Constraints four(Library(), budget);
  EXPECT_LT(Survived(*four.Open(Regex(kExplosive), 4).value(), answer),
            Survived(*one.Open(Regex(kExplosive), 1).value(), answer));
}

TEST(Constraint, AnAutomatonThatGrowsEndsTheRequest) {
  const ConstraintBudget budget{.bytes_max = 300'000, .choice_bytes_min = 0};
  Constraints constraints(Library(), budget);
  const std::vector<TokenId> answer = Digits(400, 3);
  EXPECT_LT(Survived(*constraints.Open(Regex(kExplosive), 1).value(), answer), answer.size());
}

TEST(Constraint, ADeadEndIsNotTheClientsFault) {
  Constraints constraints(Library());
  auto request = constraints.Open(Regex("\\[Z\\]"), 1).value();  // no token spells a Z
  std::vector<float> logits(kVocab, 1.0F);
  const Result<void> applied = request->Apply(0, std::vector{kOpen}, logits);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code(), Code::kInternal);
}

TEST(Constraint, WithoutALibraryOrWithABrokenGrammarTheRequestIsRefused) {
  Constraints none(nullptr);
  EXPECT_EQ(none.Open(Regex("a"), 1).error().code(), Code::kUnsupported);
  Constraints constraints(Library());
  EXPECT_FALSE(constraints.Open(Regex("(("), 1));
}

}  // namespace
}  // namespace pixii::engine
