#include "engine/rank_group.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "engine_harness.h"
#include "fake_encoder.h"
#include "rt/thread.h"

namespace pixii::engine::testing {
namespace {

constexpr std::uint32_t kVocab = 64;
constexpr rt::Duration kForever = std::chrono::hours(1);

// A mock for all ranks, and an engine on a thread of its own for each.
class Ranks {
 public:
  struct Options {
    std::uint32_t rank_count = 3;
    bool overlap = false;
    RankBalanceOptions balance = {};
    rt::Duration patience = kForever;
    MockFaults faults = {};
    std::uint32_t blocks = 40;  // of each rank
    std::uint32_t adapter_slots = 0;
    Preemption preemption = Preemption::kRecompute;
    bool sees = false;  // pictures
  };

  explicit Ranks(const Options& options) : sees_(options.sees) {
    const std::uint32_t ranks = options.rank_count;
    auto mock = std::make_unique<MockExecutor>(
        MockOptions{.limits = {.vocab_size = kVocab,
                               .context_tokens_max = 128,
                               .block_tokens = 4,
                               .block_count = ranks * options.blocks + 1,  // one too many to cut
                               .step_tokens_max = ranks * 48,
                               .step_logit_rows_max = ranks * 16,
                               .host_block_count = ranks * 16,
                               .adapter_slots = ranks * options.adapter_slots},
                    .timing = {},
                    .faults = options.faults});
    mock_ = mock.get();
    auto made = RankGroup::Create(std::move(mock), {.rank_count = ranks,
                                                    .overlap = options.overlap,
                                                    .straggler_patience = options.patience,
                                                    .balance = options.balance});
    EXPECT_TRUE(made) << made.error().ToString();
    group_ = std::move(*made);
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      auto engine =
          Engine::Create({.batch_sequences_max = 8,
                          .batch_tokens_max = 32,
                          .queue_length_max = 256,
                          .admission = Admission::kEager,
                          .preemption = options.preemption,
                          .adapters = {.slot_count = options.adapter_slots}},
                         group_->MakeExecutor(rank), nullptr, nullptr, nullptr,
                         sees_ ? std::make_unique<FakeEncoder>(encoded_, rank % 2 == 0) : nullptr);
      EXPECT_TRUE(engine) << engine.error().ToString();
      engines_.push_back(std::move(*engine));
    }
    streams_.resize(ranks);
  }

  // Each engine runs what it has on a thread of its own, to the end.
  void RunDry() {
    std::vector<rt::Thread> threads;
    for (std::size_t rank = 0; rank < engines_.size(); ++rank) {
      threads.emplace_back("rank", [this, rank] {
        std::vector<wire::TokenFrame> frames;
        while (engines_[rank]->has_work()) {
          engines_[rank]->Step(rt::Time{rt::Duration(1)}, frames);
          streams_[rank].Take(frames);
        }
      });
    }
    threads.clear();
  }

  void Submit(std::size_t rank, const wire::GenerateRequest& request) {
    ASSERT_TRUE(engines_[rank]->Submit(request, rt::Time{}));
    requests_.emplace_back(rank, request);
  }

