#include "kv/plugin_connector.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "kv/connector_plugin.h"
#include "unit/kv/tiers/stored_blocks.h"

namespace pixii::kv {
namespace {

constexpr std::uint32_t kPoolBlocks = 64;

/// A plug-in whose functions a test may replace. One at a time: tables hold no state.
struct Cache {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::string> records;
  std::vector<std::uint64_t> finished;
  std::function<void()> on_call;                                 // of matched_tokens and step
  std::function<void(std::string& record, std::size_t&)> spoil;  // what is given back
  bool destroyed = false;
};

Cache* cache = nullptr;

std::string Text(const pixii_kv_key& key) {
  return {reinterpret_cast<const char*>(key.bytes), sizeof(key.bytes)};
}

void OnCall() {
  std::function<void()> body;
  {
    const std::lock_guard lock(cache->mutex);
    body = cache->on_call;
  }
  if (body) {
    body();
  }
}

std::size_t Matched(void* /*self*/, const pixii_kv_request* request, std::size_t computed) {
  OnCall();
  const std::lock_guard lock(cache->mutex);
  std::size_t end = computed / 4;
  while (end < request->key_count && cache->records.contains(Text(request->keys[end]))) {
    ++end;
  }
  return end * 4 - computed;
}

void Allocated(void* /*self*/, const pixii_kv_request* /*request*/, std::size_t /*computed*/,
               pixii_kv_target* targets, std::size_t count) {
  const std::lock_guard lock(cache->mutex);
  for (std::size_t i = 0; i < count; ++i) {
    std::string record = cache->records.at(Text(targets[i].key));
    std::size_t size = record.size();
    if (cache->spoil) {
      cache->spoil(record, size);
    }
    std::memcpy(targets[i].record, record.data(),
                std::min(record.size(), targets[i].record_capacity));
    targets[i].record_size = size;
  }
}

void Step(void* /*self*/, const pixii_kv_step* step) {
  OnCall();
  const std::lock_guard lock(cache->mutex);
  for (std::size_t i = 0; i < step->block_count; ++i) {
    const pixii_kv_block& block = step->blocks[i];
    cache->records[Text(block.key)] =
        std::string(static_cast<const char*>(block.record), block.record_size);
  }
}

constexpr pixii_kv_connector kTable = {
    .abi = PIXII_KV_CONNECTOR_ABI,
    .size = sizeof(pixii_kv_connector),
    .name = "test",
    .create = [](const char*, std::size_t, const pixii_kv_geometry*, pixii_error_text*) -> void* {
      return cache;
    },
    .destroy = [](void*) { cache->destroyed = true; },
    .matched_tokens = Matched,
    .allocated = Allocated,
    .step = Step,
    .finished =
        [](void*, std::uint64_t id) {
          const std::lock_guard lock(cache->mutex);
          cache->finished.push_back(id);
        },
};

class PluginConnectorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    cache = &cache_;
    pool_ = *BlockPool::Create({.block_count_max = kPoolBlocks});
    memory_.resize(kPoolBlocks * shape_.payload_bytes());
    Make({});
  }

  void TearDown() override {
    connector_.reset();
    EXPECT_EQ(pool_->pinned_count(), 0u);
  }

  void Make(const PluginConnectorOptions& options) {
    connector_.reset();
    const BlockRecord record(shape_, {"model", "numerics", "bf16"}, nullptr);
    BlockGeometry geometry;
    geometry.block_tokens = 4;
    auto plugin = ConnectorPlugin::Make(&kTable, "{}", geometry, 0, record.size_bytes());
    ASSERT_TRUE(plugin) << plugin.error().ToString();
    counters_ = std::make_shared<PluginCounters>();
    connector_ = std::make_unique<PluginConnector>(options, std::move(*plugin), record, counters_);
    connector_->Start([this] {
      const std::lock_guard lock(mutex_);
      woken_ = true;
      bell_.notify_all();
    });
  }

  ConnectorRequestRef MakeRequest(const std::vector<TokenId>& firsts) {
    auto made = std::make_shared<ConnectorRequest>();
    made->id = RequestId{++ids_};
    BlockChain& chain = made->chain;
    chain.root = MakeTestRoot();
    Hash128 hash = chain.root->hash;
    for (const TokenId first : firsts) {
      chain.tokens.insert(chain.tokens.end(), {first, 2, 3, 4});
      hash = TestIdentity().Chain(hash, std::span<const TokenId>(chain.tokens).last(4));
      chain.hashes.push_back(hash);
    }
    return made;
  }

  std::vector<std::byte> Truth(const Hash128& hash) const {
    return RandomBytes(shape_.payload_bytes(), hash.low);
  }

