#include "kv/handover_connector.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kv/block_cache.h"
#include "rt/sim_world.h"
#include "transport/faulty_transport.h"
#include "transport/memory_transport.h"
#include "transport/transfer_agent.h"

namespace pixii::kv {
namespace {

constexpr std::uint32_t kBlocks = 64;
constexpr std::uint32_t kBlockTokens = 4;
constexpr std::size_t kBlockBytes = 4096;
constexpr char kKey[] = "the key of a test's cluster";

// A cache with bytes, and a connector; what an engine would do with them is done by the test.
struct Side {
  Side(rt::SimNode& node_in, transport::MemoryExchange& exchange, HandoverOptions options,
       std::optional<transport::FaultOptions> faults = std::nullopt)
      : node(node_in),
        cache(std::move(*BlockCache::Create(
            {.block_count_max = kBlocks, .block_tokens = kBlockTokens, .identity_key = kKey}))),
        identity(kKey),
        memory(kBlocks * kBlockBytes) {
    const std::optional<LayoutRecord> layout = std::move(options.geometry.layout);
    options.geometry = {.block_count = kBlocks,
                        .block_tokens = kBlockTokens,
                        .block_size_bytes = kBlockBytes,
                        .slices = {},
                        .layout = layout,
                        .model_fingerprint = "model",
                        .numerics_id = "numerics",
                        .kv_dtype = "bf16",
                        .identity_key = kKey};
    options.loop = &node.loop();
    connector = std::move(*HandoverConnector::Create(
        std::move(options),
        [&](rt::Loop& loop,
            rt::Function<void()> wake) -> Result<std::shared_ptr<transport::Agent>> {
          transport::AgentOptions agent;
          agent.wake = std::move(wake);
          std::vector<transport::TransportFactory> factories;
          factories.push_back(exchange.factory());
          if (faults) {
            factories.back() = transport::WithFaults(std::move(factories.back()), *faults);
          }
          PX_TRY(auto made,
                 transport::TransferAgent::Create(loop, std::move(agent), std::move(factories)));
          return std::shared_ptr<transport::Agent>(std::move(made));
        }));
    connector->Start([] {});
  }

  std::span<std::byte> Bytes(const BlockRef& ref) {
    return std::span(memory).subspan(std::size_t{Raw(ref.id)} * kBlockBytes, kBlockBytes);
  }

  ConnectorRequestRef Request(std::uint64_t id, std::uint32_t blocks) {
    auto request = std::make_shared<ConnectorRequest>();
    request->id = RequestId{id};
    request->chain.root = identity.MakeRoot(BlockRootFields());
    Hash128 hash = request->chain.root->hash;
    for (std::uint32_t i = 0; i < blocks * kBlockTokens; ++i) {
      request->chain.tokens.push_back(static_cast<TokenId>(i));
    }
    for (std::uint32_t i = 0; i < blocks; ++i) {
      hash = identity.Chain(
          hash, std::span(request->chain.tokens).subspan(i * kBlockTokens, kBlockTokens));
      request->chain.hashes.push_back(hash);
    }
    return request;
  }

  rt::SimNode& node;
  std::unique_ptr<BlockCache> cache;
  BlockIdentity identity;
  std::vector<std::byte> memory;
  std::unique_ptr<HandoverConnector> connector;  // goes before the cache
};

class HandoverConnectorTest : public ::testing::Test {
 protected:
  void Start(HandoverOptions options = {}) {
    options.key = kKey;
    prefill_ = std::make_unique<Side>(world_.AddNode("prefill"), exchange_, options);
    decode_ = std::make_unique<Side>(world_.AddNode("decode"), exchange_, options);
  }

  void StartWith(std::uint32_t chunk_tokens) {
    HandoverOptions options;
    options.chunk_tokens = chunk_tokens;
    Start(std::move(options));
  }

  /// Blocks of the same size, cut over two tensor ranks on one side and two stages on the other.
  void StartCut(const std::string& name, bool pipelined = false) {
    LayoutRecord layout{.layer_count = 4,
                        .kv_head_count = 2,
                        .key_dim = 32,
                        .value_dim = 32,
                        .block_tokens = kBlockTokens,
                        .stage_layers = CutLayers(4, 1),
                        .rank_heads = CutHeads(2, 2)};
    HandoverOptions options;
    options.key = kKey;
    options.chunk_tokens = 8;
    options.pipelined = pipelined;
    options.geometry.layout = layout;
    prefill_ = std::make_unique<Side>(world_.AddNode("p" + name), exchange_, options);
    layout.stage_layers = CutLayers(4, 2);
    layout.rank_heads = CutHeads(2, 1);
    options.geometry.layout = layout;
    decode_ = std::make_unique<Side>(world_.AddNode("d" + name), exchange_, options);
  }

