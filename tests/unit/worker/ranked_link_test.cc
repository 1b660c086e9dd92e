#include "worker/ranked_link.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/remote_link.h"
#include "engine/mock_executor.h"
#include "rt/sim_world.h"
#include "support/worker_process.h"
#include "worker/worker_service.h"

namespace pixii::worker {
namespace {

using pixii::testing::MakeMockRequest;

constexpr std::uint32_t kVocab = pixii::testing::kMockVocab;
constexpr std::uint32_t kContext = 2048;
constexpr std::uint32_t kPlaces = 4;  // sequences of a step of a rank
constexpr rt::Duration kStep = std::chrono::milliseconds(1);

// A mock whose device can be taken away.
class Device final : public engine::StepExecutor {
 public:
  explicit Device(const engine::MockOptions& options) : mock_(options) {}

  engine::ExecutorLimits limits() const override { return mock_.limits(); }

  Result<void> Execute(const kernels::StepBatch& batch, std::span<float> logits) override {
    if (gone) {
      return Fail(Code::kUnavailable, "the device is gone");
    }
    return mock_.Execute(batch, logits);
  }

  Result<void> SetAdapter(std::uint32_t slot, const engine::AdapterWeights* weights) override {
    return mock_.SetAdapter(slot, weights);
  }

  Result<void> Release(const engine::MemoryParts& parts) override { return mock_.Release(parts); }

  Result<void> Restore(const engine::MemoryParts& parts) override { return mock_.Restore(parts); }

  std::int64_t virtual_time_ns() const override { return mock_.virtual_time_ns(); }

  const engine::MemoryParts& released() const { return mock_.released(); }

  bool gone = false;

 private:
  engine::MockExecutor mock_;
};

struct Received {
  std::map<std::uint32_t, std::vector<TokenId>> tokens;  // by choice
  std::map<std::uint32_t, wire::TokenFrame> ends;
  std::map<std::uint32_t, std::uint32_t> rank;  // by choice, as its first frame said
  std::map<std::uint32_t, rt::Time> first;      // by choice, when it came
};

class RankedLinkTest : public ::testing::Test {
 protected:
  struct Setup {
    std::uint32_t ranks = 2;
    RankPlacementOptions placement = {};
    std::uint32_t waiting_max = 1024;
    RankMode mode = RankMode::kStrict;
    std::uint32_t blocks = 2048;
    std::optional<std::uint32_t> refuses_release = {};  // a rank
    std::optional<std::uint32_t> loads_nothing = {};    // a rank
    bool adapters = false;  // they are read on threads, so on a real loop
  };

  void Start(const Setup& setup) {
    if (setup.adapters) {
      real_loop_ = std::move(*rt::MakeLoop());
    }
    std::vector<std::unique_ptr<LocalLink>> links;
    for (std::uint32_t rank = 0; rank < setup.ranks; ++rank) {
      engine::MockOptions mock{.limits = {.vocab_size = kVocab,
                                          .context_tokens_max = kContext,
                                          .block_tokens = 4,
                                          .block_count = setup.blocks,
                                          .step_tokens_max = 64,
                                          .step_logit_rows_max = 64,
                                          .adapter_slots = 2},
                               .timing = {.step_ns = kStep.count()},
                               .faults = {}};
      mock.faults.refuse_release = setup.refuses_release == rank;
      auto device = std::make_unique<Device>(mock);
      devices_.push_back(device.get());
      auto engine = engine::Engine::Create({.batch_sequences_max = kPlaces,
                                            .batch_tokens_max = 64,
                                            .queue_length_max = 64,
                                            .adapters = {.slot_count = 2},
                                            .kv_event_count_max = 4096},
                                           std::move(device));
      ASSERT_TRUE(engine) << engine.error().ToString();
      loops_.push_back(std::make_unique<engine::EngineLoop>(loop(), std::move(*engine)));
      LocalLinkOptions options{.name = "mock", .eos_token_ids = {}};
      if (setup.adapters) {
        options.adapters.read = [broken = setup.loads_nothing == rank](const std::string& source)
            -> Result<std::shared_ptr<const engine::AdapterWeights>> {
          if (broken) {
            return Fail(Code::kResourceExhausted, "no memory");
          }
          return std::make_shared<const engine::MockAdapter>(source);
        };
      }
      links.push_back(std::make_unique<LocalLink>(loop(), *loops_.back(), std::move(options)));
    }
    link_ = std::make_unique<RankedLink>(
        loop(), std::move(links),
        RankedLinkOptions{
            .mode = setup.mode,
            .max_wait = std::chrono::milliseconds(30),
            .placement = setup.placement,
            .waiting_max = setup.waiting_max,
            .on_unknown_rank = [this](std::uint32_t rank) { unknown_.push_back(rank); },
            .on_dead_rank = [this](std::uint32_t rank, const Error&) { dead_.push_back(rank); }});
  }

