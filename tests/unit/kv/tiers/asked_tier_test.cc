// A tier that cannot say what others have put into it: it is asked by reading.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kv/connector_stack.h"
#include "kv/tiers/job_runner.h"
#include "kv/tiers/object_store.h"
#include "kv/tiers/tiered_connector.h"
#include "unit/kv/tiers/stored_blocks.h"

namespace pixii::kv {
namespace {

constexpr std::uint32_t kPoolBlocks = 32;

/// What many workers share.
struct Shared {
  std::map<std::string, std::string> objects;
  std::optional<Code> fault;  // of every call
  std::uint32_t gets = 0;
};

class SharedService final : public ObjectService {
 public:
  explicit SharedService(Shared& shared) : shared_(shared) {}

  Result<void> Put(const std::string& name, std::string_view bytes) override {
    if (shared_.fault) {
      return Fail(*shared_.fault, "broken");
    }
    shared_.objects[name] = bytes;
    return {};
  }

  Result<std::string> Get(const std::string& name, std::uint64_t /*size_max*/) override {
    ++shared_.gets;
    if (shared_.fault) {
      return Fail(*shared_.fault, "broken");
    }
    const auto found = shared_.objects.find(name);
    if (found == shared_.objects.end()) {
      return Fail(Code::kNotFound, "nothing");
    }
    return found->second;
  }

  Result<void> Delete(const std::string& /*name*/) override { return {}; }

  Result<void> List(const std::string& /*prefix*/, ListWatch& /*watch*/,
                    const std::function<bool(std::string_view)>& /*on_name*/) override {
    return {};
  }

 private:
  Shared& shared_;
};

class RunNow final : public JobRunner {
 public:
  void Post(bool /*urgent*/, Job job) override { job(); }
};

class Worker final {
 public:
  explicit Worker(Shared& shared, std::uint32_t slots = 64) {
    pool_ = *BlockPool::Create({.block_count_max = kPoolBlocks});
    memory_.resize(kPoolBlocks * shape_.payload_bytes());
    TieredConnectorOptions options;
    options.shape = shape_;
    std::vector<TierSetup> tiers;
    TierSetup& remote = tiers.emplace_back();
    remote.tier = Tier::kObject;
    remote.index = {.slot_count = slots};
    remote.has_slots = false;
    remote.is_asked = true;
    remote.store = std::make_unique<ObjectStore>(
        std::make_unique<SharedService>(shared), shape_, DiskModel{"model", "numerics", "bf16"},
        std::make_shared<const BlockSealer>("a key of sixteen"));
    remote.runner = std::make_unique<RunNow>();
    auto tiered = std::make_unique<TieredConnector>(options, std::move(tiers), counters);
    tiered_ = tiered.get();
    std::vector<std::unique_ptr<Connector>> parts;
    parts.push_back(std::move(tiered));
    connector = std::make_unique<ConnectorStack>(std::move(parts));
    connector->Start([] {});
  }

  ~Worker() { connector.reset(); }

  void Compute(const ConnectorRequestRef& request) {
    std::vector<PublishedBlock> blocks;
    for (std::uint32_t i = 0; i < request->chain.hashes.size(); ++i) {
      auto acquired = pool_->Acquire();
      ASSERT_TRUE(acquired);
      const auto bytes = BytesOf(acquired->pin.id());
      std::ranges::copy(Truth(request->chain.hashes[i]), bytes.begin());
      const auto tokens = std::span(request->chain.tokens).subspan(4 * i, 4);
      blocks.push_back({.hash = request->chain.hashes[i],
                        .parent = i == 0 ? request->chain.root->hash : request->chain.hashes[i - 1],
                        .root = request->chain.root,
                        .index = i,
                        .tokens = {tokens.begin(), tokens.end()},
                        .bytes = bytes,
                        .pin = std::move(acquired->pin)});
    }
    connector->Published(std::move(blocks));
    Poll();
  }

  /// How many blocks came, each as it was computed.
  std::uint32_t Bring(const ConnectorRequestRef& request, std::uint32_t first = 0) {
    const std::uint32_t count = connector->Match(request, first);
    if (count == 0) {
      return 0;
    }
    std::vector<BlockPin> pins;
    std::vector<BlockMemory> targets;
    for (std::uint32_t i = 0; i < count; ++i) {
      auto acquired = pool_->Acquire();
      const auto bytes = BytesOf(acquired->pin.id());
      std::ranges::fill(bytes, std::byte{0xEE});
      targets.push_back({.ref = acquired->pin.ref(), .bytes = bytes});
      pins.push_back(std::move(acquired->pin));
    }
    connector->Load(LoadId{++loads_}, request, first, targets);
    const std::vector<LoadEnd> ended = Poll();
    EXPECT_EQ(ended.size(), 1u);
    for (std::uint32_t i = 0; i < ended.front().blocks; ++i) {
      EXPECT_TRUE(std::ranges::equal(targets[i].bytes, Truth(request->chain.hashes[first + i])));
    }
    tiered_->CheckInvariants();
    return ended.front().blocks;
  }

  std::vector<LoadEnd> Poll() {
    std::vector<LoadEnd> ended;
    now += std::chrono::milliseconds(1);
    connector->Poll(now, ended);
    return ended;
  }

  std::unique_ptr<Connector> connector;
  std::shared_ptr<TierCounters> counters = std::make_shared<TierCounters>();
  rt::Time now{std::chrono::seconds(1)};

 private:
  std::vector<std::byte> Truth(const Hash128& hash) const {
    return RandomBytes(shape_.payload_bytes(), hash.low);
  }