  // Prompts that share beginnings, in all ranks the same: blocks that were mixed up would show.
  void SubmitMany(std::size_t rank, std::uint64_t seed, int count) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < count; ++i) {
      wire::GenerateRequest request = MakeRequest(
          ++last_id_, 1 + static_cast<std::uint32_t>(random() % 30),
          1 + static_cast<std::uint32_t>(random() % 40), static_cast<TokenId>(random() % 3));
      request.sampling.temperature = i % 2 == 0 ? 0.0F : 1.0F;
      request.sampling.seed = random();
      request.top_logprobs = i % 3 == 0 ? 2 : -1;
      request.prompt_logprobs = i % 5 == 0;
      if (sees_) {
        request.prompt_logprobs = false;
        request.top_logprobs = -1;  // the oracle's are of a vocabulary with kWord
        const auto size = static_cast<std::uint32_t>(request.prompt.size());
        if (size > 2) {
          const auto begin = static_cast<std::uint32_t>(random() % (size - 1));
          Show(request, begin,
               1 + static_cast<std::uint32_t>(random() % std::min(size - begin, 24U)),
               static_cast<char>('a' + random() % 3));
        }
      }
      Submit(rank, request);
    }
  }

  void ExpectOracles() {
    for (auto& [rank, request] : requests_) {
      if (sees_) {
        request.sampling.bad_words.push_back({kWord});  // nor do engines that see say it
      }
      SCOPED_TRACE(::testing::Message() << "rank " << rank << " request " << Raw(request.id));
      ASSERT_TRUE(streams_[rank].has(Raw(request.id)));
      const Stream& stream = streams_[rank].at(Raw(request.id));
      const MockChoice expected =
          MockStream(request, 0, kVocab, engines_[rank]->context_tokens_max());
      EXPECT_FALSE(stream.error) << stream.error->ToString();
      EXPECT_EQ(stream.tokens, expected.tokens);
      EXPECT_EQ(stream.finish, expected.finish);
      EXPECT_TRUE(SameLogprobs(stream.logprobs, expected.logprobs));
      if (request.prompt_logprobs) {
        EXPECT_TRUE(SameLogprobs(stream.prompt_logprobs, MockPromptLogprobs(request, kVocab)));
      }
    }
  }

  Engine& engine(std::size_t rank) { return *engines_[rank]; }

  void DropEngine(std::size_t rank) { engines_[rank].reset(); }

  const Stream& stream(std::size_t rank, std::uint64_t id) { return streams_[rank].at(id); }

  RankGroup& group() { return *group_; }

  std::uint32_t encoded() const { return *encoded_; }

  MockExecutor& mock() { return *mock_; }

 private:
  bool sees_;
  std::shared_ptr<std::uint32_t> encoded_ = std::make_shared<std::uint32_t>(0);
  MockExecutor* mock_ = nullptr;
  std::shared_ptr<RankGroup> group_;
  std::vector<std::unique_ptr<Engine>> engines_;
  std::vector<Collector> streams_;
  std::vector<std::pair<std::size_t, wire::GenerateRequest>> requests_;
  std::uint64_t last_id_ = 0;
};

class RankGroupTest : public ::testing::TestWithParam<bool> {};

TEST_P(RankGroupTest, EveryRankSeesItsOwnPictures) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Ranks ranks({.overlap = GetParam(), .sees = true});
    for (std::size_t rank = 0; rank < 3; ++rank) {
      ranks.SubmitMany(rank, seed, 10 + static_cast<int>(rank) * 5);
    }
    ranks.RunDry();
    ranks.ExpectOracles();
    EXPECT_GT(ranks.encoded(), 10U);
    EXPECT_LT(ranks.group().counters().joint_steps, ranks.engine(0).counters().steps +
                                                        ranks.engine(1).counters().steps +
                                                        ranks.engine(2).counters().steps);
  }
}