  static wire::GenerateRequest At(std::uint32_t rank, wire::GenerateRequest request,
                                  std::optional<rt::Duration> wait = {}) {
    request.dp_rank = rank;
    request.dp_rank_wait_ns = wait ? wait->count() : -1;
    return request;
  }

  Result<void> Generate(const wire::GenerateRequest& request) {
    const std::uint64_t id = Raw(request.id);
    return link_->Generate(request, [this, id](const wire::TokenFrame& frame) {
      Received& received = received_[id];
      EXPECT_EQ(Raw(frame.id), id);
      EXPECT_FALSE(received.ends.contains(frame.choice)) << "a frame after the end";
      if (received.rank.contains(frame.choice)) {
        EXPECT_FALSE(frame.dp_rank);
      } else if (frame.dp_rank) {
        received.rank[frame.choice] = *frame.dp_rank;
        received.first[frame.choice] = world_.now();
      }
      std::vector<TokenId>& tokens = received.tokens[frame.choice];
      tokens.insert(tokens.end(), frame.tokens.begin(), frame.tokens.end());
      if (frame.finish) {
        received.ends[frame.choice] = frame;
      }
    });
  }

  // Runs `request` to its end.
  void Run(const wire::GenerateRequest& request) {
    ASSERT_TRUE(Generate(request));
    RunUntil([&] { return Ended(request); });
  }

  bool Ended(const wire::GenerateRequest& request) {
    return received_[Raw(request.id)].ends.size() == request.choice_count;
  }

  rt::Loop& loop() { return real_loop_ ? *real_loop_ : node_.loop(); }

  void StopWhen(const std::function<bool()>& done) {
    if (done()) {
      real_loop_->Stop();
    } else {
      real_loop_->RunAt(real_loop_->Now() + kStep, [this, &done] { StopWhen(done); });
    }
  }

  void RunUntil(const std::function<bool()>& done) {
    if (real_loop_) {
      real_loop_->Post([this, &done] { StopWhen(done); });
      real_loop_->Run();
      return;
    }
    ASSERT_EQ(world_.RunUntil(done, world_.now() + std::chrono::minutes(5)), rt::SimEnd::kDone);
  }

  void RunFor(rt::Duration duration) { world_.RunTo(world_.now() + duration); }

  void ExpectOracle(const wire::GenerateRequest& request) {
    for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
      const engine::MockChoice expected = engine::MockStream(request, choice, kVocab, kContext);
      EXPECT_EQ(received_[Raw(request.id)].tokens[choice], expected.tokens)
          << "request " << Raw(request.id) << " choice " << choice;
      EXPECT_EQ(received_[Raw(request.id)].ends[choice].finish, expected.finish);
    }
  }

  std::uint32_t RankOf(std::uint64_t id) { return received_[id].rank.at(0); }

  // Rank 0 is full with requests of `tokens` tokens from then on.
  std::vector<wire::GenerateRequest> Saturate(std::uint32_t tokens) {
    std::vector<wire::GenerateRequest> requests;
    for (std::uint64_t i = 0; i < kPlaces; ++i) {
      requests.push_back(At(0, MakeMockRequest(1000 + i, tokens)));
      EXPECT_TRUE(Generate(requests.back()));
    }
    RunFor(5 * kStep);
    EXPECT_EQ(link_->rank_loads()[0].running, kPlaces);
    return requests;
  }

