#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <numeric>
#include <vector>

namespace pixii::engine {
namespace {

struct Options {
  std::uint32_t blocks = 64;
  std::uint32_t sequences = 8;
  std::uint32_t tokens = 32;
};

class SchedulerTest : public ::testing::Test {
 protected:
  void Make(const Options& options = {}) {
    cache_ = *kv::BlockCache::Create(
        {.block_count_max = options.blocks, .block_tokens = 4, .identity_key = "k"});
    scheduler_ =
        std::make_unique<Scheduler>(SchedulerOptions{.batch_sequences_max = options.sequences,
                                                     .batch_tokens_max = options.tokens,
                                                     .prompt_logprob_rows_max = 8,
                                                     .queue_length_max = 100},
                                    *cache_);
  }

  void TearDown() override {
    for (Sequence& sequence : sequences_) {
      scheduler_->Remove(sequence);
    }
  }

  // Every sequence has a prompt of its own.
  Sequence& Add(std::uint32_t prompt_size, std::int64_t tag = 0) {
    std::vector<TokenId>& prompt = prompts_.emplace_back(prompt_size);
    std::iota(prompt.begin(), prompt.end(), static_cast<TokenId>(prompts_.size() * 1000));
    Sequence& sequence = sequences_.emplace_back();
    sequence.prompt = prompt;
    sequence.rank = {tag, sequences_.size()};
    sequence.chain = kv::StartOf(cache_->MakeRoot({}));
    scheduler_->Hold(sequence);
    scheduler_->Enqueue(sequence);
    return sequence;
  }

  // One step: what was planned is computed, and who is done with all its tokens gets one more, and
  // those that it guessed.
  std::vector<Chunk> Step() {
    std::span<const Chunk> plan = scheduler_->Plan();
    std::vector<Chunk> chunks(plan.begin(), plan.end());
    for (const Chunk& chunk : chunks) {
      scheduler_->Complete(chunk);
      chunk.sequence->generated.insert(chunk.sequence->generated.end(), chunk.sample_rows, 7);
    }
    scheduler_->CheckInvariants();
    cache_->CheckInvariants();
    return chunks;
  }

