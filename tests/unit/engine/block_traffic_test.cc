// Blocks that a connector brings and takes along: answers are the same whatever it does, and
// nothing stays pinned.
#include "engine/block_traffic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_loop.h"
#include "kv/connector_stack.h"
#include "rt/sim_world.h"
#include "unit/engine/engine_harness.h"

namespace pixii::engine::testing {
namespace {

/// What a store does beside storing, drawn anew each time.
struct Moods {
  std::uint32_t late_percent = 0;  // a load does not end in this Poll
  std::uint32_t fail_percent = 0;  // a load brings fewer blocks than it was asked for
  std::uint32_t hold_percent = 0;  // a pin is kept beyond this Poll
  std::uint64_t seed = 1;
};

/// All blocks there ever were, by their hashes. What it keeps outlives the engine.
struct Store {
  Moods moods;
  std::map<Hash128, std::vector<std::byte>> blocks;
  std::uint32_t loads = 0;
  std::uint32_t cancels = 0;
  std::vector<std::size_t> finished;  // pins of each request that ended
  std::vector<std::string> story;     // "expect 3 4": these wait; "load 3"
  std::vector<bool> clears;           // whether they were of what lasts
  std::vector<std::pair<std::uint32_t, std::size_t>> progress;  // first block, pins
  rt::Function<void()> wake;
};

class StoreConnector final : public kv::Connector {
 public:
  explicit StoreConnector(std::shared_ptr<Store> store)
      : store_(std::move(store)), random_(store_->moods.seed) {}

  void Start(rt::Function<void()> wake) override { store_->wake = std::move(wake); }

  std::uint32_t Match(const kv::ConnectorRequestRef& request, std::uint32_t first) override {
    std::uint32_t count = 0;
    while (first + count < request->chain.hashes.size() &&
           store_->blocks.contains(request->chain.hashes[first + count])) {
      ++count;
    }
    return count;
  }

  void Load(kv::LoadId id, const kv::ConnectorRequestRef& request, std::uint32_t first,
            std::span<const kv::BlockMemory> targets) override {
    ++store_->loads;
    store_->story.push_back("load " + std::to_string(Raw(request->id)));
    loads_.push_back({id, request, first, {targets.begin(), targets.end()}});
  }

  void Expect(std::span<const kv::ExpectedRequest> waiting) override {
    std::string line = "expect";
    for (const kv::ExpectedRequest& one : waiting) {
      line += " " + std::to_string(Raw(one.request->id));
    }
    store_->story.push_back(line);
  }

  void Clear(bool lasting) override { store_->clears.push_back(lasting); }

  void Cancel(kv::LoadId id) override {
    ++store_->cancels;
    EXPECT_EQ(std::ranges::count(loads_, id, &Pending::id), 1);
  }

  void Published(std::vector<kv::PublishedBlock> blocks) override {
    for (kv::PublishedBlock& block : blocks) {
      store_->blocks[block.hash] = {block.bytes.begin(), block.bytes.end()};
      held_.push_back(std::move(block.pin));
    }
  }

  void Distrust(std::span<const Hash128> hashes) override {
    for (const Hash128& hash : hashes) {
      store_->blocks.erase(hash);
    }
  }

  void Progress(const kv::ConnectorRequestRef& /*request*/, std::uint32_t first,
                std::vector<kv::BlockPin> pins) override {
    store_->progress.emplace_back(first, pins.size());
    std::ranges::move(pins, std::back_inserter(held_));
  }

  void Finished(const kv::ConnectorRequestRef& /*request*/,
                std::vector<kv::BlockPin> pins) override {
    store_->finished.push_back(pins.size());
    std::ranges::move(pins, std::back_inserter(held_));
  }

