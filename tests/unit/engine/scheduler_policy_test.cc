// What goes before what, and what goes to the host pool: policies beyond first come, first served.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <deque>
#include <memory>
#include <new>
#include <numeric>
#include <vector>

#include "engine/scheduler.h"
#include "engine_harness.h"

namespace {

std::atomic<std::uint64_t> allocation_count{0};

}  // namespace

// tidy: new counts allocations for the steady-state test
void* operator new(std::size_t size) {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size)) {
    return memory;
  }
  std::abort();
}

void operator delete(void* memory) noexcept { std::free(memory); }

void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }

namespace pixii::engine {
namespace {

class PolicyTest : public ::testing::Test {
 protected:
  void Make(SchedulerOptions options, std::uint32_t blocks) {
    cache_ = *kv::BlockCache::Create(
        {.block_count_max = blocks, .block_tokens = 4, .identity_key = "k"});
    options.prompt_logprob_rows_max = 8;
    options.queue_length_max = 100;
    scheduler_ = std::make_unique<Scheduler>(options, *cache_);
  }

  void TearDown() override {
    for (Sequence& sequence : sequences_) {
      scheduler_->Remove(sequence);
    }
  }

  Sequence& Add(std::vector<TokenId> prompt, std::uint32_t output_max = 1000) {
    prompts_.push_back(std::move(prompt));
    Sequence& sequence = sequences_.emplace_back();
    sequence.prompt = prompts_.back();
    sequence.tokens_max = static_cast<std::uint32_t>(sequence.prompt.size()) + output_max;
    sequence.chain = kv::StartOf(cache_->MakeRoot({}));
    sequence.generated.reserve(output_max);
    scheduler_->Register(sequence, {.tenant = "", .order = sequences_.size()});
    scheduler_->Hold(sequence);
    scheduler_->Enqueue(sequence);
    return sequence;
  }

  static std::vector<TokenId> Count(std::uint32_t size, TokenId first) {
    std::vector<TokenId> prompt(size);
    std::iota(prompt.begin(), prompt.end(), first);
    return prompt;
  }