  Result<void> Wait(const std::function<void(control::WorkerLink::MemoryHandler)>& call) {
    std::optional<Result<void>> answer;
    call([&](Result<void> result) { answer = std::move(result); });
    RunUntil([&] { return answer.has_value(); });
    return answer.value_or(Fail(Code::kInternal, "no answer"));
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 5}};
  rt::SimNode& node_ = world_.AddNode("worker");
  std::unique_ptr<rt::Loop> real_loop_;
  std::vector<Device*> devices_;
  std::vector<std::unique_ptr<engine::EngineLoop>> loops_;
  std::unique_ptr<RankedLink> link_;
  std::map<std::uint64_t, Received> received_;
  std::vector<std::uint32_t> unknown_;
  std::vector<std::uint32_t> dead_;
};

TEST_F(RankedLinkTest, RequestsSpreadAndSayWhereTheyRun) {
  Start({.ranks = 3});
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 9; ++id) {
    requests.push_back(MakeMockRequest(id, 20, 1 + id % 2));
    ASSERT_TRUE(Generate(requests.back()));
  }
  std::map<std::uint32_t, int> at;
  for (const wire::GenerateRequest& request : requests) {
    RunUntil([&] { return Ended(request); });
    ExpectOracle(request);
    ++at[RankOf(Raw(request.id))];
  }
  EXPECT_EQ(at.size(), 3U);
  EXPECT_EQ(link_->outstanding_count(), 0U);
}

TEST_F(RankedLinkTest, ARankThatIsNamedIsTheOneThatComputes) {
  Start({.ranks = 3});
  for (std::uint32_t rank = 0; rank < 3; ++rank) {
    const wire::GenerateRequest request = At(rank, MakeMockRequest(rank + 1, 5, 2));
    Run(request);
    ExpectOracle(request);
    EXPECT_EQ(RankOf(rank + 1), rank);
    EXPECT_EQ(received_[rank + 1].rank.at(1), rank);
    EXPECT_GT(link_->rank_loads()[rank].steps, 0U);
  }
}

TEST_F(RankedLinkTest, ARankThatDoesNotExistIsSaidAndTheRequestAnswered) {
  Start({});
  const wire::GenerateRequest request = At(7, MakeMockRequest(1, 5));
  Run(request);
  ExpectOracle(request);
  EXPECT_EQ(unknown_, std::vector<std::uint32_t>{7});
  EXPECT_LT(RankOf(1), 2U);
}

TEST_F(RankedLinkTest, StrictWaitsForItsRankThoughAnotherIdles) {
  Start({});
  const auto busy = Saturate(200);
  const wire::GenerateRequest request = At(0, MakeMockRequest(1, 5));
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return Ended(busy[0]); });
  EXPECT_FALSE(received_[1].rank.contains(0)) << "it waits";
  EXPECT_EQ(link_->rank_loads()[1].steps, 0U);
  RunUntil([&] { return Ended(request); });
  EXPECT_EQ(RankOf(1), 0U);
  ExpectOracle(request);
}

TEST_F(RankedLinkTest, RelaxedMovesAfterItsWait) {
  Start({});
  Saturate(1000);
  const rt::Time begin = world_.now();
  const wire::GenerateRequest request =
      At(0, MakeMockRequest(1, 5), std::chrono::milliseconds(100));
  ASSERT_TRUE(Generate(request));
  EXPECT_EQ(link_->waiting_count(), 1U);
  EXPECT_EQ(link_->rank_loads()[0].queued, 1U);
  RunUntil([&] { return Ended(request); });
  EXPECT_EQ(RankOf(1), 1U);
  ExpectOracle(request);
  const rt::Duration waited = received_[1].first[0] - begin;
  EXPECT_GE(waited, std::chrono::milliseconds(100));
  EXPECT_LT(waited, std::chrono::milliseconds(110));
}

TEST_F(RankedLinkTest, RelaxedStaysIfAPlaceIsFreeInTime) {
  Start({});
  Saturate(50);
  const wire::GenerateRequest request =
      At(0, MakeMockRequest(1, 5), std::chrono::milliseconds(400));
  const rt::Time begin = world_.now();
  Run(request);
  EXPECT_EQ(RankOf(1), 0U);
  EXPECT_LT(received_[1].first[0] - begin, std::chrono::milliseconds(100));
}

