#include "frontend/fleet/prefill_link.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "unit/frontend/fleet/fleet_fixture.h"

namespace pixii::frontend {
namespace {

using testing::MakeMockRequest;

constexpr std::uint64_t kPrefill = 100;  // numbers of prefill workers begin here

// Prefill and decode workers in virtual time; blocks move between their caches.
class PrefillLinkTest : public FleetFixture {
 protected:
  void StartBoth(std::uint64_t prefill, std::uint64_t decode, PrefillOptions options = {},
                 FleetOptions fleet = {}) {
    handover_.exchange = &exchange_;
    for (std::uint64_t number = 1; number <= decode; ++number) {
      StartWorker(number);
    }
    for (std::uint64_t number = 1; number <= prefill; ++number) {
      StartWorker(kPrefill + number);
    }
    const wire::ModelCard card = instances_.begin()->second.card;
    fleet.client.mux.name = "frontend";
    FleetOptions of_prefill = fleet;
    of_prefill.patience = rt::Duration::zero();
    prefill_ =
        std::make_unique<FleetLink>(frontend_.loop(), frontend_.net(), card, std::move(of_prefill));
    fleet_ = std::make_unique<FleetLink>(frontend_.loop(), frontend_.net(), card, std::move(fleet));
    for (const auto& [number, instance] : instances_) {
      ASSERT_TRUE((number > kPrefill ? *prefill_ : *fleet_).SetInstance(instance));
    }
    link_ = std::make_unique<PrefillLink>(frontend_.loop(), *prefill_, *fleet_, options, nullptr);
    RunUntil(
        [&] { return prefill_->worker_count() == prefill && fleet_->worker_count() == decode; });
  }

  void Ask(const wire::GenerateRequest& request) {
    const std::uint64_t id = Raw(request.id);
    ASSERT_TRUE(link_->Generate(request, [this, id](wire::TokenFrame frame) {
      EXPECT_EQ(Raw(frame.id), id);
      Received& received = received_[id];
      EXPECT_FALSE(received.ends.contains(frame.choice)) << "a frame after the end";
      std::vector<TokenId>& tokens = received.tokens[frame.choice];
      tokens.insert(tokens.end(), frame.tokens.begin(), frame.tokens.end());
      if (frame.served_by) {
        received.served_by.push_back(*frame.served_by);
      }
      if (frame.finish) {
        received.ends.emplace(frame.choice, std::move(frame));
      }
    }));
  }

  wire::GenerateRequest LongRequest(std::uint64_t id, std::uint32_t max_tokens = 20,
                                    std::uint32_t choices = 1) {
    wire::GenerateRequest request = MakeMockRequest(id, max_tokens, choices);
    for (int i = 0; i < 40; ++i) {
      request.prompt.push_back(
          static_cast<TokenId>((id + 7U * static_cast<unsigned>(i)) % testing::kMockVocab));
    }
    return request;
  }

  std::uint64_t Paths(PrefillPath path) { return link_->paths()[static_cast<std::size_t>(path)]; }

  std::uint64_t Ends(std::uint64_t number, kv::HandoverState state) {
    const kv::HandoverCounters& counters = workers_[number]->handover->counters();
    return (number > kPrefill ? counters.offer_ends
                              : counters.load_ends)[static_cast<std::size_t>(state)];
  }

  /// Nothing is kept, on its way or pinned anywhere.
  void ExpectQuiet() {
    RunUntil([&] {
      return std::ranges::all_of(workers_, [](const auto& one) {
        const kv::HandoverCounters& counters = one.second->handover->counters();
        return counters.offers == 0 && counters.offered_blocks == 0 &&
               counters.loads_running == 0 && one.second->link.load().blocks_used == 0 &&
               one.second->service.request_count() == 0 &&
               one.second->handover_link->outstanding_count() == 0;
      });
    });
    EXPECT_EQ(link_->outstanding_count(), 0U);
  }

  /// Ends every worker and what speaks to them; StartBoth begins anew.
  void EndAll() {
    link_.reset();
    prefill_.reset();
    fleet_.reset();
    received_.clear();
    instances_.clear();
    while (!workers_.empty()) {
      Kill(workers_.begin()->first);
    }
  }

  void TearDown() override {  // agents go before the exchange that they meet at
    link_.reset();
    prefill_.reset();
    fleet_.reset();
    workers_.clear();
    dead_.clear();
  }

