#include "engine/draft_model.h"

#include <gtest/gtest.h>

#include "engine/mock_executor.h"

namespace pixii::engine {
namespace {

constexpr std::uint32_t kVocab = 97;

MockOptions Small() {
  MockOptions options;
  options.limits = {.vocab_size = kVocab,
                    .context_tokens_max = 64,
                    .block_tokens = 4,
                    .block_count = 16,
                    .step_tokens_max = 12,
                    .step_logit_rows_max = 8};
  return options;
}

/// A drafter on a mock model, and a view of what it ran.
struct Guesser {
  explicit Guesser(const MockOptions& options = Small()) {
    auto made = std::make_unique<MockExecutor>(options);
    executor = made.get();
    auto drafter_made = DraftModel::Create(std::move(made), kVocab);
    EXPECT_TRUE(drafter_made.has_value());
    drafter = std::move(*drafter_made);
  }

  std::vector<TokenId> Guess(std::uint64_t key, const wire::GenerateRequest& request,
                             const std::vector<TokenId>& generated, std::uint32_t count_max) const {
    std::vector<TokenId> out;
    DraftRequest draft{.key = DraftKey{key},
                       .request = &request,
                       .choice = 0,
                       .generated = generated,
                       .count_max = count_max,
                       .guesses = &out};
    drafter->Draft({&draft, 1});
    return out;
  }