  std::span<std::byte> BytesOf(BlockId id) {
    return std::span(memory_).subspan(Raw(id) * shape_.payload_bytes(), shape_.payload_bytes());
  }

  void Compute(const ConnectorRequestRef& request) {
    std::vector<PublishedBlock> blocks;
    for (std::uint32_t i = 0; i < request->chain.hashes.size(); ++i) {
      auto acquired = pool_->Acquire();
      const auto bytes = BytesOf(acquired->pin.id());
      std::ranges::copy(Truth(request->chain.hashes[i]), bytes.begin());
      const auto tokens = std::span(request->chain.tokens).subspan(std::size_t{4} * i, 4);
      blocks.push_back({.hash = request->chain.hashes[i],
                        .parent = i == 0 ? request->chain.root->hash : request->chain.hashes[i - 1],
                        .root = request->chain.root,
                        .index = i,
                        .tokens = {tokens.begin(), tokens.end()},
                        .bytes = bytes,
                        .pin = std::move(acquired->pin)});
    }
    connector_->Published(std::move(blocks));
  }

  /// Polls as the engine does, until `condition` holds.
  bool PollUntil(const std::function<bool()>& condition) {
    for (int round = 0; round < 20'000; ++round) {
      connector_->Poll(now_, ends_);
      if (condition()) {
        return true;
      }
      std::unique_lock lock(mutex_);
      bell_.wait_for(lock, std::chrono::milliseconds(1), [this] { return woken_; });
      woken_ = false;
    }
    return false;
  }

  std::size_t KeptCount() {
    const std::lock_guard lock(cache_.mutex);
    return cache_.records.size();
  }

  void Keep(const ConnectorRequestRef& request) {
    const std::size_t before = KeptCount();
    Compute(request);
    ASSERT_TRUE(PollUntil([&] {
      return KeptCount() == before + request->chain.hashes.size() && connector_->idle();
    }));
    EXPECT_EQ(pool_->pinned_count(), 0u);
  }

  struct Loading {
    LoadId id{};
    std::vector<BlockPin> pins;
    std::vector<BlockMemory> targets;
  };

  Loading StartLoad(const ConnectorRequestRef& request, std::uint32_t first) {
    Loading loading;
    loading.id = LoadId{++ids_};
    for (std::uint32_t i = connector_->Guess(request, first); i > 0; --i) {
      auto acquired = pool_->Acquire();
      const auto bytes = BytesOf(acquired->pin.id());
      std::ranges::fill(bytes, std::byte{0xEE});
      loading.targets.push_back({.ref = acquired->pin.ref(), .bytes = bytes});
      loading.pins.push_back(std::move(acquired->pin));
    }
    connector_->Load(loading.id, request, first, loading.targets);
    return loading;
  }

  std::uint32_t Bring(const ConnectorRequestRef& request, std::uint32_t first = 0) {
    const Loading loading = StartLoad(request, first);
    ends_.clear();
    EXPECT_TRUE(PollUntil([&] { return !ends_.empty(); }));
    EXPECT_EQ(ends_.front().id, loading.id);
    for (std::uint32_t i = 0; i < ends_.front().blocks; ++i) {
      EXPECT_TRUE(
          std::ranges::equal(loading.targets[i].bytes, Truth(request->chain.hashes[first + i])));
    }
    return ends_.front().blocks;
  }

  std::uint64_t Faults(BlockFault fault) const {
    return counters_->faults[static_cast<std::size_t>(fault)];
  }

  void Set(std::function<void()> on_call) {
    const std::lock_guard lock(cache_.mutex);
    cache_.on_call = std::move(on_call);
  }

  BlockShape shape_ = SmallShape();
  Cache cache_;
  std::unique_ptr<BlockPool> pool_;
  std::vector<std::byte> memory_;
  std::shared_ptr<PluginCounters> counters_;
  std::unique_ptr<PluginConnector> connector_;
  std::vector<LoadEnd> ends_;
  rt::Time now_{std::chrono::seconds(1)};
  std::mutex mutex_;
  std::condition_variable bell_;
  bool woken_ = false;
  std::uint64_t ids_ = 0;
};