TEST_F(RankedLinkTest, AWorkerMayRelaxWhatRequestsAskFor) {
  Start({.mode = RankMode::kRelaxed});
  Saturate(1000);
  const rt::Time begin = world_.now();
  Run(At(0, MakeMockRequest(1, 5)));
  EXPECT_EQ(RankOf(1), 1U);
  EXPECT_GE(received_[1].first[0] - begin, std::chrono::milliseconds(30));
  Run(At(0, MakeMockRequest(2, 5), std::chrono::milliseconds(60)));
  EXPECT_GE(received_[2].first[0] - begin, std::chrono::milliseconds(90)) << "its own wait counts";
}

TEST_F(RankedLinkTest, AWorkerMayChooseItself) {
  Start({.mode = RankMode::kNone});
  ASSERT_TRUE(Generate(At(1, MakeMockRequest(1, 300))));
  ASSERT_TRUE(Generate(At(1, MakeMockRequest(2, 300))));
  RunFor(10 * kStep);
  EXPECT_NE(RankOf(1), RankOf(2));
}

TEST_F(RankedLinkTest, WhoWaitsMayBeCancelledOrExpire) {
  Start({.waiting_max = 2});
  Saturate(1000);
  const wire::GenerateRequest cancelled =
      At(0, MakeMockRequest(1, 5, 2), std::chrono::milliseconds(100));
  wire::GenerateRequest late = At(0, MakeMockRequest(2, 5), std::chrono::milliseconds(100));
  late.deadline_left_ns = 20'000'000;
  ASSERT_TRUE(Generate(cancelled));
  ASSERT_TRUE(Generate(late));
  EXPECT_EQ(Generate(At(0, MakeMockRequest(3, 5), std::chrono::milliseconds(100))).error().code(),
            Code::kResourceExhausted);
  link_->Cancel({.id = RequestId{1}, .choice = 0});
  EXPECT_TRUE(received_[1].ends.empty());
  link_->Cancel({.id = RequestId{1}, .choice = 1});
  RunUntil([&] { return Ended(cancelled); });
  EXPECT_EQ(received_[1].ends[0].finish, wire::FinishReason::kCancelled);
  RunUntil([&] { return Ended(late); });
  EXPECT_EQ(received_[2].ends[0].error->code(), Code::kDeadlineExceeded);
  EXPECT_EQ(link_->waiting_count(), 0U);
  EXPECT_EQ(link_->outstanding_count(), kPlaces);
}

TEST_F(RankedLinkTest, AChoiceThatWasCancelledWhileItWaitedIsNotComputed) {
  Start({});
  Saturate(1000);
  const wire::GenerateRequest request =
      At(0, MakeMockRequest(1, 5, 2), std::chrono::milliseconds(50));
  ASSERT_TRUE(Generate(request));
  link_->Cancel({.id = RequestId{1}, .choice = 1});
  RunUntil([&] { return Ended(request); });
  EXPECT_EQ(received_[1].ends[0].finish, wire::FinishReason::kLength);
  EXPECT_EQ(received_[1].ends[1].finish, wire::FinishReason::kCancelled);
  EXPECT_TRUE(received_[1].tokens[1].empty());
}

