// The oracle of many tests is tested first: it must see each kind of mistake it is there for.
#include "engine/mock_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "engine/sampler.h"

namespace pixii::engine {
namespace {

constexpr std::uint32_t kVocab = 100;

class MockExecutorTest : public ::testing::Test {
 protected:
  MockExecutorTest()
      : mock_({.limits = {.vocab_size = kVocab,
                          .context_tokens_max = 64,
                          .block_tokens = 2,
                          .block_count = 8,
                          .step_tokens_max = 16,
                          .step_logit_rows_max = 16},
               .timing = {.step_ns = 1000, .token_ns = 10, .context_token_ns = 1},
               .faults = {}}) {}

  // Five tokens in blocks 3, 0, 6.
  static kernels::StepBatch Batch() {
    kernels::StepBatch batch;
    batch.token_ids = {5, 6, 7, 8, 9};
    batch.positions = {0, 1, 2, 3, 4};
    batch.slots = {6, 7, 0, 1, 12};
    batch.sequences = {{.token_begin = 0,
                        .token_count = 5,
                        .context_tokens = 5,
                        .block_begin = 0,
                        .block_count = 3}};
    batch.block_table = {3, 0, 6};
    batch.logit_rows = {4};
    return batch;
  }

  TokenId Next(const kernels::StepBatch& batch) {
    std::vector<float> logits(batch.logit_rows.size() * kVocab);
    EXPECT_TRUE(mock_.Execute(batch, logits));
    return Argmax(std::span(logits).last(kVocab));
  }