  std::span<std::byte> BytesOf(BlockId id) {
    return std::span(memory_).subspan(Raw(id) * shape_.payload_bytes(), shape_.payload_bytes());
  }

  BlockShape shape_ = SmallShape();
  std::unique_ptr<BlockPool> pool_;
  std::vector<std::byte> memory_;
  TieredConnector* tiered_ = nullptr;
  std::uint64_t loads_ = 0;
};

std::shared_ptr<ConnectorRequest> MakeRequest(std::uint64_t id,
                                              const std::vector<TokenId>& firsts) {
  auto made = std::make_shared<ConnectorRequest>();
  made->id = RequestId{id};
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

TEST(AskedTier, WhatOneWorkerWroteAnotherGetsWithoutBeingTold) {
  Shared shared;
  Worker writer(shared);
  Worker reader(shared);
  writer.Compute(MakeRequest(1, {1, 2, 3}));
  EXPECT_EQ(shared.objects.size(), 3u);
  // The first three are there, then there is a hole.
  EXPECT_EQ(reader.Bring(MakeRequest(2, {1, 2, 3, 4, 5})), 3u);
  EXPECT_EQ(shared.gets, 4u) << "nothing is asked behind the hole";
  EXPECT_EQ(reader.counters->matched_tokens, 12u);
  EXPECT_EQ(reader.counters->of(Tier::kObject).stored, 3u);
  EXPECT_EQ(reader.counters->of(Tier::kObject).found, 3u);
  EXPECT_EQ(reader.counters->of(Tier::kObject).asked, 4u);
  for (const auto& count : reader.counters->of(Tier::kObject).faults) {
    EXPECT_EQ(count, 0u) << "a guess that was wrong is no fault";
  }
  // From now on it knows these.
  EXPECT_EQ(reader.connector->Match(MakeRequest(3, {1, 2, 3}), 0), 3u);
}

TEST(AskedTier, ABlockThatCameLaterIsFoundThen) {
  Shared shared;
  Worker writer(shared);
  Worker reader(shared);
  EXPECT_EQ(reader.Bring(MakeRequest(1, {1, 2})), 0u);
  writer.Compute(MakeRequest(2, {1, 2}));
  EXPECT_EQ(reader.Bring(MakeRequest(3, {1, 2})), 2u);
}

TEST(AskedTier, WhereAnotherWorkerKeepsTheBlocksNothingIsGuessed) {
  Shared shared;
  Worker writer(shared);
  writer.Compute(MakeRequest(1, {1, 2}));
  auto request = MakeRequest(2, {1, 2, 3});
  request->handover = "a record";
  EXPECT_EQ(writer.connector->Match(request, 0), 2u) << "what it knows of";
  Worker reader(shared);
  EXPECT_EQ(reader.connector->Match(request, 0), 0u);
}

TEST(AskedTier, AStoreThatFailsIsLeftAloneAndAskedAgainLater) {
  Shared shared;
  Worker writer(shared);
  Worker reader(shared);
  writer.Compute(MakeRequest(1, {1}));
  shared.fault = Code::kUnavailable;
  for (std::uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(reader.Bring(MakeRequest(10 + i, {1, 2, 3})), 0u);
  }
  EXPECT_EQ(reader.connector->Match(MakeRequest(20, {1}), 0), 0u);
  EXPECT_EQ(reader.counters->of(Tier::kObject).read_failures, 3u);
  shared.fault.reset();
  reader.now += std::chrono::seconds(2);
  reader.Poll();
  EXPECT_EQ(reader.Bring(MakeRequest(21, {1})), 1u);
}

TEST(AskedTier, BlocksOfAnotherKeyOrSpoiltOnesAreFaultsAndAreWrittenAgain) {
  Shared shared;
  Worker writer(shared);
  Worker reader(shared);
  writer.Compute(MakeRequest(1, {1, 2}));
  for (auto& [name, bytes] : shared.objects) {
    bytes[bytes.size() - 1] = static_cast<char>(bytes[bytes.size() - 1] ^ 1);
  }
  EXPECT_EQ(reader.Bring(MakeRequest(2, {1, 2})), 0u);
  EXPECT_EQ(
      reader.counters->of(Tier::kObject).faults[static_cast<std::size_t>(BlockFault::kChecksum)],
      1u);
  reader.Compute(MakeRequest(3, {1, 2}));
  EXPECT_EQ(Worker(shared).Bring(MakeRequest(4, {1, 2})), 2u);
}

TEST(AskedTier, WhatIsInDoubtIsNotAskedForAgainUntilItIsWrittenAnew) {
  Shared shared;
  Worker worker(shared);
  const ConnectorRequestRef request = MakeRequest(1, {1, 2});
  worker.Compute(request);
  worker.connector->Distrust(std::span(request->chain.hashes).last(1));
  EXPECT_EQ(shared.objects.size(), 2u) << "nobody can take it back";
  EXPECT_EQ(worker.Bring(MakeRequest(2, {1, 2})), 1u);
  worker.Compute(MakeRequest(3, {1, 2}));
  EXPECT_EQ(worker.Bring(MakeRequest(4, {1, 2})), 2u);
}

TEST(AskedTier, AnIndexThatIsSmallForgetsAndGuessesOn) {
  Shared shared;
  Worker writer(shared);
  Worker reader(shared, 2);
  writer.Compute(MakeRequest(1, {1, 2, 3, 4}));
  const std::uint32_t brought = reader.Bring(MakeRequest(2, {1, 2, 3, 4}));
  EXPECT_GE(brought, 2u);
  EXPECT_EQ(reader.Bring(MakeRequest(3, {9, 8, 7})), 0u);
}

}  // namespace
}  // namespace pixii::kv