TEST_F(RankedLinkTest, ADeadRankIsMaskedAndWhatItHadGoesOnElsewhere) {
  Start({.ranks = 3});
  std::vector<wire::KvEvent> events;
  ASSERT_TRUE(link_->WatchKvEvents([&](const std::vector<wire::KvEvent>& told) {
    events.insert(events.end(), told.begin(), told.end());
  }));
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 12; ++id) {
    wire::GenerateRequest request = MakeMockRequest(id, 10 + static_cast<std::uint32_t>(id) * 10,
                                                    1 + static_cast<std::uint32_t>(id % 3));
    request.sampling.temperature = id % 2 == 0 ? 0.0F : 1.0F;
    requests.push_back(At(static_cast<std::uint32_t>(id % 3), request));
    ASSERT_TRUE(Generate(requests.back()));
  }
  RunFor(40 * kStep);
  link_->Cancel({.id = RequestId{4}, .choice = 0});  // at rank 1
  events.clear();
  devices_[1]->gone = true;
  for (const wire::GenerateRequest& request : requests) {
    RunUntil([&] { return Ended(request); });
    if (Raw(request.id) != 4) {
      ExpectOracle(request);
    }
  }
  EXPECT_EQ(received_[4].ends[0].finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(received_[4].tokens[1], engine::MockStream(requests[3], 1, kVocab, kContext).tokens);
  EXPECT_EQ(dead_, std::vector<std::uint32_t>{1}) << "said once";
  EXPECT_EQ(link_->rank_loads()[1].state, control::WorkerState::kDead);
  EXPECT_EQ(link_->rank_loads()[0].state, control::WorkerState::kAwake);
  EXPECT_EQ(link_->load().state, control::WorkerState::kAwake) << "the worker serves on";
  const bool cleared = std::ranges::any_of(events, [](const wire::KvEvent& event) {
    return event.rank == 1 && event.kind == wire::KvEvent::Kind::kCleared && !event.blocks.size();
  });
  EXPECT_TRUE(cleared) << "routers look for none of its blocks any more";
  // Even a request that wants this rank and no other is answered.
  const wire::GenerateRequest strict = At(1, MakeMockRequest(50, 5));
  Run(strict);
  ExpectOracle(strict);
  EXPECT_NE(RankOf(50), 1U);
  EXPECT_EQ(link_->outstanding_count(), 0U);
}

TEST_F(RankedLinkTest, WithoutAnyRankLeftRequestsEnd) {
  Start({});
  const wire::GenerateRequest request = MakeMockRequest(1, 200);
  ASSERT_TRUE(Generate(request));
  RunFor(5 * kStep);
  devices_[0]->gone = devices_[1]->gone = true;
  RunUntil([&] { return Ended(request); });
  EXPECT_EQ(received_[1].ends[0].error->code(), Code::kUnavailable);
  EXPECT_EQ(dead_.size(), 2U);
  EXPECT_EQ(link_->load().state, control::WorkerState::kDead);
  EXPECT_EQ(Generate(MakeMockRequest(2, 5)).error().code(), Code::kUnavailable);
}

TEST_F(RankedLinkTest, EventsAreOfTheRankThatHoldsTheBlocksAndOfFullOnesOnly) {
  Start({});
  std::map<std::uint32_t, std::multiset<std::uint64_t>> held;
  std::size_t stored = 0;
  ASSERT_TRUE(link_->WatchKvEvents([&](const std::vector<wire::KvEvent>& events) {
    for (const wire::KvEvent& event : events) {
      for (const wire::KvBlock& block : event.blocks) {
        held[event.rank].insert(block.block_hash);
        ++stored;
      }
      for (const std::uint64_t hash : event.removed) {
        EXPECT_EQ(held[event.rank].erase(hash), 1U) << "a block that was never announced";
      }
    }
  }));
  RunFor(5 * kStep);
  wire::GenerateRequest request = At(1, MakeMockRequest(1, 1));
  request.prompt.assign(11, 3);  // two blocks of four, and three tokens
  Run(request);
  RunFor(5 * kStep);
  EXPECT_TRUE(held[0].empty());
  EXPECT_EQ(held[1].size(), 2U) << "a block that is not full is announced to nobody";
  request = At(0, MakeMockRequest(2, 1));
  request.prompt.assign(11, 3);
  Run(request);
  RunFor(5 * kStep);
  EXPECT_EQ(held[0], held[1]) << "the same prompt, the same names";
  EXPECT_EQ(stored, 4U);
}

TEST_F(RankedLinkTest, RemovalsNameOnlyWhatWasAnnounced) {
  Start({.blocks = 24});
  std::set<std::uint64_t> held[2];
  std::size_t removed = 0;
  ASSERT_TRUE(link_->WatchKvEvents([&](const std::vector<wire::KvEvent>& events) {
    for (const wire::KvEvent& event : events) {
      if (event.kind == wire::KvEvent::Kind::kCleared) {
        held[event.rank].clear();
      }
      for (const wire::KvBlock& block : event.blocks) {
        EXPECT_TRUE(held[event.rank].insert(block.block_hash).second);
      }
      for (const std::uint64_t hash : event.removed) {
        EXPECT_EQ(held[event.rank].erase(hash), 1U);
        ++removed;
      }
    }
  }));
  for (std::uint64_t id = 1; id <= 20; ++id) {
    wire::GenerateRequest request = MakeMockRequest(id, 30);
    request.prompt.assign(30 + id, static_cast<TokenId>(id));
    Run(request);
  }
  EXPECT_GT(removed, 20U);
}