// A group that waits for a rank without work for ever would never end this.
TEST_P(RankGroupTest, EveryRankGetsItsAnswersWhateverTheOthersDo) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Ranks ranks({.overlap = GetParam(), .preemption = Preemption::kSwap});
    for (std::size_t rank = 0; rank < 3; ++rank) {
      ranks.SubmitMany(rank, seed, 10 + static_cast<int>(rank) * 15);
    }
    ranks.RunDry();
    ranks.ExpectOracles();
    std::uint64_t steps = 0;
    std::uint64_t preemptions = 0;
    std::uint64_t swapped_in = 0;
    for (std::size_t rank = 0; rank < 3; ++rank) {
      steps += ranks.engine(rank).counters().steps;
      preemptions += ranks.engine(rank).scheduler().counters().preemptions;
      swapped_in += ranks.engine(rank).scheduler().counters().swapped_in_blocks;
      ranks.engine(rank).CheckInvariants();
      EXPECT_EQ(ranks.engine(rank).counters().steps_ahead > 0, GetParam());
    }
    const RankGroupCounters counters = ranks.group().counters();
    EXPECT_EQ(counters.joint_steps * 3 - counters.idle_parts, steps);
    EXPECT_LT(counters.joint_steps, steps) << "several ranks had a part in one step";
    EXPECT_EQ(ranks.mock().call_count(), counters.joint_steps);
    EXPECT_EQ(counters.stragglers, 0U);
    EXPECT_GT(preemptions, 0U);
    EXPECT_GT(swapped_in, 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(OverlapOrNot, RankGroupTest, ::testing::Bool());

// A step of one token, whose logits are wanted.
struct OneToken {
  OneToken() {
    batch.token_ids = {1};
    batch.positions = {0};
    batch.slots = {0};
    batch.sequences = {{.token_begin = 0,
                        .token_count = 1,
                        .context_tokens = 1,
                        .block_begin = 0,
                        .block_count = 1}};
    batch.block_table = {0};
    batch.logit_rows = {0};
    logits.resize(kVocab);
  }

  kernels::StepBatch batch;
  std::vector<float> logits;
};

TEST(RankGroup, ARankWhoseStepHasEndedIsWaitedFor) {
  Ranks ranks({.rank_count = 2});
  StepExecutor& first = ranks.engine(0).executor();
  StepExecutor& second = ranks.engine(1).executor();
  OneToken steps[2];
  ASSERT_TRUE(first.Execute(steps[0].batch, steps[0].logits)) << "the other has nothing to do";
  EXPECT_EQ(ranks.group().counters().joint_steps, 1U);
  second.Begin(steps[1].batch, steps[1].logits);  // and now it waits for the first one's next
  first.Begin(steps[0].batch, steps[0].logits);
  ASSERT_TRUE(second.Wait());
  ASSERT_TRUE(first.Wait());
  EXPECT_EQ(ranks.group().counters().joint_steps, 2U);
  EXPECT_EQ(ranks.group().counters().idle_parts, 1U);
  EXPECT_EQ(steps[0].logits, steps[1].logits) << "the same token, each in its own block";
  first.Rest();
  ASSERT_TRUE(second.Execute(steps[1].batch, steps[1].logits)) << "the first has no more";
  EXPECT_EQ(ranks.group().counters().joint_steps, 3U);
  EXPECT_EQ(ranks.group().counters().stragglers, 0U);
}

TEST(RankGroup, ARankThatIsSlowIsWaitedForOnlySoLong) {
  Ranks ranks({.rank_count = 2, .patience = std::chrono::milliseconds(1)});
  ranks.Submit(1, MakeRequest(1, 4, 40));
  std::vector<wire::TokenFrame> frames;
  ranks.engine(1).Step(rt::Time{}, frames);  // and no step after it, nor a word that it rests
  ASSERT_TRUE(ranks.engine(1).has_work());
  ranks.Submit(0, MakeRequest(2, 4, 40));
  while (ranks.engine(0).has_work()) {
    ranks.engine(0).Step(rt::Time{}, frames);
  }
  EXPECT_EQ(ranks.group().counters().stragglers, 1U);
  while (ranks.engine(1).has_work()) {
    ranks.engine(1).Step(rt::Time{}, frames);
  }
  EXPECT_EQ(ranks.engine(1).counters().sampled_tokens, 40U);
}

TEST(RankGroup, ARankThatIsGoneIsWaitedForNoMore) {
  Ranks ranks({.rank_count = 2});
  ranks.Submit(1, MakeRequest(1, 4, 40));
  std::vector<wire::TokenFrame> frames;
  ranks.engine(1).Step(rt::Time{}, frames);
  ranks.DropEngine(1);
  ranks.Submit(0, MakeRequest(2, 4, 40));
  while (ranks.engine(0).has_work()) {
    ranks.engine(0).Step(rt::Time{}, frames);
  }
  EXPECT_EQ(ranks.engine(0).counters().sampled_tokens, 40U);
}

TEST(RankGroup, AFaultOfOneRankIsItsOwn) {
  for (const bool name_rows : {false, true}) {
    MockFaults faults;
    faults.poison_token = 55;
    faults.name_rows = name_rows;
    Ranks ranks({.faults = faults});
    for (std::size_t rank = 0; rank < 3; ++rank) {
      wire::GenerateRequest request = MakeRequest(rank + 1, 6, 20);
      ranks.Submit(rank, request);
    }
    wire::GenerateRequest poisoned = MakeRequest(9, 6, 20);
    poisoned.prompt.back() = 55;
    ASSERT_TRUE(ranks.engine(1).Submit(poisoned, rt::Time{}));
    ranks.RunDry();
    // The mock's own answers may hit the token, too: those fail alone as well.
    EXPECT_EQ(ranks.stream(1, 9).error->code(), Code::kModelFault);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      const wire::GenerateRequest request = MakeRequest(rank + 1, 6, 20);
      const MockChoice expected = MockStream(request, 0, kVocab, 128);
      ASSERT_TRUE(std::ranges::find(expected.tokens, 55) == expected.tokens.end());
      EXPECT_EQ(ranks.stream(rank, rank + 1).tokens, expected.tokens);
      EXPECT_FALSE(ranks.stream(rank, rank + 1).error);
    }
  }
}