  MockExecutor* executor = nullptr;
  std::unique_ptr<DraftModel> drafter;
};

wire::GenerateRequest Request(std::vector<TokenId> prompt, float temperature) {
  wire::GenerateRequest request;
  request.prompt = std::move(prompt);
  request.sampling.temperature = temperature;
  request.sampling.seed = 11;
  request.stop.max_tokens = 40;
  return request;
}

/// What the mock model itself says after `request`'s prompt.
std::vector<TokenId> Truth(const wire::GenerateRequest& request) {
  return MockStream(request, 0, kVocab, 64).tokens;
}

TEST(DraftModel, GuessesTheModelsOwnTokensGreedyAndSampled) {
  for (const float temperature : {0.0F, 1.0F}) {
    const Guesser setup;
    const wire::GenerateRequest request = Request({3, 1, 4, 1, 5}, temperature);
    const std::vector<TokenId> truth = Truth(request);
    EXPECT_EQ(setup.Guess(1, request, {}, 4),
              std::vector<TokenId>(truth.begin(), truth.begin() + 4));
    // Two of four were taken: the next call goes on from there.
    const std::vector<TokenId> three(truth.begin(), truth.begin() + 3);
    EXPECT_EQ(setup.Guess(1, request, three, 3),
              std::vector<TokenId>(truth.begin() + 3, truth.begin() + 6));
  }
}

TEST(DraftModel, ReadsAgainWhatFollowsAWrongGuess) {
  const Guesser setup;
  const wire::GenerateRequest request = Request({3, 1, 4}, 0.0F);
  ASSERT_EQ(setup.Guess(1, request, {}, 4).size(), 4U);
  // The model it guesses for said something else: what it guesses now must follow from that.
  const std::vector<TokenId> other = {50, 51};
  std::vector<TokenId> context = {3, 1, 4, 50, 51};
  std::vector<TokenId> expected;
  for (int i = 0; i < 3; ++i) {
    expected.push_back(MockNextToken(context, kVocab));
    context.push_back(expected.back());
  }
  EXPECT_EQ(setup.Guess(1, request, other, 3), expected);
}

TEST(DraftModel, ReadsOnlyWhatIsNew) {
  const Guesser setup;
  const wire::GenerateRequest request = Request({1, 2, 3, 4, 5, 6, 7, 8}, 0.0F);
  const std::vector<TokenId> truth = Truth(request);
  setup.Guess(1, request, {}, 2);
  const std::uint64_t calls = setup.executor->call_count();
  setup.Guess(1, request, {truth[0], truth[1]}, 2);
  EXPECT_EQ(setup.executor->call_count(), calls + 2);  // one step a guess, none to read the prompt
}

TEST(DraftModel, APromptLongerThanAStepTakesSeveralCalls) {
  const Guesser setup;
  std::vector<TokenId> prompt(30);
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    prompt[i] = static_cast<TokenId>(i * 7 % kVocab);
  }
  const wire::GenerateRequest request = Request(prompt, 0.0F);
  const std::vector<TokenId> truth = Truth(request);
  EXPECT_TRUE(setup.Guess(1, request, {}, 1).empty());
  EXPECT_TRUE(setup.Guess(1, request, {}, 1).empty());
  EXPECT_EQ(setup.Guess(1, request, {}, 1), std::vector<TokenId>{truth[0]});
}

TEST(DraftModel, ForgetsTheLongestUnusedWhenItsCacheIsFull) {
  const Guesser setup;  // 64 tokens
  std::vector<wire::GenerateRequest> requests;
  for (TokenId key = 0; key < 6; ++key) {
    requests.push_back(Request(std::vector<TokenId>(11, key + 1), 0.0F));
  }
  for (int turn = 0; turn < 3; ++turn) {
    for (std::size_t key = 0; key < requests.size(); ++key) {
      const std::vector<TokenId> truth = Truth(requests[key]);
      EXPECT_EQ(setup.Guess(key, requests[key], {}, 2),
                std::vector<TokenId>(truth.begin(), truth.begin() + 2));
    }
    setup.drafter->Forget(DraftKey{2});
  }
}

TEST(DraftModel, SeveralSequencesGuessInOneStep) {
  const Guesser setup;
  const wire::GenerateRequest a = Request({1, 2}, 0.0F);
  const wire::GenerateRequest b = Request({9, 8, 7}, 1.0F);
  std::vector<TokenId> from_a;
  std::vector<TokenId> from_b;
  std::vector<DraftRequest> drafts = {{.key = DraftKey{1},
                                       .request = &a,
                                       .choice = 0,
                                       .generated = {},
                                       .count_max = 3,
                                       .guesses = &from_a},
                                      {.key = DraftKey{2},
                                       .request = &b,
                                       .choice = 0,
                                       .generated = {},
                                       .count_max = 2,
                                       .guesses = &from_b}};
  setup.drafter->Draft(drafts);
  const std::vector<TokenId> truth_a = Truth(a);
  const std::vector<TokenId> truth_b = Truth(b);
  EXPECT_EQ(from_a, std::vector<TokenId>(truth_a.begin(), truth_a.begin() + 3));
  EXPECT_EQ(from_b, std::vector<TokenId>(truth_b.begin(), truth_b.begin() + 2));
  EXPECT_EQ(setup.executor->call_count(), 3U);
}

TEST(DraftModel, AFaultGuessesNothingAndIsCounted) {
  MockOptions options = Small();
  options.faults.fail_call = 1;
  const Guesser setup(options);
  const wire::GenerateRequest request = Request({5, 6}, 0.0F);
  const std::vector<TokenId> truth = Truth(request);
  EXPECT_TRUE(setup.Guess(1, request, {}, 3).empty());
  EXPECT_EQ(setup.drafter->fault_count(), 1U);
  EXPECT_EQ(setup.Guess(1, request, {}, 3), std::vector<TokenId>(truth.begin(), truth.begin() + 3));
}

TEST(DraftModel, PastItsContextItGuessesNothing) {
  const Guesser setup;
  EXPECT_TRUE(setup.Guess(1, Request(std::vector<TokenId>(62, 1), 0.0F), {}, 4).empty());
}

TEST(DraftModel, AnotherVocabularyIsRefused) {
  const auto drafter = DraftModel::Create(std::make_unique<MockExecutor>(Small()), kVocab + 1);
  ASSERT_FALSE(drafter.has_value());
  EXPECT_EQ(drafter.error().param(), "draft-model");
}

}  // namespace
}  // namespace pixii::engine