  MockExecutor mock_;
  TokenId expected_ = MockNextToken(std::vector<TokenId>{5, 6, 7, 8, 9}, kVocab);
};

TEST_F(MockExecutorTest, GivesThePureFunctionOfTheTokensInAnyBlocks) {
  EXPECT_EQ(Next(Batch()), expected_);
  kernels::StepBatch elsewhere = Batch();
  elsewhere.slots = {2, 3, 4, 5, 10};
  elsewhere.block_table = {1, 2, 5};
  EXPECT_EQ(Next(elsewhere), expected_);
}

TEST_F(MockExecutorTest, ReadsEarlierTokensBackFromTheBlocks) {
  Next(Batch());
  kernels::StepBatch next;
  next.token_ids = {42};
  next.positions = {5};
  next.slots = {13};
  next.sequences = {{.token_begin = 0,
                     .token_count = 1,
                     .context_tokens = 6,
                     .block_begin = 0,
                     .block_count = 3}};
  next.block_table = {3, 0, 6};
  next.logit_rows = {0};
  EXPECT_EQ(Next(next), MockNextToken(std::vector<TokenId>{5, 6, 7, 8, 9, 42}, kVocab));
  next.block_table = {3, 1, 6};  // a wrong block
  EXPECT_NE(Next(next), MockNextToken(std::vector<TokenId>{5, 6, 7, 8, 9, 42}, kVocab));
}

TEST_F(MockExecutorTest, AWrongSlotPositionOrOverwrittenBlockShows) {
  kernels::StepBatch wrong = Batch();
  std::swap(wrong.slots[1], wrong.slots[2]);
  EXPECT_NE(Next(wrong), expected_);
  wrong = Batch();
  wrong.positions[2] = 9;
  EXPECT_NE(Next(wrong), expected_);
  Next(Batch());
  kernels::StepBatch other = Batch();  // somebody else writes block 0
  other.slots = {0, 1, 2, 3, 4};
  other.block_table = {0, 1, 2};
  other.token_ids = {1, 1, 1, 1, 1};
  Next(other);
  kernels::StepBatch again = Batch();
  again.token_ids = {9};
  again.positions = {4};
  again.slots = {12};
  again.sequences[0].token_count = 1;
  again.logit_rows = {0};
  EXPECT_NE(Next(again), expected_);
}

TEST_F(MockExecutorTest, RowsInTheMiddleSeeOnlyWhatStandsBeforeThem) {
  kernels::StepBatch batch = Batch();
  batch.logit_rows = {1, 4};
  std::vector<float> logits(2 * kVocab);
  ASSERT_TRUE(mock_.Execute(batch, logits));
  EXPECT_EQ(Argmax(std::span(logits).first(kVocab)),
            MockNextToken(std::vector<TokenId>{5, 6}, kVocab));
  EXPECT_EQ(Argmax(std::span(logits).last(kVocab)), expected_);
}

TEST_F(MockExecutorTest, SaysHowLongAStepTook) {
  Next(Batch());
  EXPECT_EQ(mock_.virtual_time_ns(), 1000 + 5 * 10 + 5 * 1);
}

TEST_F(MockExecutorTest, ASingleTokenMayTakeAnotherTimeThanOneOfAChunk) {
  MockExecutor mock({.limits = mock_.limits(),
                     .timing = {.step_ns = 1000, .token_ns = 10, .decode_ns = 300},
                     .faults = {}});
  kernels::StepBatch batch = Batch();
  batch.token_ids.push_back(1);
  batch.positions.push_back(0);
  batch.slots.push_back(2);
  batch.sequences.push_back({.token_begin = 5,
                             .token_count = 1,
                             .context_tokens = 1,
                             .block_begin = 3,
                             .block_count = 1});
  batch.block_table.push_back(1);
  std::vector<float> logits(kVocab);
  ASSERT_TRUE(mock.Execute(batch, logits));
  EXPECT_EQ(mock.virtual_time_ns(), 1000 + 5 * 10 + 300);
}

TEST_F(MockExecutorTest, FlatRowsHaveTheSameWinnerAndNothingElse) {
  MockExecutor flat({.limits = mock_.limits(), .timing = {}, .faults = {}, .flat_rows = true});
  std::vector<float> logits(kVocab);
  ASSERT_TRUE(flat.Execute(Batch(), logits));
  EXPECT_EQ(Argmax(logits), expected_);
  EXPECT_EQ(std::ranges::count(logits, 0.0F), kVocab - 1);
}

TEST_F(MockExecutorTest, AnotherSeedGivesOtherTokensAndTheSameOneTheSame) {
  std::vector<float> rows[3];
  for (std::size_t i = 0; i < 3; ++i) {
    MockExecutor mock(
        {.limits = mock_.limits(), .timing = {}, .faults = {}, .seed = i == 2 ? 8U : 7U});
    rows[i].resize(kVocab);
    ASSERT_TRUE(mock.Execute(Batch(), rows[i]));
  }
  EXPECT_EQ(rows[0], rows[1]);
  EXPECT_NE(rows[0], rows[2]);
}

TEST_F(MockExecutorTest, FaultsHitOnceOrByTokenAndSpoilTheSlots) {
  std::vector<float> logits(kVocab);
  mock_.faults().fail_call = 0;
  Result<void> failed = mock_.Execute(Batch(), logits);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), Code::kModelFault);
  EXPECT_EQ(Next(Batch()), expected_);
  mock_.faults().poison_token = 7;
  EXPECT_FALSE(mock_.Execute(Batch(), logits));
  EXPECT_FALSE(mock_.Execute(Batch(), logits));
}

TEST(MockStream, ContinuesFromWhatWasGenerated) {
  wire::GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.stop.max_tokens = 10;
  request.sampling.seed = 4;
  MockChoice whole = MockStream(request, 0, kVocab, 64);
  ASSERT_EQ(whole.tokens.size(), 10U);
  request.generated = {{whole.tokens.begin(), whole.tokens.begin() + 4}};
  MockChoice rest = MockStream(request, 0, kVocab, 64);
  EXPECT_EQ(rest.tokens, std::vector<TokenId>(whole.tokens.begin() + 4, whole.tokens.end()));
  EXPECT_EQ(MockStream(request, 0, kVocab, 9).tokens.size(), 2U);  // the context ends it
}

}  // namespace
}  // namespace pixii::engine