  std::unique_ptr<FleetLink> prefill_;
  std::unique_ptr<PrefillLink> link_;
};

TEST_F(PrefillLinkTest, AnswersAreThoseOfOneWorkerAndTheirBlocksMove) {
  StartBoth(1, 1);
  for (std::uint64_t id = 1; id <= 6; ++id) {
    const wire::GenerateRequest request = LongRequest(id, 20, 1 + id % 3);
    Ask(request);
    RunToEnd(request);
    ExpectOracle(request);
  }
  EXPECT_EQ(Paths(PrefillPath::kPrefill), 6U);
  EXPECT_EQ(Ends(1, kv::HandoverState::kDone), 6U);
  EXPECT_EQ(Ends(kPrefill + 1, kv::HandoverState::kDone), 6U);
  const kv::HandoverCounters& counters = workers_[1]->handover->counters();
  const std::size_t block = testing::MakeMockEngine()->executor().block_bytes(0).size();
  EXPECT_EQ(counters.loaded_bytes, 6 * 11 * block) << "46 tokens are 11 whole blocks of 4";
  EXPECT_EQ(counters.chunks, 6U * 6U) << "of 8 tokens each";
  ExpectQuiet();
}

TEST_F(PrefillLinkTest, WhatTheDecodeWorkerHasDoesNotMoveAgain) {
  StartBoth(1, 1);
  const wire::GenerateRequest first = LongRequest(1);
  Ask(first);
  RunToEnd(first);
  wire::GenerateRequest second = LongRequest(1);
  second.id = RequestId{2};
  for (int i = 0; i < 8; ++i) {
    second.prompt.push_back(i);
  }
  const std::uint64_t before = workers_[1]->handover->counters().loaded_bytes;
  Ask(second);
  RunToEnd(second);
  ExpectOracle(second);
  const std::size_t block = testing::MakeMockEngine()->executor().block_bytes(0).size();
  EXPECT_EQ(workers_[1]->handover->counters().loaded_bytes - before, 2 * block);
  ExpectQuiet();
}

TEST_F(PrefillLinkTest, BlocksMoveWhileThePromptIsComputed) {
  handover_.pipelined = true;
  engine_options_.batch_tokens_max = 8;  // 46 tokens in six steps
  StartBoth(1, 2);
  const wire::GenerateRequest request = LongRequest(1, 20, 2);
  Ask(request);
  const auto early = [&] {
    return workers_[1]->handover->counters().early_blocks +
           workers_[2]->handover->counters().early_blocks;
  };
  RunUntil([&] { return early() >= 2; });
  EXPECT_TRUE(received_[1].tokens[0].empty()) << "they came before the first token";
  RunToEnd(request);
  ExpectOracle(request);
  const std::uint64_t one = workers_[1]->handover->counters().early_blocks > 0 ? 1 : 2;
  EXPECT_EQ(early(), workers_[one]->handover->counters().early_blocks) << "at one of the two";
  const std::size_t block = testing::MakeMockEngine()->executor().block_bytes(0).size();
  EXPECT_EQ(workers_[one]->handover->counters().loaded_bytes, 11 * block) << "each moved once";
  EXPECT_EQ(workers_[3 - one]->handover->counters().loaded_bytes, 0U);
  ASSERT_EQ(received_[1].served_by.size(), 2U);
  EXPECT_EQ(received_[1].served_by[1].worker, static_cast<std::uint64_t>(instances_[one].id))
      << "who has them decodes";
  EXPECT_EQ(workers_[kPrefill + 1]->handover->counters().early_offers, 1U);
  EXPECT_EQ(Ends(kPrefill + 1, kv::HandoverState::kDone), 1U);
  EXPECT_EQ(Paths(PrefillPath::kNoRecord), 0U);
  ExpectQuiet();
}

TEST_F(PrefillLinkTest, WhatIsNotOfferedEarlyMovesAtTheEnd) {
  engine_options_.batch_tokens_max = 8;
  StartBoth(1, 1);
  const wire::GenerateRequest request = LongRequest(1);
  Ask(request);
  RunToEnd(request);
  ExpectOracle(request);
  EXPECT_EQ(workers_[1]->handover->counters().early_blocks, 0U);
  EXPECT_EQ(Ends(1, kv::HandoverState::kDone), 1U);
}

TEST_F(PrefillLinkTest, ADeathWhileBlocksMoveCostsTimeAlone) {
  handover_.pipelined = true;
  engine_options_.batch_tokens_max = 8;
  for (const bool of_prefill : {true, false}) {
    for (const int after_us : {1500, 2500, 3500, 4500, 5500, 7000}) {
      StartBoth(1, 2);
      const wire::GenerateRequest request = LongRequest(1);
      Ask(request);
      const rt::Time due = world_.now() + std::chrono::microseconds(after_us);
      world_.RunUntil([] { return false; }, due);
      Kill(of_prefill ? kPrefill + 1 : workers_[1]->link.outstanding_count() > 0 ? 1 : 2);
      RunToEnd(request);
      ExpectOracle(request);
      ExpectQuiet();
      EndAll();
    }
  }
}

TEST_F(PrefillLinkTest, ACancelWhileBlocksMoveLeavesNothing) {
  handover_.pipelined = true;
  engine_options_.batch_tokens_max = 8;
  StartBoth(1, 1);
  for (std::uint64_t id = 1; id <= 60; ++id) {
    const wire::GenerateRequest request = LongRequest(id, 20, 1 + id % 2);
    Ask(request);
    world_.RunUntil([] { return false; }, world_.now() + std::chrono::microseconds(id * 200));
    link_->Cancel({request.id, std::nullopt});
    RunToEnd(request);
    ExpectQuiet();
  }
  EXPECT_GT(workers_[kPrefill + 1]->handover->counters().early_offers, 10U);
  EXPECT_GT(Ends(kPrefill + 1, kv::HandoverState::kCancelled), 0U);
}

TEST_F(PrefillLinkTest, WhoDecodesIsAskedFirstAndGetsWhatItLacks) {
  StartBoth(1, 2, {.decode_first = true});
  const wire::GenerateRequest first = LongRequest(1);
  Ask(first);
  RunToEnd(first);
  ExpectOracle(first);
  EXPECT_EQ(Paths(PrefillPath::kPrefill), 1U);
  const std::size_t block = testing::MakeMockEngine()->executor().block_bytes(0).size();
  const auto loaded = [&](std::uint64_t number) {
    return workers_[number]->handover->counters().loaded_bytes.load();
  };
  EXPECT_EQ(loaded(1) + loaded(2), 11 * block);
  const std::uint64_t one = loaded(1) > 0 ? 1 : 2;
  ASSERT_EQ(received_[1].served_by.size(), 2U);
  EXPECT_EQ(received_[1].served_by[1].worker, static_cast<std::uint64_t>(instances_[one].id));
  // Whoever has all of it is not sent to a prefill worker, which would not be known without asking:
  // this router does not look at caches.
  for (std::uint64_t id = 2; id <= 5; ++id) {
    wire::GenerateRequest again = LongRequest(1);
    again.id = RequestId{id};
    Ask(again);
    RunToEnd(again);
    ExpectOracle(again);
  }
  EXPECT_EQ(Paths(PrefillPath::kPrefill) + Paths(PrefillPath::kShort), 5U);
  EXPECT_GT(Paths(PrefillPath::kShort), 0U);
  EXPECT_LE(Paths(PrefillPath::kPrefill), 2U) << "once for each that decodes";
  ExpectQuiet();
}

TEST_F(PrefillLinkTest, AnAskedWorkerThatDiesOrAClientThatLeavesCostsNothing) {
  for (const bool pipelined : {false, true}) {
    handover_.pipelined = pipelined;
    engine_options_.batch_tokens_max = 8;
    StartBoth(1, 2, {.decode_first = true});
    for (std::uint64_t id = 1; id <= 40; ++id) {
      const wire::GenerateRequest request = LongRequest(id, 20, 1 + id % 2);
      Ask(request);
      world_.RunUntil([] { return false; }, world_.now() + std::chrono::microseconds(id * 150));
      link_->Cancel({request.id, std::nullopt});
      RunToEnd(request);
      ExpectQuiet();
    }
    const wire::GenerateRequest request = LongRequest(50);
    Ask(request);
    RunUntil([&] { return Busy() != 0 && Busy() < kPrefill; });
    Kill(Busy());
    RunToEnd(request);
    ExpectOracle(request);
    ExpectQuiet();
    EndAll();
  }
}

TEST_F(PrefillLinkTest, WithoutAPrefillWorkerTheOtherComputes) {
  StartBoth(0, 1);
  const wire::GenerateRequest request = LongRequest(1);
  Ask(request);
  RunToEnd(request);
  ExpectOracle(request);
  EXPECT_EQ(Paths(PrefillPath::kNoWorker), 1U);
}

TEST_F(PrefillLinkTest, WithoutOneAndWithoutFallbackItIsRefused) {
  StartBoth(0, 1, {.fallback = false});
  const Result<void> taken = link_->Generate(LongRequest(1), [](const wire::TokenFrame&) {});
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code(), Code::kUnavailable);
}

TEST_F(PrefillLinkTest, ADeathOfThePrefillWorkerCostsTimeAlone) {
  for (const int after_us : {0, 500, 1500, 3000, 8000}) {
    StartBoth(1, 1);
    const wire::GenerateRequest request = LongRequest(1);
    Ask(request);
    const rt::Time due = world_.now() + std::chrono::microseconds(after_us);
    world_.RunUntil([] { return false; }, due);
    Kill(kPrefill + 1);
    RunToEnd(request);
    ExpectOracle(request);
    ExpectQuiet();
    EndAll();
  }
}

TEST_F(PrefillLinkTest, ADeathOfTheDecodeWorkerIsAMoveToAnother) {
  StartBoth(1, 2);
  const wire::GenerateRequest request = LongRequest(1, 30);
  Ask(request);
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  Kill(workers_[1]->link.outstanding_count() > 0 ? 1 : 2);
  RunToEnd(request);
  ExpectOracle(request);
  ExpectQuiet();
}

TEST_F(PrefillLinkTest, ACancelReachesBothAtAnyTime) {
  StartBoth(1, 1);
  for (std::uint64_t id = 1; id <= 40; ++id) {
    const wire::GenerateRequest request = LongRequest(id, 20, 1 + id % 2);
    Ask(request);
    world_.RunUntil([] { return false; }, world_.now() + std::chrono::microseconds(id * 400));
    link_->Cancel({request.id, std::nullopt});
    RunToEnd(request);
    ExpectQuiet();
  }
  EXPECT_GT(Ends(kPrefill + 1, kv::HandoverState::kDone) +
                Ends(kPrefill + 1, kv::HandoverState::kCancelled),
            0U);
}

TEST_F(PrefillLinkTest, WhatNobodyFetchesIsKeptForItsLeaseAlone) {
  handover_.timeout = std::chrono::seconds(5);
  StartBoth(1, 1);
  wire::GenerateRequest request = LongRequest(1);
  request.prefill_only = true;
  request.stop.max_tokens = 1;
  std::string record;
  std::optional<wire::FinishReason> finish;
  ASSERT_TRUE(prefill_->Generate(request, [&](const wire::TokenFrame& frame) {
    record += frame.handover;
    finish = frame.finish;
  }));
  RunUntil([&] { return !record.empty(); });
  const rt::Time offered = world_.now();
  EXPECT_FALSE(finish) << "its stream stands for what is kept";
  EXPECT_EQ(workers_[kPrefill + 1]->handover->counters().offered_blocks, 11U);
  RunUntil([&] { return finish.has_value(); });
  EXPECT_NEAR(std::chrono::duration<double>(world_.now() - offered).count(), 5, 0.1);
  EXPECT_EQ(Ends(kPrefill + 1, kv::HandoverState::kExpired), 1U);
  ExpectQuiet();
}

TEST_F(PrefillLinkTest, AFrontendThatDiesKeepsNothingPinned) {
  StartBoth(1, 1);
  wire::GenerateRequest request = LongRequest(1);
  request.prefill_only = true;
  request.stop.max_tokens = 1;
  bool offered = false;
  ASSERT_TRUE(prefill_->Generate(
      request, [&](const wire::TokenFrame& frame) { offered |= !frame.handover.empty(); }));
  RunUntil([&] { return offered; });
  link_.reset();
  prefill_.reset();
  link_ =
      std::make_unique<PrefillLink>(frontend_.loop(), *fleet_, *fleet_, PrefillOptions{}, nullptr);
  ExpectQuiet();
}

TEST_F(PrefillLinkTest, ARecordOfOtherTokensIsOfNoUse) {
  StartBoth(1, 1);
  wire::GenerateRequest first = LongRequest(1);
  first.prefill_only = true;
  first.stop.max_tokens = 1;
  std::string record;
  ASSERT_TRUE(
      prefill_->Generate(first, [&](const wire::TokenFrame& frame) { record += frame.handover; }));
  RunUntil([&] { return !record.empty(); });
  wire::GenerateRequest other = LongRequest(2);
  other.handover = record;
  Ask(other);
  RunToEnd(other);
  ExpectOracle(other);
  EXPECT_EQ(workers_[1]->handover->counters().refused_records, 1U);
  EXPECT_EQ(workers_[1]->handover->counters().loaded_bytes, 0U);
  wire::GenerateRequest changed = LongRequest(1);
  changed.id = RequestId{3};
  changed.handover = record;
  changed.handover[record.size() / 2] ^= 1;
  Ask(changed);
  RunToEnd(changed);
  ExpectOracle(changed);
  EXPECT_EQ(workers_[1]->handover->counters().refused_records, 2U);
}

}  // namespace
}  // namespace pixii::frontend