TEST_F(RankedLinkTest, ASessionStaysWhenItsBlocksAreGone) {
  Start({.ranks = 4, .placement = {.session_affinity = true}, .blocks = 40});
  std::set<std::uint32_t> ranks;
  for (std::uint64_t turn = 0; turn < 5; ++turn) {
    wire::GenerateRequest request = MakeMockRequest(turn * 100 + 1, 5);
    request.session = "a conversation";
    Run(request);
    ranks.insert(RankOf(turn * 100 + 1));
    for (std::uint64_t i = 2; i < 14; ++i) {  // push its blocks out, everywhere
      wire::GenerateRequest other = MakeMockRequest(turn * 100 + i, 40);
      other.prompt.assign(60, static_cast<TokenId>(i));
      Run(other);
    }
  }
  EXPECT_EQ(ranks.size(), 1U);
  EXPECT_EQ(link_->session_count(), 1U);
}

TEST_F(RankedLinkTest, AllRanksSleepOrNone) {
  Start({});
  const control::MemoryTags kv{.kv_cache = true};
  ASSERT_TRUE(Wait([&](auto done) { link_->ReleaseMemory(kv, std::chrono::seconds(1), done); }));
  EXPECT_EQ(link_->load().state, control::WorkerState::kAsleep);
  EXPECT_TRUE(devices_[0]->released().kv_cache && devices_[1]->released().kv_cache);
  ASSERT_TRUE(Wait([&](auto done) { link_->ResumeMemory(kv, done); }));
  EXPECT_EQ(link_->load().state, control::WorkerState::kAwake);
  Run(MakeMockRequest(1, 5));
}

TEST_F(RankedLinkTest, IfOneRankCannotSleepTheOthersWakeUp) {
  Start({.refuses_release = 1});
  const control::MemoryTags kv{.kv_cache = true};
  EXPECT_FALSE(Wait([&](auto done) { link_->ReleaseMemory(kv, std::chrono::seconds(1), done); }));
  EXPECT_FALSE(devices_[0]->released().kv_cache);
  for (const control::WorkerLoad& load : link_->rank_loads()) {
    EXPECT_EQ(load.state, control::WorkerState::kAwake);
  }
  Run(At(0, MakeMockRequest(1, 5)));
}

TEST_F(RankedLinkTest, AnAdapterIsThereAtAllRanks) {
  Start({.adapters = true});
  std::optional<Result<wire::AdapterCard>> answer;
  link_->LoadAdapter({.name = "a", .source = "a"},
                     [&](const Result<wire::AdapterCard>& card) { answer = card; });
  RunUntil([&] { return answer.has_value(); });
  ASSERT_TRUE(*answer) << answer->error().ToString();
  EXPECT_EQ(link_->card().adapters.size(), 1U);
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    wire::GenerateRequest request = At(rank, MakeMockRequest(rank + 1, 8));
    request.adapter = "a";
    Run(request);
    ExpectOracle(request);
    EXPECT_EQ(RankOf(rank + 1), rank);
  }
  answer.reset();
  link_->UnloadAdapter("a", [&](const Result<wire::AdapterCard>& card) { answer = card; });
  RunUntil([&] { return answer.has_value(); });
  EXPECT_TRUE(*answer);
  wire::GenerateRequest request = At(1, MakeMockRequest(9, 8));
  request.adapter = "a";
  Run(request);
  EXPECT_EQ(received_[9].ends[0].error->code(), Code::kNotFound);
}