  std::vector<Chunk> Step() {
    std::span<const Chunk> plan = scheduler_->Plan();
    std::vector<Chunk> chunks(plan.begin(), plan.end());
    std::vector<SwapCopy> copies(scheduler_->copies().begin(), scheduler_->copies().end());
    for (const SwapCopy& copy : copies) {
      if (!copy.to_host && !copy.sequence->swapped.slots.empty()) {
        scheduler_->SwapInDone(*copy.sequence);
      }
    }
    for (const Chunk& chunk : chunks) {
      scheduler_->Complete(chunk);
      if (chunk.sample_rows > 0) {
        chunk.sequence->generated.push_back(7);
      }
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

constexpr SchedulerOptions kOptions{.batch_sequences_max = 8, .batch_tokens_max = 64};

TEST_F(PolicyTest, GuaranteedAdmissionNeverPreempts) {
  SchedulerOptions options = kOptions;
  options.admission = Admission::kGuaranteed;
  Make(options, 10);
  Sequence& a = Add(Count(8, 0), 12);    // 5 blocks at most
  Sequence& b = Add(Count(8, 100), 12);  // the other 5
  Sequence& c = Add(Count(4, 200), 1);
  Step();
  EXPECT_EQ(a.phase, SequencePhase::kRunning);
  EXPECT_EQ(b.phase, SequencePhase::kRunning);
  EXPECT_EQ(c.phase, SequencePhase::kWaiting);  // 5 blocks are free, all of them spoken for
  for (int i = 0; i < 10; ++i) {
    Step();
  }
  EXPECT_EQ(scheduler_->counters().preemptions, 0U);
}

TEST_F(PolicyTest, ForecastAdmissionWaitsForRoomToGrowAndLearnsHowLongOutputsAre) {
  SchedulerOptions options = kOptions;
  options.admission = Admission::kForecast;
  options.output_tokens_forecast = 40;
  Make(options, 16);
  Sequence& a = Add(Count(8, 0));
  Sequence& b = Add(Count(8, 100));
  Step();
  EXPECT_EQ(a.phase, SequencePhase::kRunning);
  EXPECT_EQ(b.phase, SequencePhase::kWaiting);  // each is forecast to need 12 of 16 blocks
  scheduler_->Remove(a);
  scheduler_->Remove(b);
  // Outputs turn out to be short: the next two run together.
  for (int i = 0; i < 60; ++i) {
    Sequence& brief = Add(Count(4, 1000 + 10 * i));
    Step();
    ASSERT_EQ(brief.generated.size(), 1U);
    scheduler_->Remove(brief);
  }
  Sequence& c = Add(Count(8, 200));
  Sequence& d = Add(Count(8, 300));
  Step();
  EXPECT_EQ(c.phase, SequencePhase::kRunning);
  EXPECT_EQ(d.phase, SequencePhase::kRunning);
}

TEST_F(PolicyTest, WhoSharesAPrefixThatIsBeingComputedWaitsForItAndFindsIt) {
  SchedulerOptions options = kOptions;
  options.prefix_wait_plans_max = 10;
  Make(options, 64);
  std::vector<TokenId> shared = Count(32, 0);
  Add(shared);
  shared.push_back(500);
  Sequence& second = Add(shared);
  Sequence& other = Add(Count(8, 900));
  Step();  // 64 tokens have room for all three
  EXPECT_EQ(second.phase, SequencePhase::kWaiting);
  EXPECT_EQ(other.phase, SequencePhase::kRunning);
  Step();
  EXPECT_EQ(second.phase, SequencePhase::kRunning);
  EXPECT_EQ(second.cached_tokens, 32U);
  EXPECT_EQ(scheduler_->counters().prefix_waits, 1U);
}

TEST_F(PolicyTest, TheWaitForAPrefixIsBounded) {
  SchedulerOptions options = kOptions;
  options.prefix_wait_plans_max = 3;
  Make(options, 64);
  std::vector<TokenId> shared = Count(100, 0);
  Add(shared).prompt_rows_end = 99;  // slow: 8 rows a step
  Sequence& second = Add(shared);
  for (int plan = 0; plan < 3; ++plan) {
    Step();
    EXPECT_EQ(second.phase, SequencePhase::kWaiting);
  }
  Step();
  EXPECT_EQ(second.phase, SequencePhase::kRunning);
  EXPECT_EQ(second.prefix_waits, 3U);
}

TEST_F(PolicyTest, APreemptedSequenceGoesToTheHostPoolAndComesBackWithoutComputing) {
  SchedulerOptions options = kOptions;
  options.host_slots = 8;
  Make(options, 8);
  Sequence& first = Add(Count(11, 0));
  Sequence& second = Add(Count(11, 100));
  for (int i = 0; i < 20 && (i < 2 || second.phase == SequencePhase::kRunning); ++i) {
    Step();
  }
  ASSERT_EQ(second.phase, SequencePhase::kWaiting);
  EXPECT_GT(second.swapped.tokens, 0U);
  EXPECT_EQ(scheduler_->host_slots_used(), second.swapped.slots.size());
  std::uint32_t tokens = second.swapped.tokens;
  // Nothing of it is left in the cache.
  scheduler_->Remove(first);
  Sequence& filler = Add(Count(28, 500));
  scheduler_->Remove(filler);
  std::vector<Chunk> chunks = Step();
  ASSERT_EQ(chunks.size(), 1U);
  EXPECT_EQ(chunks[0].sequence, &second);
  EXPECT_EQ(chunks[0].begin, tokens);
  EXPECT_EQ(chunks[0].count, 1U);
  EXPECT_EQ(scheduler_->host_slots_used(), 0U);
}

TEST_F(PolicyTest, AFullHostPoolMeansRecompute) {
  SchedulerOptions options = kOptions;
  options.host_slots = 2;
  Make(options, 8);
  Add(Count(11, 0));
  Sequence& second = Add(Count(11, 100));
  for (int i = 0; i < 20 && (i < 2 || second.phase == SequencePhase::kRunning); ++i) {
    Step();
  }
  ASSERT_EQ(second.phase, SequencePhase::kWaiting);
  EXPECT_TRUE(second.swapped.slots.empty());
  EXPECT_EQ(scheduler_->counters().swap_refusals, 1U);
  EXPECT_EQ(scheduler_->host_slots_used(), 0U);
}

TEST_F(PolicyTest, ASequenceThatEndsInTheHostPoolLeavesIt) {
  SchedulerOptions options = kOptions;
  options.host_slots = 8;
  Make(options, 8);
  Add(Count(11, 0));
  Sequence& second = Add(Count(11, 100));
  for (int i = 0; i < 20 && (i < 2 || second.phase == SequencePhase::kRunning); ++i) {
    Step();
  }
  ASSERT_EQ(second.phase, SequencePhase::kWaiting);
  ASSERT_GT(scheduler_->host_slots_used(), 0U);
  scheduler_->Remove(second);
  EXPECT_EQ(scheduler_->host_slots_used(), 0U);
}

TEST_F(PolicyTest, PlanningAheadTakesTheTokenInFlightForGrantedButNotPastTheEnd) {
  Make(kOptions, 64);
  Sequence& a = Add(Count(6, 0), 2);
  std::vector<Chunk> chunks(1);
  chunks[0] = scheduler_->Plan()[0];
  scheduler_->Launch(chunks[0]);
  std::span<const Chunk> ahead = scheduler_->PlanAhead();
  ASSERT_EQ(ahead.size(), 1U);
  EXPECT_EQ(ahead[0].begin, 6U);
  EXPECT_EQ(ahead[0].count, 1U);
  EXPECT_EQ(ahead[0].sample_rows, 1U);
  Chunk next = ahead[0];
  scheduler_->Land(chunks[0]);
  scheduler_->Complete(chunks[0]);
  a.generated.push_back(7);
  scheduler_->Launch(next);
  EXPECT_TRUE(scheduler_->PlanAhead().empty());  // that one is its last
  scheduler_->Land(next);
  scheduler_->Complete(next);
  a.generated.push_back(7);
}

TEST_F(PolicyTest, NobodyIsPreemptedForAPlanAhead) {
  Make(kOptions, 5);
  Add(Count(7, 0));
  Add(Count(7, 100));
  Step();  // 7 tokens each in two blocks each; the next one fits, the one after it does not
  std::vector<Chunk> chunks(scheduler_->Plan().begin(), scheduler_->Plan().end());
  ASSERT_EQ(chunks.size(), 2U);
  for (const Chunk& chunk : chunks) {
    scheduler_->Launch(chunk);
  }
  EXPECT_TRUE(scheduler_->PlanAhead().empty());
  EXPECT_EQ(scheduler_->counters().preemptions, 0U);
  for (const Chunk& chunk : chunks) {
    scheduler_->Land(chunk);
    scheduler_->Complete(chunk);
    chunk.sequence->generated.push_back(7);
  }
  EXPECT_EQ(scheduler_->Plan().size(), 1U);  // the better one has the last block
}

TEST_F(PolicyTest, ASteadySchedulerAllocatesNothing) {
  SchedulerOptions options = kOptions;
  options.admission = Admission::kForecast;
  options.output_tokens_forecast = 8;
  options.host_slots = 64;
  options.prefix_wait_plans_max = 4;
  Make(options, 600);
  for (int i = 0; i < 8; ++i) {
    Add(Count(20, 1000 * i), 4000);
  }
  std::vector<Chunk> chunks;
  chunks.reserve(8);
  std::uint64_t before = 0;
  std::uint64_t preempted_before = 0;
  for (int step = 0; step < 1100; ++step) {
    if (step == 100) {
      before = allocation_count.load();
      preempted_before = scheduler_->counters().preemptions;
    }
    std::span<const Chunk> plan = scheduler_->Plan();
    chunks.assign(plan.begin(), plan.end());
    for (Sequence& sequence : sequences_) {
      if (!sequence.swapped.slots.empty() && sequence.phase == SequencePhase::kRunning) {
        scheduler_->SwapInDone(sequence);
      }
    }
    for (const Chunk& chunk : chunks) {
      scheduler_->Complete(chunk);
      if (chunk.sample_rows > 0) {
        chunk.sequence->generated.push_back(static_cast<TokenId>(step % 1000));
      }
    }
  }
  EXPECT_EQ(allocation_count.load() - before, 0U);
  EXPECT_GT(scheduler_->counters().preemptions, preempted_before);  // that too, steadily
}

}  // namespace
}  // namespace pixii::engine

namespace pixii::engine::testing {
namespace {

TEST(FairService, ATenantUnderAFloodOfAnotherIsServedAtOnce) {
  HarnessOptions options;
  options.engine.batch_sequences_max = 2;
  Harness harness(options);
  for (std::uint64_t id = 1; id <= 40; ++id) {
    wire::GenerateRequest request = MakeRequest(id, 8, 10, static_cast<TokenId>(id));
    request.tenant = "loud";
    ASSERT_TRUE(harness.Submit(request));
  }
  for (int i = 0; i < 5; ++i) {
    harness.Step();
  }
  wire::GenerateRequest quiet = MakeRequest(100, 8, 10, 50);
  quiet.tenant = "quiet";
  ASSERT_TRUE(harness.Submit(quiet));
  int steps = 0;
  while (!harness.streams().has(100) || !harness.streams().at(100).finish) {
    harness.Step();
    ASSERT_LT(++steps, 40);
  }
  std::size_t loud_ended = 0;
  for (std::uint64_t id = 1; id <= 40; ++id) {
    loud_ended += harness.streams().has(id) && harness.streams().at(id).finish ? 1 : 0;
  }
  EXPECT_LE(loud_ended, 8U);
  harness.RunDry();
}

}  // namespace
}  // namespace pixii::engine::testing