  void RunUntil(const std::function<bool()>& done) {
    ASSERT_EQ(world_.RunUntil(done, world_.now() + std::chrono::seconds(120)), rt::SimEnd::kDone);
  }

  /// A prompt of `blocks` blocks is computed and kept; its record.
  std::string Offer(std::uint32_t blocks, rt::Time deadline = rt::kNever) {
    const ConnectorRequestRef request = prefill_->Request(1, blocks);
    auto mine = std::make_shared<ConnectorRequest>(*request);
    mine->prefill_only = true;
    mine->deadline = deadline;
    std::vector<BlockPin> pins;
    std::mt19937_64 random(5);
    for (std::uint32_t i = 0; i < blocks; ++i) {
      pins.push_back(*prefill_->cache->Allocate());
      refs_.push_back(pins.back().ref());
      for (std::byte& byte : prefill_->Bytes(pins.back().ref())) {
        byte = static_cast<std::byte>(random());
      }
    }
    std::vector<PublishedBlock> published(1);
    published[0].bytes = prefill_->Bytes(refs_[0]);
    published[0].pin = pins[0].Share();
    prefill_->connector->Published(std::move(published));
    prefill_->connector->Finished(mine, std::move(pins));
    record_.clear();
    prefill_->connector->Watch(RequestId{1}, [this](const std::optional<std::string>& news) {
      record_ = news.value_or(record_);
      kept_ = news.has_value();
    });
    RunUntil([&] { return kept_; });
    return record_;
  }

  /// The first `blocks` blocks of a prompt of `all` are computed; the rest follows by Progress.
  std::string OfferEarly(std::uint32_t blocks, std::uint32_t all) {
    auto mine = std::make_shared<ConnectorRequest>(*prefill_->Request(1, all));
    mine->prefill_only = true;
    mine->early_handover = true;
    growing_ = mine;
    prefill_->connector->WatchEarly(RequestId{1},
                                    [this](const std::string& news) { early_ = news; });
    Progress(blocks);
    RunUntil([&] { return !early_.empty(); });
    return early_;
  }

  void Progress(std::uint32_t blocks) {
    const auto first = static_cast<std::uint32_t>(refs_.size());
    std::vector<BlockPin> pins;
    for (std::uint32_t i = 0; i < blocks; ++i) {
      pins_.push_back(*prefill_->cache->Allocate());
      refs_.push_back(pins_.back().ref());
      for (std::byte& byte : prefill_->Bytes(refs_.back())) {
        byte = static_cast<std::byte>(random_());
      }
      pins.push_back(pins_.back().Share());
    }
    if (first == 0) {
      std::vector<PublishedBlock> published(1);
      published[0].bytes = prefill_->Bytes(refs_[0]);
      published[0].pin = pins[0].Share();
      prefill_->connector->Published(std::move(published));
    }
    prefill_->connector->Progress(growing_, first, std::move(pins));
  }

  /// The prompt is computed; the record of all.
  std::string FinishEarly(std::uint32_t more) {
    Progress(more);
    prefill_->connector->Finished(growing_, std::move(pins_));
    pins_.clear();
    prefill_->connector->Watch(RequestId{1}, [this](const std::optional<std::string>& news) {
      record_ = news.value_or(record_);
      kept_ = news.has_value();
      ++news_;
    });
    RunUntil([&] { return news_ > 0; });
    return record_;
  }

  /// All `blocks` are fetched; how that ended.
  LoadEnd Fetch(const std::string& record, std::uint32_t blocks,
                const std::function<void()>& meanwhile = {}) {
    auto request = std::make_shared<ConnectorRequest>(*decode_->Request(9, blocks));
    request->handover = record;
    const ConnectorRequestRef asked = request;
    matched_ = decode_->connector->Match(asked, 0);
    if (matched_ == 0) {
      return {};
    }
    std::vector<BlockMemory> targets;
    for (std::uint32_t i = 0; i < matched_; ++i) {
      targets_.push_back(*decode_->cache->Allocate());
      targets.push_back(
          {.ref = targets_.back().ref(), .bytes = decode_->Bytes(targets_.back().ref())});
    }
    decode_->connector->Load(LoadId{1}, asked, 0, targets);
    if (meanwhile) {
      meanwhile();
    }
    std::vector<LoadEnd> ends;
    RunUntil([&] {
      decode_->connector->Poll(world_.now(), ends);
      return !ends.empty();
    });
    return ends.empty() ? LoadEnd{} : ends[0];
  }