TEST_F(RankedLinkTest, AnAdapterThatOneRankCannotLoadIsAtNone) {
  Start({.loads_nothing = 1, .adapters = true});
  std::optional<Result<wire::AdapterCard>> answer;
  link_->LoadAdapter({.name = "a", .source = "a"},
                     [&](const Result<wire::AdapterCard>& card) { answer = card; });
  RunUntil([&] { return answer.has_value(); });
  EXPECT_EQ(answer->error().code(), Code::kResourceExhausted);
  RunUntil([&] { return link_->card().adapters.empty(); });
}

TEST_F(RankedLinkTest, AClosedLinkEndsWhatRunsAndWhatWaits) {
  Start({});
  const auto busy = Saturate(1000);
  const wire::GenerateRequest waiting =
      At(0, MakeMockRequest(1, 5), std::chrono::milliseconds(100));
  ASSERT_TRUE(Generate(waiting));
  link_->Close(Error(Code::kShuttingDown, "the worker ends"));
  EXPECT_TRUE(Ended(waiting) && Ended(busy[0]));
  EXPECT_EQ(received_[1].ends[0].error->code(), Code::kShuttingDown);
  EXPECT_EQ(link_->outstanding_count(), 0U);
  EXPECT_EQ(Generate(MakeMockRequest(2, 5)).error().code(), Code::kShuttingDown);
  EXPECT_TRUE(dead_.empty());
}

TEST_F(RankedLinkTest, ADrainingLinkTakesNothingNew) {
  Start({});
  const wire::GenerateRequest request = MakeMockRequest(1, 20);
  ASSERT_TRUE(Generate(request));
  link_->Drain();
  EXPECT_EQ(Generate(MakeMockRequest(2, 5)).error().code(), Code::kShuttingDown);
  RunUntil([&] { return Ended(request); });
  ExpectOracle(request);
}

TEST_F(RankedLinkTest, RanksAreSeenThroughTheWire) {
  Start({.ranks = 3});
  WorkerService service(node_.loop(), node_.net(), *link_, {.mux = {.name = "worker"}});
  ASSERT_TRUE(service.Start({.host = "0.0.0.0", .port = 7000}));
  rt::SimNode& frontend = world_.AddNode("frontend");
  control::RemoteLink remote(
      frontend.loop(), frontend.net(),
      {.address = {.host = "worker", .port = 7000}, .mux = {.name = "frontend"}}, {}, [] {});
  RunUntil([&] { return remote.state() == control::RemoteLink::State::kHere; });
  std::map<std::uint32_t, std::size_t> stored;  // by rank
  ASSERT_TRUE(remote.WatchKvEvents([&](const std::vector<wire::KvEvent>& events) {
    for (const wire::KvEvent& event : events) {
      stored[event.rank] += event.blocks.size();
    }
  }));
  std::optional<std::uint32_t> rank;
  bool ended = false;
  ASSERT_TRUE(remote.Generate(At(2, MakeMockRequest(1, 200)), [&](const wire::TokenFrame& frame) {
    rank = frame.dp_rank ? frame.dp_rank : rank;
    ended = ended || frame.finish.has_value();
  }));
  RunUntil([&] { return remote.rank_loads().size() == 3 && remote.rank_loads()[2].running == 1; });
  EXPECT_EQ(remote.rank_loads()[0].running, 0U);
  EXPECT_EQ(remote.load().running, 1U);
  RunUntil([&] { return ended && stored[2] >= 50; });
  EXPECT_EQ(rank, 2U);
  EXPECT_EQ(stored[0] + stored[1], 0U);
}

TEST_F(RankedLinkTest, LoadsAreSumsOverRanks) {
  Start({});
  Saturate(1000);
  ASSERT_TRUE(Generate(At(1, MakeMockRequest(1, 1000, 2))));
  RunFor(10 * kStep);
  EXPECT_EQ(link_->rank_loads()[1].running, 2U);
  EXPECT_EQ(link_->load().running, kPlaces + 2);
  EXPECT_EQ(link_->load().blocks_total, 2 * 2048U);
  EXPECT_EQ(link_->engine_load().running, kPlaces + 2);
  EXPECT_EQ(link_->engine_load().steps,
            link_->rank_loads()[0].steps + link_->rank_loads()[1].steps);
}

}  // namespace
}  // namespace pixii::worker