  rt::Time Poll(rt::Time now, std::vector<kv::LoadEnd>& ended) override {
    std::erase_if(held_, [&](const kv::BlockPin&) { return !Draw(store_->moods.hold_percent); });
    std::erase_if(loads_, [&](const Pending& load) {
      if (Draw(store_->moods.late_percent)) {
        return false;
      }
      const bool fails = Draw(store_->moods.fail_percent);
      const std::size_t count = fails ? random_() % load.targets.size() : load.targets.size();
      for (std::size_t i = 0; i < load.targets.size(); ++i) {
        const std::vector<std::byte>& bytes =
            store_->blocks.at(load.request->chain.hashes[load.first + i]);
        std::span<std::byte> target = load.targets[i].bytes;
        if (i < count) {
          std::ranges::copy(bytes, target.begin());
        } else {
          std::memset(target.data(), 0x5a, target.size());  // half a block, of whatever
        }
      }
      ended.push_back(
          {.id = load.id,
           .blocks = static_cast<std::uint32_t>(count),
           .error = fails ? std::optional(Error(Code::kDataCorrupt, "injected")) : std::nullopt});
      return true;
    });
    return idle() ? rt::kNever : now + rt::Duration(1'000'000);
  }

  bool idle() const override { return held_.empty() && loads_.empty(); }

 private:
  struct Pending {
    kv::LoadId id{};
    kv::ConnectorRequestRef request;
    std::uint32_t first = 0;
    std::vector<kv::BlockMemory> targets;
  };

  bool Draw(std::uint32_t percent) { return random_() % 100 < percent; }