  /// `count` prompts of two blocks each are computed and kept; their records.
  std::vector<std::string> OfferPairs(std::uint64_t count) {
    std::vector<std::string> records(count);
    for (std::uint64_t id = 1; id <= count; ++id) {
      auto mine = std::make_shared<ConnectorRequest>(*prefill_->Request(id, 2));
      mine->prefill_only = true;
      std::vector<BlockPin> pins;
      pins.push_back(*prefill_->cache->Allocate());
      pins.push_back(*prefill_->cache->Allocate());
      std::vector<PublishedBlock> published(1);
      published[0].bytes = prefill_->Bytes(pins[0].ref());
      published[0].pin = pins[0].Share();
      prefill_->connector->Published(std::move(published));
      prefill_->connector->Finished(mine, std::move(pins));
      prefill_->connector->Watch(
          RequestId{id}, [&record = records[id - 1]](const std::optional<std::string>& news) {
            record = news.value_or(record);
          });
      RunUntil([&] { return !records[id - 1].empty(); });
      // The records outlive nobody who tells of them.
      prefill_->connector->Watch(RequestId{id}, [](const std::optional<std::string>&) {});
    }
    return records;
  }

  /// The blocks of a record go to new blocks of `side`.
  void BeginLoad(Side& side, std::uint64_t id, const std::string& record) {
    auto request = std::make_shared<ConnectorRequest>(*side.Request(id, 2));
    request->handover = record;
    const ConnectorRequestRef asked = request;
    ASSERT_EQ(side.connector->Match(asked, 0), 2U);
    std::vector<BlockMemory> targets;
    for (int i = 0; i < 2; ++i) {
      targets_.push_back(*side.cache->Allocate());
      targets.push_back({.ref = targets_.back().ref(), .bytes = side.Bytes(targets_.back().ref())});
    }
    side.connector->Load(LoadId{id}, asked, 0, targets);
  }

  /// When the slower ones of `count` loads of two blocks have ended, of which one goes to a worker
  /// that takes 4 KB/s, or none.
  rt::Duration TimeOfMost(const std::string& name, std::uint64_t count, bool with_slow_one) {
    refs_.clear();
    targets_.clear();
    HandoverOptions options;
    options.key = kKey;
    decode_.reset();
    prefill_ = std::make_unique<Side>(world_.AddNode("p" + name), exchange_, options);
    decode_ = std::make_unique<Side>(world_.AddNode("d" + name), exchange_, options);
    Side slow(world_.AddNode("s" + name), exchange_, options,
              transport::FaultOptions{.bytes_per_s_max = 4096});
    const std::vector<std::string> records = OfferPairs(count);
    const rt::Time begun = world_.now();
    for (std::uint64_t id = count; id > 0; --id) {
      BeginLoad(with_slow_one && id == count ? slow : *decode_, id, records[id - 1]);
    }
    std::vector<rt::Duration> took;
    RunUntil([&] {
      std::vector<LoadEnd> ends;
      decode_->connector->Poll(world_.now(), ends);
      took.resize(took.size() + ends.size(), world_.now() - begun);
      return took.size() >= count - 1;
    });
    EXPECT_EQ(slow.connector->counters().loads_running, with_slow_one ? 1U : 0U);
    targets_.clear();
    return took[took.size() * 95 / 100];
  }

  void ExpectQuiet() {
    std::vector<LoadEnd> ends;
    RunUntil([&] {
      prefill_->connector->Poll(world_.now(), ends);
      return prefill_->connector->idle() && decode_->connector->idle();
    });
    EXPECT_EQ(prefill_->cache->pool().pinned_count(), 0U);
    EXPECT_FALSE(kept_);
  }

  /// Six blocks, of which a drawn one changes before it is read.
  void ExpectAChangedBitIsFound(std::mt19937_64& random) {
    const std::string record = Offer(6);
    const std::uint32_t block = static_cast<std::uint32_t>(random() % 6);
    prefill_->Bytes(refs_[block])[random() % kBlockBytes] ^= static_cast<std::byte>(1);
    const LoadEnd end = Fetch(record, 6);
    EXPECT_EQ(end.blocks, block);
    ASSERT_TRUE(end.error);
    EXPECT_EQ(end.error->code(), Code::kDataCorrupt);
    EXPECT_EQ(decode_->connector->counters().corrupt_blocks, 1U);
    ExpectQuiet();
  }

