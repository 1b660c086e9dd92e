#include "engine/constraint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

namespace pixii::engine {
namespace {

using text::grammar::GrammarLibrary;
using text::grammar::GrammarVocabulary;

// Tokens 0 .. 9 are digits, 10 is a bracket, 11 its end, 12 two digits, 13 ends an answer.
constexpr TokenId kOpen{10};
constexpr TokenId kClose{11};
constexpr TokenId kPair{12};
constexpr TokenId kEnd{13};
constexpr std::size_t kVocab = 14;

std::shared_ptr<GrammarLibrary> Library() {
  return std::make_shared<GrammarLibrary>([] {
    std::vector<std::string> bytes;
    for (char digit = '0'; digit <= '9'; ++digit) {
      bytes.emplace_back(1, digit);
    }
    bytes.insert(bytes.end(), {"[", "]", "42", ""});
    return GrammarVocabulary::FromBytes(std::move(bytes), {.eos_ids = {kEnd}, .vocab_size = 0});
  });
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
  ASSERT_TRUE(moved->Follow(0, generated));
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

TEST(Constraint, WithoutALibraryOrWithABrokenGrammarTheRequestIsRefused) {
  Constraints none(nullptr);
  EXPECT_EQ(none.Open(Regex("a"), 1).error().code(), Code::kUnsupported);
  Constraints constraints(Library());
  EXPECT_FALSE(constraints.Open(Regex("(("), 1));
}

}  // namespace
}  // namespace pixii::engine
