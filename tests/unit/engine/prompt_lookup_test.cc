#include "engine/prompt_lookup.h"

#include <gtest/gtest.h>

namespace pixii::engine {
namespace {

std::vector<TokenId> Guess(std::vector<TokenId> prompt, const std::vector<TokenId>& generated,
                           std::uint32_t count_max, const PromptLookupOptions& options = {}) {
  wire::GenerateRequest request;
  request.prompt = std::move(prompt);
  std::vector<TokenId> out;
  DraftRequest draft{.key = DraftKey{1},
                     .request = &request,
                     .choice = 0,
                     .generated = generated,
                     .count_max = count_max,
                     .guesses = &out};
  PromptLookup lookup(options);
  lookup.Draft({&draft, 1});
  return out;
}

using Ids = std::vector<TokenId>;

TEST(PromptLookup, GuessesWhatFollowedTheLastTokensBefore) {
  EXPECT_EQ(Guess({1, 2, 3, 4, 5, 9, 1, 2, 3}, {}, 2), (Ids{4, 5}));
}

TEST(PromptLookup, LooksAcrossTheBorderOfPromptAndOutput) {
  EXPECT_EQ(Guess({7, 8, 1, 2}, {3, 4, 8, 1, 2}, 2), (Ids{3, 4}));
}

TEST(PromptLookup, TheLongestMatchWinsAndAmongEqualOnesTheLatest) {
  EXPECT_EQ(Guess({1, 2, 3, 50, 9, 2, 3, 60, 1, 2, 3}, {}, 1), (Ids{50}));
  EXPECT_EQ(Guess({2, 3, 50, 9, 2, 3, 60, 8, 2, 3}, {}, 1), (Ids{60}));
}

TEST(PromptLookup, AShortMatchGuessesNothing) {
  EXPECT_EQ(Guess({5, 1, 6, 2, 5}, {}, 4), Ids{});
  EXPECT_EQ(Guess({5, 1, 6, 2, 5}, {}, 4, {.match_tokens_min = 1}), (Ids{1, 6, 2, 5}));
}

TEST(PromptLookup, ARepetitionGoesOnToTheEndOfWhatIsKnown) {
  EXPECT_EQ(Guess({4, 4, 4, 4}, {}, 8), (Ids{4}));
  EXPECT_EQ(Guess({1, 2, 1, 2, 1, 2}, {}, 8), (Ids{1, 2}));
}

TEST(PromptLookup, LooksNoFurtherBackThanItsWindow) {
  const Ids prompt = {1, 2, 3, 9, 9, 9, 9, 9, 1, 2};
  EXPECT_EQ(Guess(prompt, {}, 1), (Ids{3}));
  EXPECT_EQ(Guess(prompt, {}, 1, {.window_tokens = 6}), Ids{});
}

TEST(PromptLookup, HasNothingToSayOfOneToken) {
  EXPECT_EQ(Guess({1}, {}, 4), Ids{});
  EXPECT_EQ(Guess({}, {1}, 4), Ids{});
}

}  // namespace
}  // namespace pixii::engine