TEST_F(PluginConnectorTest, WhatItWasGivenComesBackAsItWas) {
  Keep(MakeRequest({1, 2, 3}));
  EXPECT_EQ(counters_->offered, 3u);
  const ConnectorRequestRef longer = MakeRequest({1, 2, 3, 4, 5});
  EXPECT_EQ(connector_->Match(longer, 0), 0u) << "nobody knows";
  EXPECT_EQ(connector_->Guess(longer, 0), 5u);
  EXPECT_EQ(Bring(longer), 3u);
  EXPECT_EQ(Bring(longer, 1), 2u);
  EXPECT_EQ(Bring(longer, 3), 0u);
  EXPECT_EQ(counters_->brought, 5u);
  connector_->Finished(longer, {});
  EXPECT_TRUE(PollUntil([&] {
    const std::lock_guard lock(cache_.mutex);
    return cache_.finished == std::vector<std::uint64_t>{Raw(longer->id)};
  }));
  connector_.reset();
  EXPECT_TRUE(cache_.destroyed);
}

TEST_F(PluginConnectorTest, WhatItBroughtItIsNotGivenAgain) {
  Keep(MakeRequest({1, 2}));
  EXPECT_EQ(Bring(MakeRequest({1, 2})), 2u);
  Compute(MakeRequest({1, 2}));
  Keep(MakeRequest({7}));
  EXPECT_EQ(counters_->offered, 3u);
}

TEST_F(PluginConnectorTest, WhateverItGivesInsteadIsFoundOut) {
  Keep(MakeRequest({1, 2, 3}));
  Keep(MakeRequest({9}));
  const std::string other = cache_.records.begin()->second;

  const struct {
    BlockFault fault;
    std::function<void(std::string&, std::size_t&)> spoil;
  } kCases[] = {
      {BlockFault::kChecksum, [](std::string& record, std::size_t&) { record.back() ^= 1; }},
      {BlockFault::kHeader, [](std::string& record, std::size_t&) { record[20] ^= 1; }},
      {BlockFault::kTruncated, [](std::string&, std::size_t& size) { --size; }},
      {BlockFault::kShape, [](std::string&, std::size_t& size) { size = ~std::size_t{0}; }},
      {BlockFault::kHeader,
       [](std::string& record, std::size_t&) { std::ranges::fill(record, '\0'); }},
  };

  for (const auto& one : kCases) {
    cache_.spoil = one.spoil;
    const std::uint64_t before = Faults(one.fault);
    EXPECT_EQ(Bring(MakeRequest({1, 2, 3})), 0u);
    EXPECT_EQ(Faults(one.fault), before + 1);
  }
  cache_.spoil = [&](std::string& record, std::size_t&) { record = other; };
  EXPECT_LE(Bring(MakeRequest({1, 2, 3})), 1u);
  EXPECT_EQ(Faults(BlockFault::kIdentity), 1u);
}

// Bits between the header and its padding, or behind it, may mean nothing: what comes is compared
// with the truth either way.
TEST_F(PluginConnectorTest, NoFlippedBitEverComesThrough) {
  constexpr std::uint64_t kSeed = 77;
  Keep(MakeRequest({1}));
  rt::Random random(kSeed);
  const std::size_t size = cache_.records.begin()->second.size();
  cache_.spoil = [&](std::string& record, std::size_t&) {
    const std::uint64_t bit = size * 8 - 1 - random.Below(shape_.payload_bytes() * 8);
    record[bit / 8] ^= static_cast<char>(1U << bit % 8);
  };
  for (int round = 0; round < 1000; ++round) {
    ASSERT_EQ(Bring(MakeRequest({1})), 0u) << "round " << round;
  }
  EXPECT_EQ(Faults(BlockFault::kChecksum), 1000u);
}

TEST_F(PluginConnectorTest, WhatIsInDoubtIsNeverTakenFromItAgain) {
  const ConnectorRequestRef request = MakeRequest({1, 2, 3});
  Keep(request);
  connector_->Distrust(std::span(request->chain.hashes).subspan(1, 1));
  EXPECT_EQ(connector_->Guess(request, 0), 1u);
  EXPECT_EQ(Bring(MakeRequest({1, 2, 3})), 1u);
}

TEST_F(PluginConnectorTest, HoweverMuchIsInDoubtTheRestIsTakenFromItStill) {
  const ConnectorRequestRef request = MakeRequest({1, 2, 3});
  Keep(request);
  std::vector<Hash128> doubted;
  for (std::uint64_t i = 1; i <= 100'000; ++i) {
    doubted.push_back(HashKey("doubts").Digest(std::as_bytes(std::span(&i, 1))));
  }
  connector_->Distrust(doubted);
  EXPECT_EQ(Bring(MakeRequest({1, 2, 3})), 3u);
  connector_->Distrust(std::span(request->chain.hashes).subspan(1, 1));
  EXPECT_EQ(Bring(MakeRequest({1, 2, 3})), 1u);
}