TEST(RankGroup, MemoryGoesWhenTheLastRankGivesItBack) {
  Ranks ranks({.rank_count = 2});
  const MemoryParts kv{.kv_cache = true};
  ASSERT_TRUE(ranks.engine(0).Release(kv));
  EXPECT_FALSE(ranks.mock().released().kv_cache);
  ranks.Submit(1, MakeRequest(1, 4, 8));
  ranks.RunDry();
  ASSERT_TRUE(ranks.engine(1).Release(kv));
  EXPECT_TRUE(ranks.mock().released().kv_cache);
  ASSERT_TRUE(ranks.engine(1).Restore(kv));
  EXPECT_FALSE(ranks.mock().released().kv_cache);
  ranks.Submit(1, MakeRequest(2, 4, 8));
  ranks.RunDry();
  ASSERT_TRUE(ranks.engine(0).Restore(kv));
  ranks.Submit(0, MakeRequest(3, 4, 8));
  ranks.RunDry();
  ranks.ExpectOracles();
}

TEST(RankGroup, WhatCannotBeGivenBackStays) {
  MockFaults faults;
  faults.refuse_release = true;
  Ranks ranks({.rank_count = 2, .faults = faults});
  const MemoryParts kv{.kv_cache = true};
  ASSERT_TRUE(ranks.engine(0).Release(kv));
  EXPECT_FALSE(ranks.engine(1).Release(kv));
  EXPECT_FALSE(ranks.engine(1).asleep());
  ASSERT_TRUE(ranks.engine(0).Restore(kv));
  ranks.Submit(0, MakeRequest(1, 4, 8));
  ranks.RunDry();
  ranks.ExpectOracles();
}

TEST(RankGroup, EachRankHasItsOwnAdapters) {
  Ranks ranks({.rank_count = 3, .adapter_slots = 1});
  for (std::size_t rank = 0; rank < 3; ++rank) {
    if (rank != 1) {
      const std::string name = "adapter-" + std::to_string(rank);
      ASSERT_TRUE(ranks.engine(rank).LoadAdapter(name, std::make_shared<MockAdapter>(name), false));
    }
    for (std::uint64_t i = 0; i < 4; ++i) {
      wire::GenerateRequest request = MakeRequest(rank * 10 + i + 1, 9, 20);
      if (rank != 1 && i % 2 == 0) {
        request.adapter = "adapter-" + std::to_string(rank);
      }
      ranks.Submit(rank, request);
    }
  }
  ranks.RunDry();
  ranks.ExpectOracles();
}

TEST(RankGroup, BalancedRanksAnswerTheSameAndAllOfThem) {
  Ranks ranks({.balance = {.enable = true, .timeout_steps = 6, .batching_steps = 3}});
  for (std::size_t rank = 0; rank < 3; ++rank) {
    ranks.SubmitMany(rank, rank, 30);
  }
  ranks.RunDry();
  ranks.ExpectOracles();
}

TEST(RankGroup, WhatCannotBeCutIsRefused) {
  auto mock = [] {
    return std::make_unique<MockExecutor>(MockOptions{.limits = {.vocab_size = kVocab,
                                                                 .context_tokens_max = 128,
                                                                 .block_tokens = 4,
                                                                 .block_count = 3,
                                                                 .step_tokens_max = 64,
                                                                 .step_logit_rows_max = 64},
                                                      .timing = {},
                                                      .faults = {}});
  };
  EXPECT_EQ(RankGroup::Create(mock(), {.rank_count = 4}).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(RankGroup::Create(mock(), {.rank_count = 0}).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(RankGroup::Create(mock(), {.rank_count = RankGroup::kRankCountMax + 1}).error().code(),
            Code::kInvalidArgument);
  EXPECT_TRUE(RankGroup::Create(mock(), {.rank_count = 3}));
}

}  // namespace
}  // namespace pixii::engine::testing