  std::unique_ptr<kv::BlockCache> cache_;
  std::unique_ptr<Scheduler> scheduler_;
  std::deque<std::vector<TokenId>> prompts_;
  std::deque<Sequence> sequences_;
};

TEST_F(SchedulerTest, DecodesComeBeforeTheChunkOfALongPrompt) {
  Make();
  Sequence& a = Add(4);
  Sequence& b = Add(4);
  Step();
  Sequence& c = Add(100);
  std::vector<Chunk> chunks = Step();
  ASSERT_EQ(chunks.size(), 3U);
  EXPECT_EQ(chunks[0].sequence, &a);
  EXPECT_EQ(chunks[1].sequence, &b);
  EXPECT_EQ(chunks[0].sample_rows, 1U);
  EXPECT_EQ(chunks[1].sample_rows, 1U);
  EXPECT_EQ(chunks[2].sequence, &c);
  EXPECT_EQ(chunks[2].count, 30U);  // 32 less the two decodes
  EXPECT_EQ(chunks[2].sample_rows, 0U);
}

TEST_F(SchedulerTest, APromptIsCutToTheBudgetAndItsLastChunkSamples) {
  Make({.tokens = 16});
  Sequence& a = Add(40);
  std::vector<std::uint32_t> counts;
  for (int i = 0; i < 3; ++i) {
    std::vector<Chunk> chunks = Step();
    ASSERT_EQ(chunks.size(), 1U);
    counts.push_back(chunks[0].count);
    EXPECT_EQ(chunks[0].sample_rows, i == 2 ? 1U : 0U);
  }
  EXPECT_EQ(counts, (std::vector<std::uint32_t>{16, 16, 8}));
  EXPECT_EQ(a.generated.size(), 1U);
}

TEST_F(SchedulerTest, APictureThatIsComputedAtOnceIsNotCut) {
  Make({.tokens = 16});
  model::SequenceMedia media;
  media.items = {{.begin = 10, .features = nullptr, .mutual_count = 12}};
  Sequence& a = Add(40);
  a.media = &media;
  std::vector<std::uint32_t> counts;
  for (int i = 0; i < 4; ++i) {
    counts.push_back(Step()[0].count);
  }
  EXPECT_EQ(counts, (std::vector<std::uint32_t>{10, 16, 14, 1}));
}

TEST_F(SchedulerTest, GuessesLeaveRoomForAPictureThatIsComputedAtOnce) {
  Make({.sequences = 4, .tokens = 16});
  Sequence& decoding = Add(4);
  Step();
  model::SequenceMedia media;
  media.items = {{.begin = 2, .features = nullptr, .mutual_count = 13}};
  Sequence& shown = Add(20);
  shown.media = &media;
  decoding.draft = {1, 1, 1, 1, 1, 1, 1, 1};
  Step();
  EXPECT_EQ(shown.computed_tokens, 2U);
  decoding.draft = {1, 1, 1, 1, 1, 1, 1, 1};
  const std::vector<Chunk> chunks = Step();
  ASSERT_EQ(chunks.size(), 2U);
  EXPECT_EQ(chunks[0].draft_count(), 2U);
  EXPECT_EQ(chunks[1].count, 13U);
}

TEST_F(SchedulerTest, TheBetterRankIsAdmittedFirst) {
  Make({.sequences = 1});
  Sequence& low = Add(4, 100);
  Sequence& high = Add(4, -100);
  EXPECT_EQ(Step()[0].sequence, &high);
  scheduler_->Remove(high);
  EXPECT_EQ(Step()[0].sequence, &low);
}

TEST_F(SchedulerTest, ALargeSequenceAtTheHeadIsNotOvertaken) {
  Make({.blocks = 16});
  Sequence& running = Add(32);  // 8 blocks and one to grow
  Step();
  Sequence& large = Add(48);  // 12 blocks: does not fit yet
  Sequence& small = Add(4);
  for (const Chunk& chunk : Step()) {
    EXPECT_EQ(chunk.sequence, &running);
  }
  EXPECT_EQ(small.phase, SequencePhase::kWaiting);
  scheduler_->Remove(running);
  EXPECT_EQ(Step()[0].sequence, &large);
}

TEST_F(SchedulerTest, WhenBlocksRunOutTheWorstRankIsPreemptedKeepsItsTokensAndComesBack) {
  Make({.blocks = 8, .tokens = 64});
  Sequence& first = Add(11);   // 3 blocks
  Sequence& second = Add(11);  // 3 blocks
  Step();
  Step();  // both stand at 12 computed tokens and need a block each; 2 are left
  Step();
  EXPECT_EQ(cache_->pool().pinned_count(), 8U);
  for (int i = 0; i < 4; ++i) {
    Step();
  }
  EXPECT_EQ(first.phase, SequencePhase::kRunning);
  EXPECT_EQ(second.phase, SequencePhase::kWaiting);
  EXPECT_EQ(second.generated.size(), 6U);
  EXPECT_TRUE(second.blocks.empty());
  EXPECT_EQ(scheduler_->counters().preemptions, 1U);
  scheduler_->Remove(first);
  std::vector<Chunk> chunks = Step();
  ASSERT_EQ(chunks.size(), 1U);
  EXPECT_EQ(chunks[0].sequence, &second);
  EXPECT_EQ(chunks[0].begin + chunks[0].count, 17U);
  EXPECT_EQ(chunks[0].sample_rows, 1U);
}

TEST_F(SchedulerTest, APreemptedSequenceGoesBeforeLaterArrivals) {
  Make({.blocks = 8, .tokens = 64});
  Sequence& first = Add(11);
  Sequence& second = Add(11);
  for (int i = 0; i < 7; ++i) {
    Step();
  }
  ASSERT_EQ(second.phase, SequencePhase::kWaiting);
  Sequence& later = Add(2);
  scheduler_->Remove(first);
  std::vector<Chunk> chunks = Step();
  EXPECT_EQ(chunks[0].sequence, &second);
  EXPECT_EQ(chunks[1].sequence, &later);
}

TEST_F(SchedulerTest, RemovingGivesBlocksBackAtOnceInEveryPhase) {
  Make();
  Sequence& running = Add(20);
  Step();
  Sequence& waiting = Add(20);
  EXPECT_EQ(scheduler_->queued_count(), 1U);
  scheduler_->Remove(waiting);
  scheduler_->Remove(running);
  EXPECT_EQ(scheduler_->queued_count(), 0U);
  EXPECT_EQ(scheduler_->running_count(), 0U);
  EXPECT_EQ(cache_->pool().pinned_count(), 0U);
  EXPECT_TRUE(scheduler_->Plan().empty());
  scheduler_->Remove(running);  // again: nothing
}

TEST_F(SchedulerTest, ABlockIsNotFoundBeforeTheStepThatWroteItIsComplete) {
  Make({.tokens = 8});
  Add(20);
  std::span<const Chunk> plan = scheduler_->Plan();
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_EQ(cache_->counters().published, 0U);
  scheduler_->Complete(plan[0]);
  EXPECT_EQ(cache_->counters().published, 2U);
}

TEST_F(SchedulerTest, RowsForPromptLogprobsAreBoundedPerStep) {
  Make({.tokens = 64});
  Sequence& a = Add(30);
  a.prompt_rows_end = 29;
  std::uint32_t rows = 0;
  int steps = 0;
  while (a.generated.empty()) {
    for (const Chunk& chunk : Step()) {
      EXPECT_LE(chunk.prompt_rows_count, 8U);
      EXPECT_EQ(chunk.prompt_rows_begin, rows);
      rows += chunk.prompt_rows_count;
    }
    ASSERT_LT(++steps, 10);
  }
  EXPECT_EQ(rows, 29U);
}

}  // namespace
}  // namespace pixii::engine