TEST_F(PluginConnectorTest, WhereAnotherWorkerKeepsTheBlocksItIsNotAsked) {
  auto request = std::make_shared<ConnectorRequest>(*MakeRequest({1}));
  request->handover = "a record";
  EXPECT_EQ(connector_->Guess(request, 0), 0u);
}

TEST_F(PluginConnectorTest, OneThatThrowsIsLeftAloneForAWhile) {
  Keep(MakeRequest({1}));
  Set([] { throw std::runtime_error("on purpose"); });
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Bring(MakeRequest({1})), 0u);
  }
  EXPECT_EQ(counters_->threw, 3u);
  EXPECT_EQ(connector_->Guess(MakeRequest({1}), 0), 0u);
  Set({});
  now_ += std::chrono::seconds(2);
  connector_->Poll(now_, ends_);
  EXPECT_EQ(Bring(MakeRequest({1})), 1u);
}

TEST_F(PluginConnectorTest, OneThatHangsCostsOneWaitHoldsNoPinAndTouchesNothingLater) {
  Keep(MakeRequest({1, 2}));
  std::mutex gate;
  gate.lock();
  Set([&] { const std::lock_guard wait(gate); });
  const Loading loading = StartLoad(MakeRequest({1, 2}), 0);
  ends_.clear();
  connector_->Poll(now_, ends_);
  EXPECT_TRUE(ends_.empty());
  now_ += std::chrono::seconds(6);
  connector_->Poll(now_, ends_);
  ASSERT_EQ(ends_.size(), 1u);
  EXPECT_EQ(ends_.front().blocks, 0u);
  EXPECT_EQ(ends_.front().error->code(), Code::kDeadlineExceeded);
  EXPECT_EQ(counters_->late, 1u);
  EXPECT_TRUE(connector_->idle());
  EXPECT_EQ(connector_->Guess(MakeRequest({1, 2}), 0), 0u);
  Compute(MakeRequest({5, 6, 7}));
  EXPECT_EQ(counters_->refused, 3u) << "nothing is piled up for it";
  Set({});
  gate.unlock();
  ASSERT_TRUE(PollUntil([&] { return connector_->Guess(MakeRequest({1, 2}), 0) == 2u; }));
  for (const BlockMemory& target : loading.targets) {
    EXPECT_TRUE(
        std::ranges::all_of(target.bytes, [](std::byte byte) { return byte == std::byte{0xEE}; }));
  }
  EXPECT_EQ(Bring(MakeRequest({1, 2})), 2u);
}

TEST_F(PluginConnectorTest, ACancelledLoadEndsAtOnce) {
  Keep(MakeRequest({1}));
  std::mutex gate;
  gate.lock();
  Set([&] { const std::lock_guard wait(gate); });
  const Loading loading = StartLoad(MakeRequest({1}), 0);
  connector_->Cancel(loading.id);
  ends_.clear();
  connector_->Poll(now_, ends_);
  ASSERT_EQ(ends_.size(), 1u);
  EXPECT_EQ(ends_.front().error->code(), Code::kCancelled);
  Set({});
  gate.unlock();
  EXPECT_EQ(Bring(MakeRequest({1})), 1u);
}

TEST_F(PluginConnectorTest, MoreThanItsShareOfMemoryIsNotPiledUp) {
  Make({.bytes_in_flight_max = 1});
  Compute(MakeRequest({1, 2}));
  EXPECT_EQ(counters_->refused, 2u);
  EXPECT_EQ(pool_->pinned_count(), 0u);
}

TEST(ConnectorPlugin, ATableThatIsNotWholeIsRefused) {
  pixii_kv_connector table = kTable;
  const auto make = [&](const pixii_kv_connector* given) {
    return ConnectorPlugin::Make(given, "{}", {}, 0, 1).error().code();
  };
  EXPECT_EQ(make(nullptr), Code::kUnsupported);
  table.abi = PIXII_KV_CONNECTOR_ABI + 1;
  EXPECT_EQ(make(&table), Code::kUnsupported);
  table = kTable;
  table.finished = nullptr;
  EXPECT_EQ(make(&table), Code::kUnsupported);
  table = kTable;
  table.create = [](const char*, std::size_t, const pixii_kv_geometry*,
                    pixii_error_text* error) -> void* {
    std::snprintf(error->text, error->capacity, "not today");
    return nullptr;
  };
  const Error error = ConnectorPlugin::Make(&table, "{}", {}, 0, 1).error();
  EXPECT_EQ(error.code(), Code::kInvalidArgument);
  EXPECT_EQ(error.detail(), "not today");
}

}  // namespace
}  // namespace pixii::kv