  std::shared_ptr<Store> store_;
  std::mt19937_64 random_;
  std::vector<Pending> loads_;
  std::vector<kv::BlockPin> held_;
};

HarnessOptions With(const std::shared_ptr<Store>& store) {
  HarnessOptions options;
  options.connector = [store] { return std::make_unique<StoreConnector>(store); };
  return options;
}

void Settle(Harness& harness) {
  for (int i = 0; i < 10'000 && harness.engine().busy(); ++i) {
    harness.Step();
  }
  EXPECT_FALSE(harness.engine().busy());
  harness.engine().CheckInvariants();
  EXPECT_EQ(harness.engine().cache().pool().pinned_count(), 0U);
}

/// What `request` computes is in `store`.
void Fill(const std::shared_ptr<Store>& store, const wire::GenerateRequest& request) {
  Harness first(With(store));
  ASSERT_TRUE(first.Submit(request));
  Settle(first);
}

TEST(BlockTraffic, ASecondEngineComputesOnlyTheLastBlock) {
  auto store = std::make_shared<Store>();
  const wire::GenerateRequest request = MakeRequest(1, 41, 10);
  {
    Harness first(With(store));
    ASSERT_TRUE(first.Submit(request));
    Settle(first);
    first.ExpectOracle(request);
  }
  EXPECT_EQ(store->finished, std::vector<std::size_t>{10}) << "of the prompt";
  Harness second(With(store));
  ASSERT_TRUE(second.Submit(request));
  Settle(second);
  second.ExpectOracle(request);
  EXPECT_EQ(second.streams().at(1).cached_tokens, 40U);
  EXPECT_EQ(second.engine().traffic().loaded_blocks, 10U);
  EXPECT_EQ(store->loads, 1U);
}

TEST(BlockTraffic, ARequestThatOnlyFetchesBringsAllAndComputesNothing) {
  auto store = std::make_shared<Store>();
  const wire::GenerateRequest request = MakeRequest(1, 44, 10);
  Fill(store, request);
  Harness second(With(store));
  wire::GenerateRequest fetch = request;
  fetch.fetch_only = true;
  ASSERT_TRUE(second.Submit(fetch));
  Settle(second);
  EXPECT_EQ(second.streams().at(1).finish, wire::FinishReason::kLength);
  EXPECT_TRUE(second.streams().at(1).tokens.empty());
  EXPECT_EQ(second.streams().at(1).cached_tokens, 44U) << "the last block, too";
  EXPECT_EQ(second.engine().counters().steps, 0U);
  fetch.id = RequestId{2};
  fetch.prompt.push_back(7);
  ASSERT_TRUE(second.Submit(fetch));
  Settle(second);
  EXPECT_EQ(second.streams().at(2).cached_tokens, 44U) << "what is there is said at once";
  fetch.id = RequestId{3};
  fetch.choice_count = 2;
  EXPECT_EQ(second.Submit(fetch).error().param(), "fetch_only");
  wire::GenerateRequest next = request;
  next.id = RequestId{4};
  ASSERT_TRUE(second.Submit(next));
  Settle(second);
  second.ExpectOracle(next);
  EXPECT_EQ(store->loads, 1U);
}

TEST(BlockTraffic, BlocksAreToldOfAsTheyBecomeWholeToWhoAsked) {
  auto store = std::make_shared<Store>();
  HarnessOptions options = With(store);
  options.engine.batch_tokens_max = 16;
  Harness harness(options);
  wire::GenerateRequest request = MakeRequest(1, 42, 1);
  ASSERT_TRUE(harness.Submit(request));
  Settle(harness);
  EXPECT_TRUE(store->progress.empty()) << "nobody asked";
  store->blocks.clear();
  Harness another(options);
  request.early_handover = true;
  ASSERT_TRUE(another.Submit(request));
  Settle(another);
  another.ExpectOracle(request);
  using Told = std::vector<std::pair<std::uint32_t, std::size_t>>;
  EXPECT_EQ(store->progress, (Told{{0, 4}, {4, 4}})) << "the last step's come with the end";
  EXPECT_EQ(store->finished.back(), 10U);
}

TEST(BlockTraffic, TwoThatLackTheSameBlocksWaitForOneLoad) {
  auto store = std::make_shared<Store>();
  Fill(store, MakeRequest(1, 64, 4));
  store->loads = 0;
  Harness second(With(store));
  const wire::GenerateRequest shorter = MakeRequest(1, 41, 4);
  const wire::GenerateRequest longer = MakeRequest(2, 64, 4);
  ASSERT_TRUE(second.Submit(shorter));
  ASSERT_TRUE(second.Submit(longer));
  Settle(second);
  second.ExpectOracle(shorter);
  second.ExpectOracle(longer);
  EXPECT_EQ(store->loads, 2U) << "the longer one's rest is loaded behind the shared part";
  EXPECT_EQ(second.engine().traffic().loaded_blocks, 15U);
}

TEST(BlockTraffic, WhatCannotBeBroughtIsComputed) {
  auto store = std::make_shared<Store>();
  const wire::GenerateRequest request = MakeRequest(1, 100, 10);
  Fill(store, request);
  store->moods.fail_percent = 100;
  Harness second(With(store));
  ASSERT_TRUE(second.Submit(request));
  Settle(second);
  second.ExpectOracle(request);
  EXPECT_GT(second.engine().traffic().missed_blocks, 0U);
}

TEST(BlockTraffic, WhoRunsAndCannotGrowWaitsForBlocksThatAreHeld) {
  auto store = std::make_shared<Store>();
  store->moods.hold_percent = 100;
  HarnessOptions options = With(store);
  options.limits.block_count = 30;
  Harness harness(options);
  const wire::GenerateRequest first = MakeRequest(1, 60, 1);
  const wire::GenerateRequest second = MakeRequest(2, 40, 40, 30);  // 20 blocks beside 15 of 30
  ASSERT_TRUE(harness.Submit(first));
  while (harness.engine().request_count() > 0) {
    harness.Step();
  }
  ASSERT_TRUE(harness.Submit(second));
  for (int i = 0; i < 60 && !harness.engine().stalled(); ++i) {
    harness.Step();
  }
  EXPECT_EQ(harness.engine().scheduler().running_count(), 1U);
  EXPECT_TRUE(harness.engine().stalled()) << "else its thread would turn in circles";
  store->moods.hold_percent = 0;
  Settle(harness);
  harness.ExpectOracle(first);
  harness.ExpectOracle(second);
}

TEST(BlockTraffic, ACancelledLoadGivesItsBlocksBackAtItsEnd) {
  auto store = std::make_shared<Store>();
  const wire::GenerateRequest request = MakeRequest(1, 100, 10);
  Fill(store, request);
  store->moods.late_percent = 100;
  Harness second(With(store));
  ASSERT_TRUE(second.Submit(request));
  second.Step();
  second.Step();
  EXPECT_TRUE(second.engine().stalled()) << "nothing can be computed";
  EXPECT_EQ(second.engine().cache().pool().pinned_count(), 24U);
  second.engine().Cancel({.id = RequestId{1}, .choice = std::nullopt});
  second.Step();
  EXPECT_EQ(second.streams().at(1).finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(store->cancels, 1U);
  EXPECT_EQ(second.engine().cache().pool().pinned_count(), 24U) << "they may still be written";
  store->moods.late_percent = 0;
  Settle(second);
}

TEST(BlockTraffic, ARequestInDoubtTakesItsBlocksAlong) {
  auto store = std::make_shared<Store>();
  HarnessOptions options = With(store);
  options.engine.batch_tokens_max = 16;
  Harness harness(options);
  harness.mock().faults().poison_token = 55;
  ASSERT_TRUE(harness.Submit(MakeRequest(1, 58, 4)));
  Settle(harness);
  EXPECT_EQ(harness.streams().at(1).finish, wire::FinishReason::kError);
  EXPECT_TRUE(store->blocks.empty()) << "what came before the fault is in doubt";
}

TEST(BlockTraffic, DeadlinesPassWhileBlocksAreAwaited) {
  auto store = std::make_shared<Store>();
  wire::GenerateRequest request = MakeRequest(1, 100, 10);
  Fill(store, request);
  store->moods.late_percent = 100;
  Harness second(With(store));
  request.deadline_left_ns = 5'000'000;
  ASSERT_TRUE(second.Submit(request));
  second.Step();
  EXPECT_LE(second.engine().next_poll(), second.now() + rt::Duration(5'000'000));
  second.Advance(rt::Duration(5'000'000));
  second.Step();
  EXPECT_EQ(second.streams().at(1).error->code(), Code::kDeadlineExceeded);
  store->moods.late_percent = 0;
  Settle(second);
}

TEST(BlockTraffic, WhoStandsBehindOthersIsExpectedInOrderAndLoadedWhenItsTurnIsNear) {
  auto store = std::make_shared<Store>();
  for (std::uint64_t id = 1; id <= 5; ++id) {
    Fill(store, MakeRequest(id, 24, 1, static_cast<TokenId>(8 * id)));
  }
  store->story.clear();
  HarnessOptions options = With(store);
  options.engine.batch_sequences_max = 1;
  Harness harness(options);
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 5; ++id) {
    requests.push_back(MakeRequest(id, 24, 20, static_cast<TokenId>(8 * id)));
    requests.back().priority = id == 5 ? 10 : 0;  // before those that wait
    ASSERT_TRUE(harness.Submit(requests.back()));
  }
  harness.Step();
  EXPECT_EQ(store->story, (std::vector<std::string>{"load 5", "load 1", "expect 2 3 4"}))
      << "one runs, one is next";
  while (!harness.streams().has(5) || !harness.streams().at(5).finish) {
    harness.Step();
    EXPECT_LE(store->story.size(), 5U);
  }
  Settle(harness);
  EXPECT_EQ(store->story,
            (std::vector<std::string>{"load 5", "load 1", "expect 2 3 4", "load 2", "expect 3 4",
                                      "load 3", "expect 4", "load 4", "expect"}));
  for (const wire::GenerateRequest& request : requests) {
    harness.ExpectOracle(request);
    EXPECT_EQ(harness.streams().at(Raw(request.id)).cached_tokens, 20U) << Raw(request.id);
  }
}

TEST(BlockTraffic, AContextThatFitsTheCacheOnceIsLoadedWhole) {
  auto store = std::make_shared<Store>();
  const wire::GenerateRequest request = MakeRequest(1, 100, 3);  // 26 blocks with its answer
  Fill(store, request);
  HarnessOptions options = With(store);
  options.limits.block_count = 28;
  Harness harness(options);
  ASSERT_TRUE(harness.Submit(request));
  Settle(harness);
  harness.ExpectOracle(request);
  EXPECT_EQ(harness.streams().at(1).cached_tokens, 96U);
}

TEST(BlockTraffic, ALoadWaitsForRoomThatTheOneBeforeGivesBack) {
  auto store = std::make_shared<Store>();
  const wire::GenerateRequest first = MakeRequest(1, 60, 20);
  const wire::GenerateRequest second = MakeRequest(2, 81, 4, 30);
  Fill(store, second);
  store->story.clear();
  HarnessOptions options = With(store);
  options.limits.block_count = 30;
  Harness harness(options);
  ASSERT_TRUE(harness.Submit(first));
  harness.Step();
  ASSERT_TRUE(harness.Submit(second));
  harness.Step();
  EXPECT_EQ(store->story, (std::vector<std::string>{"expect 2"})) << "20 blocks beside 15 of 30";
  Settle(harness);
  harness.ExpectOracle(first);
  harness.ExpectOracle(second);
  EXPECT_EQ(harness.streams().at(2).cached_tokens, 80U);
}

TEST(BlockTraffic, WhoWaitsTooLongForRoomTakesWhatThereIs) {
  auto store = std::make_shared<Store>();
  const wire::GenerateRequest first = MakeRequest(1, 60, 60);
  const wire::GenerateRequest second = MakeRequest(2, 81, 4, 30);
  Fill(store, second);
  store->story.clear();
  store->loads = 0;
  HarnessOptions options = With(store);
  options.limits.block_count = 30;
  Harness harness(options);
  ASSERT_TRUE(harness.Submit(first));
  harness.Step();
  ASSERT_TRUE(harness.Submit(second));
  harness.Step();
  EXPECT_EQ(store->loads, 0U) << "20 blocks beside 15 of 30";
  harness.Advance(std::chrono::seconds(6));
  harness.Step();
  harness.Step();
  EXPECT_EQ(std::ranges::count(store->story, "load 2"), 1);
  Settle(harness);
  harness.ExpectOracle(first);
  harness.ExpectOracle(second);
}

TEST(BlockTraffic, AnswersAreTheSameUnderRandomLoadsAndPins) {
  std::uint32_t loads = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    auto store = std::make_shared<Store>();
    store->moods = {.late_percent = static_cast<std::uint32_t>(random() % 90),
                    .fail_percent = static_cast<std::uint32_t>(random() % 60),
                    .hold_percent = static_cast<std::uint32_t>(random() % 80),
                    .seed = seed};
    HarnessOptions options = With(store);
    options.overlaps = seed % 2 == 0;
    options.threaded = seed % 3 == 0;
    options.limits.block_count = 24 + static_cast<std::uint32_t>(random() % 60);
    options.limits.host_block_count = seed % 4 == 0 ? 16 : 0;
    options.engine.preemption = Preemption::kSwap;
    options.engine.admission = seed % 5 == 0 ? Admission::kEager : Admission::kForecast;
    Harness harness(options);
    std::vector<wire::GenerateRequest> kept;
    std::uint64_t id = 0;
    for (int round = 0; round < 200; ++round) {
      if (random() % 3 == 0) {
        const auto shared = static_cast<TokenId>(random() % 4);
        wire::GenerateRequest request =
            MakeRequest(++id, 1 + static_cast<std::uint32_t>(random() % 60),
                        1 + static_cast<std::uint32_t>(random() % 12), shared);
        request.choice_count = 1 + static_cast<std::uint32_t>(random() % 2);
        request.prompt_logprobs = random() % 8 == 0;
        request.top_logprobs = request.prompt_logprobs ? 1 : -1;
        ASSERT_TRUE(harness.Submit(request));
        if (random() % 5 == 0) {
          harness.Step();
          harness.engine().Cancel({.id = request.id, .choice = std::nullopt});
        } else {
          kept.push_back(std::move(request));
        }
      }
      harness.Step();
      harness.engine().CheckInvariants();
    }
    Settle(harness);
    for (const wire::GenerateRequest& request : kept) {
      harness.ExpectOracle(request);
    }
    EXPECT_EQ(store->finished.size(), id);
    loads += store->loads;
  }
  EXPECT_GT(loads, 500U);
}

TEST(BlockTraffic, OfTwoConnectorsTheOneThatBringsMoreIsAskedAndBothHearOfBlocks) {
  auto less = std::make_shared<Store>();
  auto more = std::make_shared<Store>();
  for (const auto& [store, tokens] : {std::pair(less, 20), std::pair(more, 60)}) {
    Harness first(With(store));
    ASSERT_TRUE(first.Submit(MakeRequest(1, static_cast<std::uint32_t>(tokens), 1)));
    Settle(first);
    store->loads = 0;
  }
  HarnessOptions options;
  options.connector = [&]() -> std::unique_ptr<kv::Connector> {
    std::vector<std::unique_ptr<kv::Connector>> parts;
    parts.push_back(std::make_unique<StoreConnector>(less));
    parts.push_back(std::make_unique<StoreConnector>(more));
    return std::make_unique<kv::ConnectorStack>(std::move(parts));
  };
  Harness second(options);
  const wire::GenerateRequest request = MakeRequest(1, 81, 4);
  ASSERT_TRUE(second.Submit(request));
  Settle(second);
  second.ExpectOracle(request);
  EXPECT_EQ(less->loads, 0U);
  EXPECT_EQ(more->loads, 1U);
  EXPECT_EQ(second.streams().at(1).cached_tokens, 60U);
  EXPECT_EQ(less->blocks, more->blocks);
}

// The loop must neither spin nor sleep for ever while everything waits for blocks.
TEST(BlockTraffic, ALoopWaitsForTheConnectorsWord) {
  auto store = std::make_shared<Store>();
  const wire::GenerateRequest request = MakeRequest(1, 100, 10);
  Fill(store, request);
  store->moods.late_percent = 90;
  rt::SimWorld world(rt::SimOptions{.seed = 1});
  rt::Loop& loop = world.AddNode("engine").loop();
  MockOptions mock{.limits = HarnessOptions{}.limits};
  auto engine = Engine::Create(HarnessOptions{}.engine, std::make_unique<MockExecutor>(mock),
                               nullptr, nullptr, std::make_unique<StoreConnector>(store));
  ASSERT_TRUE(engine);
  EngineLoop engine_loop(loop, std::move(*engine));
  std::vector<TokenId> tokens;
  bool ended = false;
  const DestinationId to = engine_loop.AddDestination([&](StepOutput output) {
    for (const wire::TokenFrame& frame : output.frames) {
      tokens.insert(tokens.end(), frame.tokens.begin(), frame.tokens.end());
      ended = ended || frame.finish.has_value();
    }
  });
  engine_loop.Submit(to, request);
  EXPECT_TRUE(world.RunUntilQuiescent(world.now() + std::chrono::minutes(1)));
  EXPECT_TRUE(ended);
  EXPECT_EQ(tokens, MockStream(request, 0, mock.limits.vocab_size, 256).tokens);
}

}  // namespace
}  // namespace pixii::engine::testing