  transport::MemoryExchange exchange_{
      {.latency = std::chrono::milliseconds(1)}};  // links of it may die with the world
  rt::SimWorld world_{rt::SimOptions{.seed = 4}};
  std::unique_ptr<Side> prefill_;
  std::unique_ptr<Side> decode_;
  std::vector<BlockRef> refs_;     // of the offer
  std::vector<BlockPin> targets_;  // of the load
  std::uint64_t lost_ = 0;
  std::uint32_t matched_ = 0;
  std::string record_;
  bool kept_ = false;
  std::shared_ptr<ConnectorRequest> growing_;
  std::vector<BlockPin> pins_;  // of the sequence that computes
  std::mt19937_64 random_{5};
  std::string early_;
  int news_ = 0;
};

TEST_F(HandoverConnectorTest, BlocksArriveAsTheyWereAndAreLetGo) {
  StartWith(8);
  const std::string record = Offer(11);
  const LoadEnd end = Fetch(record, 11);
  EXPECT_EQ(end.blocks, 11U);
  EXPECT_FALSE(end.error);
  for (std::size_t i = 0; i < refs_.size(); ++i) {
    EXPECT_TRUE(std::ranges::equal(prefill_->Bytes(refs_[i]), decode_->Bytes(targets_[i].ref())));
  }
  EXPECT_EQ(decode_->connector->counters().chunks, 6U);
  EXPECT_EQ(decode_->connector->transport(), "memory");
  ExpectQuiet();
}

TEST_F(HandoverConnectorTest, BlocksMoveAsTheyBecomeWhole) {
  HandoverOptions options;
  options.pipelined = true;
  Start(options);
  const std::string record = OfferEarly(3, 11);
  const LoadEnd end = Fetch(record, 11, [&] {
    const HandoverCounters& counters = decode_->connector->counters();
    RunUntil([&] { return counters.early_blocks == 3; });
    Progress(4);
    RunUntil([&] { return counters.early_blocks == 7; });
    EXPECT_EQ(counters.load_ends[static_cast<std::size_t>(HandoverState::kDone)], 0U);
    (void)FinishEarly(4);
  });
  EXPECT_EQ(end.blocks, 11U);
  EXPECT_FALSE(end.error);
  for (std::size_t i = 0; i < refs_.size(); ++i) {
    EXPECT_TRUE(std::ranges::equal(prefill_->Bytes(refs_[i]), decode_->Bytes(targets_[i].ref())));
  }
  RunUntil([&] { return !kept_; });
  EXPECT_EQ(
      prefill_->connector->counters().offer_ends[static_cast<std::size_t>(HandoverState::kDone)],
      1U);
  ExpectQuiet();
}

TEST_F(HandoverConnectorTest, AnotherLayoutMovesAsItBecomesWholeToo) {
  StartCut("", true);
  const std::string record = OfferEarly(3, 11);
  const LoadEnd end = Fetch(record, 11, [&] {
    RunUntil([&] { return decode_->connector->counters().early_blocks == 3; });
    (void)FinishEarly(8);
  });
  EXPECT_EQ(end.blocks, 11U);
  ExpectQuiet();
}

TEST_F(HandoverConnectorTest, APromptThatIsNotFinishedEndsTheLoadBehindItsWholeBlocks) {
  HandoverOptions options;
  options.pipelined = true;
  Start(options);
  const std::string record = OfferEarly(3, 11);
  const LoadEnd end = Fetch(record, 11, [&] {
    Progress(1);
    RunUntil([&] { return decode_->connector->counters().early_blocks == 4; });
    pins_.clear();
    prefill_->connector->Finished(growing_, {});
  });
  EXPECT_EQ(end.blocks, 4U);
  ASSERT_TRUE(end.error);
  EXPECT_EQ(end.error->code(), Code::kUnavailable);
  ExpectQuiet();
}

TEST_F(HandoverConnectorTest, ABlockThatChangesBeforeItIsReadIsFoundEarlyToo) {
  HandoverOptions options;
  options.pipelined = true;
  Start(options);
  const std::string record = OfferEarly(3, 11);
  prefill_->Bytes(refs_[1])[77] ^= static_cast<std::byte>(4);
  const LoadEnd end = Fetch(record, 11);
  EXPECT_EQ(end.blocks, 1U);
  EXPECT_EQ(end.error->code(), Code::kDataCorrupt);
  EXPECT_EQ(prefill_->connector->counters().offers, 1U) << "who goes on may still want it";
  pins_.clear();
  prefill_->connector->Finished(growing_, {});
  ExpectQuiet();
}

// What the prefill worker does not tell, the record does that comes with the request.
TEST_F(HandoverConnectorTest, ALoadThatHearsNothingGoesOnWithTheWholeRecord) {
  HandoverOptions options;
  options.pipelined = true;
  Start(options);
  const auto of_nobody = [](const std::string& bytes) {
    const HashKey key(kKey);
    Result<wire::HandoverRecord> record = DecodeHandover(bytes, key);
    EXPECT_TRUE(record);
    record->transfer_low ^= 1;
    return EncodeHandover(*record, key);
  };
  const std::string record = of_nobody(OfferEarly(3, 11));
  const std::string whole = of_nobody(FinishEarly(8));
  const LoadEnd end = Fetch(record, 11, [&] {
    RunUntil([&] { return decode_->connector->counters().early_blocks == 3; });
    auto request = std::make_shared<ConnectorRequest>(*decode_->Request(10, 11));
    request->handover = whole;
    EXPECT_EQ(decode_->connector->Match(request, 0), 11U);
  });
  EXPECT_EQ(end.blocks, 11U);
  prefill_->connector->Forget(RequestId{1});
  ExpectQuiet();
}

TEST_F(HandoverConnectorTest, AChangedBitIsFoundWhereverItIs) {
  std::mt19937_64 random(8);
  for (int round = 0; round < 20; ++round) {
    refs_.clear();
    targets_.clear();
    decode_.reset();
    prefill_.reset();
    HandoverOptions options;
    options.chunk_tokens = 8;
    options.key = kKey;
    prefill_ =
        std::make_unique<Side>(world_.AddNode("p" + std::to_string(round)), exchange_, options);
    decode_ =
        std::make_unique<Side>(world_.AddNode("d" + std::to_string(round)), exchange_, options);
    ASSERT_NO_FATAL_FAILURE(ExpectAChangedBitIsFound(random));
  }
  targets_.clear();
}

TEST_F(HandoverConnectorTest, BlocksOfAnotherLayoutArriveWhereTheyBelong) {
  StartCut("");
  const LoadEnd end = Fetch(Offer(11), 11);
  EXPECT_EQ(end.blocks, 11U);
  EXPECT_FALSE(end.error);
  constexpr std::size_t kSlice = 4 * 32 * 2;
  for (std::size_t i = 0; i < refs_.size(); ++i) {
    const std::span<std::byte> from = prefill_->Bytes(refs_[i]);
    const std::span<std::byte> to = decode_->Bytes(targets_[i].ref());
    for (std::size_t layer = 0; layer < 4; ++layer) {
      for (std::size_t part = 0; part < 2; ++part) {  // keys, values
        for (std::size_t head = 0; head < 2; ++head) {
          // By head, layer and part there; by layer, part and head here.
          const auto there = from.subspan((head * 8 + layer * 2 + part) * kSlice, kSlice);
          const auto here = to.subspan((layer * 4 + part * 2 + head) * kSlice, kSlice);
          ASSERT_TRUE(std::ranges::equal(there, here)) << i << " " << layer << part << head;
        }
      }
    }
  }
  ExpectQuiet();
}

TEST_F(HandoverConnectorTest, AChangedBitInABlockOfAnotherLayoutIsFound) {
  std::mt19937_64 random(9);
  for (int round = 0; round < 20; ++round) {
    refs_.clear();
    targets_.clear();
    decode_.reset();
    prefill_.reset();
    StartCut(std::to_string(round));
    ASSERT_NO_FATAL_FAILURE(ExpectAChangedBitIsFound(random));
  }
  targets_.clear();
}

TEST_F(HandoverConnectorTest, ALoadOfAnotherLayoutThatIsCancelledEnds) {
  StartCut("");
  const LoadEnd end = Fetch(Offer(20), 20, [&] { decode_->connector->Cancel(LoadId{1}); });
  EXPECT_LT(end.blocks, 20U);
  EXPECT_EQ(end.error->code(), Code::kCancelled);
  ExpectQuiet();
}

TEST_F(HandoverConnectorTest, WhatIsGoneIsNotReadWhateverLiesThereNow) {
  Start();
  const std::string record = Offer(4);
  prefill_->connector->Forget(RequestId{1});
  ExpectQuiet();
  const LoadEnd end = Fetch(record, 4);
  EXPECT_EQ(end.blocks, 0U);
  EXPECT_TRUE(end.error);
}

TEST_F(HandoverConnectorTest, ALoadThatIsCancelledEndsAndLetsTheOtherSideGo) {
  StartWith(4);
  const LoadEnd end = Fetch(Offer(20), 20, [&] { decode_->connector->Cancel(LoadId{1}); });
  EXPECT_LT(end.blocks, 20U);
  EXPECT_EQ(end.error->code(), Code::kCancelled);
  ExpectQuiet();
}

TEST_F(HandoverConnectorTest, ADeadWorkersBlocksAreWaitedForNoLongerThanTheRequest) {
  Start();
  const std::string record = Offer(4);
  prefill_->node.Freeze(world_.now() + std::chrono::seconds(100));
  const rt::Time begun = world_.now();
  (void)Fetch(record, 4);
  EXPECT_LE(world_.now() - begun, std::chrono::seconds(61));
}

TEST_F(HandoverConnectorTest, ALeaseIsNoLongerThanTheRequestMayTake) {
  Start();
  (void)Offer(4, world_.now() + std::chrono::seconds(2));
  EXPECT_TRUE(kept_);
  const rt::Time begun = world_.now();
  ExpectQuiet();
  EXPECT_LE(world_.now() - begun, std::chrono::seconds(3));
  EXPECT_EQ(
      prefill_->connector->counters().offer_ends[static_cast<std::size_t>(HandoverState::kExpired)],
      1U);
}

TEST_F(HandoverConnectorTest, ASlowReceiverDelaysNobodyElse) {
  const rt::Duration alone = TimeOfMost("alone", 32, false);
  const rt::Duration beside = TimeOfMost("beside", 32, true);
  EXPECT_LT(beside, 2 * alone);
}

// A word that is lost costs the time of a lease or of a load, and nothing for ever.
TEST_F(HandoverConnectorTest, LostTransfersAndWordsEndWithTheirTime) {
  HandoverOptions options;
  options.key = kKey;
  options.timeout = std::chrono::seconds(2);
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    targets_.clear();
    decode_.reset();
    prefill_ =
        std::make_unique<Side>(world_.AddNode("p" + std::to_string(seed)), exchange_, options);
    decode_ = std::make_unique<Side>(world_.AddNode("d" + std::to_string(seed)), exchange_, options,
                                     transport::FaultOptions{.seed = seed, .drop = 0.1});
    const rt::Time begun = world_.now();
    const std::vector<std::string> records = OfferPairs(24);
    for (std::uint64_t id = 1; id <= records.size(); ++id) {
      BeginLoad(*decode_, id, records[id - 1]);
    }
    std::size_t ended = 0;
    std::vector<LoadEnd> ends;
    RunUntil([&] {
      ends.clear();
      decode_->connector->Poll(world_.now(), ends);
      ended += ends.size();
      prefill_->connector->Poll(world_.now(), ends);
      return ended == records.size() && prefill_->cache->pool().pinned_count() == 0;
    });
    EXPECT_LE(world_.now() - begun, std::chrono::seconds(5));
    EXPECT_EQ(decode_->connector->counters().loads_running, 0U);
    EXPECT_EQ(decode_->connector->counters().chunks_running, 0U);
    EXPECT_EQ(prefill_->connector->counters().offers, 0U);
    lost_ += prefill_->connector->counters()
                 .offer_ends[static_cast<std::size_t>(HandoverState::kExpired)];
  }
  targets_.clear();
  EXPECT_GT(lost_, 10U) << "hardly anything was lost";
}

TEST_F(HandoverConnectorTest, WhatHasNotEndedWellIsNotKept) {
  Start();
  auto request = std::make_shared<ConnectorRequest>(*prefill_->Request(1, 2));
  request->prefill_only = true;
  prefill_->connector->Finished(request, {});
  bool told = false;
  prefill_->connector->Watch(RequestId{1}, [&](const std::optional<std::string>& news) {
    EXPECT_FALSE(news);
    told = true;
  });
  RunUntil([&] { return told; });
}

}  // namespace
}  // namespace pixii::kv
