#include "kv/tiers/tiered_connector.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "unit/kv/tiers/faulty_file.h"
#include "unit/kv/tiers/tiered_connector_world.h"
#include "wire/public_hash.h"

namespace pixii::kv {
namespace {

/// Runs jobs when the test says so.
class ManualRunner final : public JobRunner {
 public:
  explicit ManualRunner(std::shared_ptr<std::deque<Job>> jobs) : jobs_(std::move(jobs)) {}

  void Post(bool urgent, Job job) override {
    if (urgent) {
      jobs_->push_front(std::move(job));
    } else {
      jobs_->push_back(std::move(job));
    }
  }

 private:
  std::shared_ptr<std::deque<Job>> jobs_;
};

/// A store that a test can break.
class BrokenStore final : public BlockStore {
 public:
  struct Faults {
    BlockFault read = BlockFault::kNone;
    std::optional<Code> write;
    std::optional<std::size_t> flip;  // byte of what is read
  };

  BrokenStore(std::unique_ptr<BlockStore> store, std::shared_ptr<Faults> faults)
      : store_(std::move(store)), faults_(std::move(faults)) {}

  Result<void> Write(std::uint32_t slot, StoredBlock block,
                     std::span<const std::byte> payload) override {
    if (faults_->write) {
      return Fail(*faults_->write, "broken");
    }
    return store_->Write(slot, std::move(block), payload);
  }

  BlockFault Read(std::uint32_t slot, const Hash128& hash, StoredBlock& block,
                  std::span<const std::byte>& payload) override {
    if (faults_->read != BlockFault::kNone) {
      SetTrouble("cannot read");
      return faults_->read;
    }
    const BlockFault fault = store_->Read(slot, hash, block, payload);
    if (fault == BlockFault::kNone && faults_->flip) {
      copy_.assign(payload.begin(), payload.end());
      copy_[*faults_->flip] ^= std::byte{16};
      payload = copy_;
    }
    return fault;
  }

  void Drop(std::uint32_t slot, const Hash128& hash) override { store_->Drop(slot, hash); }

  void Scan(const std::function<bool(Found)>& on_found,
            const std::function<void(BlockFault)>& on_fault) override {
    store_->Scan(on_found, on_fault);
  }

 private:
  std::unique_ptr<BlockStore> store_;
  std::shared_ptr<Faults> faults_;
  std::vector<std::byte> copy_;
};

constexpr std::uint32_t kPoolBlocks = 64;

class TieredConnectorTest : public ::testing::Test {
 protected:
  struct Setup {
    std::uint32_t host_slots = 64;
    std::uint32_t disk_slots = 0;
    bool filter = true;
    std::uint64_t bytes_in_flight_max = 1 << 20;
    EvictionPolicy policy = EvictionPolicy::kLeafFirst;
    std::uint32_t events = 1000;
    bool threads = false;  // jobs run on threads of their own
  };

  void SetUp() override {
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
    pool_ = *BlockPool::Create({.block_count_max = kPoolBlocks});
    memory_.resize(kPoolBlocks * shape_.payload_bytes());
  }

  void TearDown() override {
    connector_.reset();
    jobs_->clear();
    pool_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Make(const Setup& setup) {
    connector_.reset();
    jobs_->clear();
    TieredConnectorOptions options;
    options.shape = shape_;
    options.filter = setup.filter;
    options.batch_blocks = 4;
    options.bytes_in_flight_max = setup.bytes_in_flight_max;
    options.journal = {.event_count_max = setup.events, .has_tokens = true};
    options.log = &log_;
    options.rank = 3;
    counters_ = std::make_shared<TierCounters>();
    std::vector<TierSetup> tiers;
    if (setup.host_slots > 0) {
      TierSetup& host = tiers.emplace_back();
      host.tier = Tier::kHost;
      host.index = {.slot_count = setup.host_slots, .policy = setup.policy};
      auto store = std::make_unique<HostStore>(shape_, setup.host_slots);
      host_ = store.get();
      host.store = std::make_unique<BrokenStore>(std::move(store), host_faults_);
      host.runner = MakeRunner(setup);
    }
    if (setup.disk_slots > 0) {
      DiskStoreOptions disk_options;
      disk_options.folder = folder_;
      disk_options.size_bytes = 4096 + setup.disk_slots * MakeDiskHeader(shape_, {}).slot_bytes();
      auto store = DiskStore::Open(shape_, {"model", "numerics", "bf16"}, disk_options);
      ASSERT_TRUE(store) << store.error().ToString();
      TierSetup& disk = tiers.emplace_back();
      disk.tier = Tier::kDisk;
      disk.index = {.slot_count = (*store)->slot_count(), .policy = setup.policy};
      disk.store = std::make_unique<BrokenStore>(std::move(*store), disk_faults_);
      disk.runner = MakeRunner(setup);
      disk.scan = true;
    }
    connector_ = std::make_unique<TieredConnector>(options, std::move(tiers), counters_);
    connector_->Start([this] { woken_ = true; });
    RunAll();
  }

  std::unique_ptr<JobRunner> MakeRunner(const Setup& setup) {
    if (setup.threads) {
      return std::make_unique<JobThread>("test");
    }
    return std::make_unique<ManualRunner>(jobs_);
  }

  /// A request whose prompt is blocks of `firsts`.
  ConnectorRequestRef MakeRequest(const std::vector<TokenId>& firsts, const TestRoot& root = {},
                                  std::int32_t priority = 0) {
    auto made = std::make_shared<ConnectorRequest>();
    made->id = RequestId{++ids_};
    made->tenant = root.tenant;
    made->priority = priority;
    BlockChain& chain = made->chain;
    chain.root = MakeTestRoot(root);
    for (const TokenId first : firsts) {
      chain.tokens.insert(chain.tokens.end(), {first, 2, 3, 4});
    }
    Hash128 hash = chain.root->hash;
    for (std::size_t i = 0; i < firsts.size(); ++i) {
      hash = TestIdentity().Chain(hash, std::span<const TokenId>(chain.tokens).subspan(4 * i, 4));
      chain.hashes.push_back(hash);
    }
    return made;
  }

  /// What the model computes for a block.
  std::vector<std::byte> Truth(const Hash128& hash) const {
    return RandomBytes(shape_.payload_bytes(), hash.low);
  }

  std::span<std::byte> BytesOf(BlockId id) {
    return std::span(memory_).subspan(Raw(id) * shape_.payload_bytes(), shape_.payload_bytes());
  }

  /// The engine computes blocks `first`.. of the request and publishes them.
  void Compute(const ConnectorRequestRef& made, std::uint32_t first = 0) {
    std::vector<PublishedBlock> blocks;
    for (std::uint32_t i = first; i < made->chain.hashes.size(); ++i) {
      auto acquired = pool_->Acquire();
      ASSERT_TRUE(acquired);
      const auto bytes = BytesOf(acquired->pin.id());
      std::ranges::copy(Truth(made->chain.hashes[i]), bytes.begin());
      PublishedBlock& block = blocks.emplace_back();
      block.hash = made->chain.hashes[i];
      block.parent = i == 0 ? made->chain.root->hash : made->chain.hashes[i - 1];
      block.root = made->chain.root;
      block.index = i;
      const auto tokens = std::span(made->chain.tokens).subspan(4 * i, 4);
      block.tokens.assign(tokens.begin(), tokens.end());
      block.bytes = bytes;
      block.pin = std::move(acquired->pin);
    }
    connector_->Published(std::move(blocks));
  }

  void RunAll() {
    while (!jobs_->empty()) {
      RunOne();
    }
    Poll();
    if (!jobs_->empty()) {
      RunAll();
    }
  }

  void RunOne() {
    Job job = std::move(jobs_->front());
    jobs_->pop_front();
    job();
  }

  void Poll(rt::Duration passed = std::chrono::milliseconds(1)) {
    now_ += passed;
    std::vector<LoadEnd> ended;
    connector_->Poll(now_, ended);
    for (LoadEnd& end : ended) {
      EXPECT_FALSE(ends_.contains(end.id)) << "told twice";
      ends_.emplace(end.id, std::move(end));
    }
  }

  struct Loading {
    LoadId id{};
    std::vector<BlockPin> pins;
    std::vector<BlockMemory> targets;
  };

  Loading StartLoad(const ConnectorRequestRef& made, std::uint32_t first, std::uint32_t count) {
    Loading loading;
    loading.id = LoadId{++ids_};
    for (std::uint32_t i = 0; i < count; ++i) {
      auto acquired = pool_->Acquire();
      EXPECT_TRUE(acquired);
      const auto bytes = BytesOf(acquired->pin.id());
      std::ranges::fill(bytes, std::byte{0xEE});
      loading.targets.push_back({.ref = acquired->pin.ref(), .bytes = bytes});
      loading.pins.push_back(std::move(acquired->pin));
    }
    connector_->Load(loading.id, made, first, loading.targets);
    return loading;
  }

  /// Blocks that came; each is checked to be what the model computes.
  std::uint32_t Bring(const ConnectorRequestRef& made, std::uint32_t first = 0) {
    const std::uint32_t matched = connector_->Match(made, first);
    if (matched == 0) {
      return 0;
    }
    const Loading loading = StartLoad(made, first, matched);
    RunAll();
    EXPECT_TRUE(ends_.contains(loading.id));
    const std::uint32_t blocks = ends_[loading.id].blocks;
    for (std::uint32_t i = 0; i < blocks; ++i) {
      EXPECT_TRUE(
          std::ranges::equal(loading.targets[i].bytes, Truth(made->chain.hashes[first + i])))
          << "block " << first + i;
    }
    return blocks;
  }

  void Finish(const ConnectorRequestRef& made) { connector_->Finished(made, {}); }

  /// What the log said of tiers since the last call, in order.
  std::vector<std::string> Said() {
    std::vector<std::string> out;
    for (const std::string& line : std::exchange(lines_, {})) {
      if (const std::size_t at = line.find("kv.tier."); at != std::string::npos) {
        out.push_back(line.substr(at, line.size() - at - 1));
      }
    }
    return out;
  }

  std::uint64_t Faults(Tier tier, BlockFault fault) const {
    return counters_->of(tier).faults[static_cast<std::size_t>(fault)];
  }

  BlockShape shape_ = SmallShape();
  std::string folder_ = ::testing::TempDir() + "pixii-tiers-XXXXXX";
  std::unique_ptr<BlockPool> pool_;
  std::vector<std::byte> memory_;
  std::shared_ptr<std::deque<Job>> jobs_ = std::make_shared<std::deque<Job>>();
  std::shared_ptr<BrokenStore::Faults> host_faults_ = std::make_shared<BrokenStore::Faults>();
  std::shared_ptr<BrokenStore::Faults> disk_faults_ = std::make_shared<BrokenStore::Faults>();
  std::shared_ptr<TierCounters> counters_;
  std::unique_ptr<TieredConnector> connector_;
  HostStore* host_ = nullptr;
  std::map<LoadId, LoadEnd> ends_;
  rt::Time now_{std::chrono::seconds(1)};
  std::uint64_t ids_ = 0;
  std::atomic<bool> woken_ = false;
  std::vector<std::string> lines_;
  obs::Log log_{{},
                [] { return rt::WallTime{}; },
                [this](obs::Severity, std::string_view line) { lines_.emplace_back(line); }};
};

// A pool has one thread: a job that is over, but not gone yet, may not hold the last pin.
TEST_F(TieredConnectorTest, APinGoesWhereWordOfTheWriteIsHeardNotWithTheJob) {
  Make({});
  const ConnectorRequestRef made = MakeRequest({1});
  Compute(made);
  ASSERT_EQ(jobs_->size(), 1U);
  Job job = std::move(jobs_->front());
  jobs_->pop_front();
  job();
  EXPECT_EQ(pool_->pinned_count(), 1U);
  Poll();
  EXPECT_EQ(pool_->pinned_count(), 0U);
}

TEST_F(TieredConnectorTest, BlocksGoToHostMemoryAndComeBackAsTheyWere) {
  Make({});
  const ConnectorRequestRef made = MakeRequest({1, 2, 3, 4, 5});
  EXPECT_EQ(connector_->Match(made, 0), 0U);
  Compute(made);
  EXPECT_FALSE(connector_->idle());
  EXPECT_GT(pool_->pinned_count(), 0U);
  RunAll();
  EXPECT_TRUE(connector_->idle());
  EXPECT_EQ(pool_->pinned_count(), 0U);
  EXPECT_EQ(counters_->of(Tier::kHost).written, 5U);
  EXPECT_EQ(Bring(made), 5U);
  EXPECT_EQ(Bring(made, 2), 3U);
  EXPECT_EQ(counters_->of(Tier::kHost).brought, 8U);
  EXPECT_EQ(counters_->matched_tokens, 32U);
  connector_->CheckInvariants();
}

TEST_F(TieredConnectorTest, AMatchEndsAtTheFirstHoleAndAScanSeesBeyond) {
  Make({});
  const ConnectorRequestRef made = MakeRequest({1, 2, 3, 4});
  Compute(made);
  RunAll();
  host_->bytes(1)[0] ^= std::byte{1};  // of its second block
  EXPECT_EQ(Bring(made), 1U);
  EXPECT_EQ(connector_->Match(made, 0), 1U);
  EXPECT_EQ(connector_->Find(made->chain.hashes), (std::vector<bool>{true, false, true, true}));
  EXPECT_EQ(Faults(Tier::kHost, BlockFault::kChecksum), 1U);
}

TEST_F(TieredConnectorTest, TwoSaltsTenantsOrAdaptersNeverShareABlock) {
  Make({.disk_slots = 64, .filter = false});
  Compute(MakeRequest({1, 2}, {.salt = "one"}));
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).written, 2U);
  EXPECT_EQ(Bring(MakeRequest({1, 2}, {.salt = "one"})), 2U);
  EXPECT_EQ(Bring(MakeRequest({1, 2}, {.salt = "two"})), 0U);
  EXPECT_EQ(Bring(MakeRequest({1, 2}, {.tenant = "one"})), 0U);
  EXPECT_EQ(Bring(MakeRequest({1, 2}, {.adapter = "one"})), 0U);
  EXPECT_EQ(Bring(MakeRequest({1, 2})), 0U);
}

TEST_F(TieredConnectorTest, ABlockUsedOnceStaysOffTheDiskAndOneUsedTwiceGoesThere) {
  Make({.disk_slots = 64});
  const ConnectorRequestRef made = MakeRequest({1, 2});
  connector_->Match(made, 0);
  Compute(made);
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).written, 0U);
  connector_->Match(MakeRequest({1, 9}), 1);  // begins with the first block
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).written, 1U);
}

TEST_F(TieredConnectorTest, ARequestCountsOnceHoweverOftenItIsAskedFor) {
  Make({.disk_slots = 64});
  const ConnectorRequestRef made = MakeRequest({1, 2});
  connector_->Match(made, 0);
  Compute(made);
  RunAll();
  connector_->Match(made, 0);
  connector_->Match(made, 0);
  Finish(made);
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).written, 0U);
  // The cache has all of the second one, so it is first heard of at its end.
  Finish(MakeRequest({1, 2}));
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).written, 2U);
}

TEST_F(TieredConnectorTest, WithoutTheFilterEveryBlockGoesToTheDisk) {
  Make({.disk_slots = 64, .filter = false});
  Compute(MakeRequest({1, 2}));
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).written, 2U);
}

TEST_F(TieredConnectorTest, WithADiskAloneBlocksGoThereAtOnce) {
  Make({.host_slots = 0, .disk_slots = 64});
  const ConnectorRequestRef made = MakeRequest({1, 2, 3});
  Compute(made);
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).written, 3U);
  EXPECT_EQ(Bring(made), 3U);
  EXPECT_EQ(pool_->pinned_count(), 0U);
}

TEST_F(TieredConnectorTest, WhatHostMemoryEvictedComesFromTheDisk) {
  Make({.host_slots = 4, .disk_slots = 64, .filter = false});
  const ConnectorRequestRef old = MakeRequest({1, 2, 3, 4});
  Compute(old);
  RunAll();
  Compute(MakeRequest({5, 6, 7, 8}));
  RunAll();
  EXPECT_GT(counters_->of(Tier::kHost).evicted, 0U);
  EXPECT_EQ(Bring(old), 4U);
  EXPECT_GT(counters_->of(Tier::kDisk).brought, 0U);
  connector_->CheckInvariants();
}

TEST_F(TieredConnectorTest, ARestartFindsWhatTheDiskHas) {
  Make({.disk_slots = 64, .filter = false});
  const ConnectorRequestRef made = MakeRequest({1, 2, 3});
  Compute(made);
  RunAll();
  Make({.disk_slots = 64, .filter = false});
  EXPECT_EQ(counters_->of(Tier::kDisk).stored, 3U);
  EXPECT_EQ(Bring(made), 3U);
  EXPECT_EQ(counters_->of(Tier::kDisk).brought, 3U);
}

TEST_F(TieredConnectorTest, ABlockThatIsThereAlreadyIsNotWrittenAgain) {
  Make({});
  const ConnectorRequestRef made = MakeRequest({1, 2});
  Compute(made);
  Compute(made);
  RunAll();
  Compute(made);
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kHost).written, 2U);
  EXPECT_EQ(pool_->pinned_count(), 0U);
}

TEST_F(TieredConnectorTest, ClearingForgetsHostMemoryAndIfAskedWhatLasts) {
  Make({.disk_slots = 64, .filter = false});
  const ConnectorRequestRef made = MakeRequest({1, 2, 3});
  Compute(made);
  RunAll();
  connector_->Clear(false);
  EXPECT_EQ(counters_->of(Tier::kHost).stored, 0U);
  EXPECT_EQ(Bring(made), 3U);
  EXPECT_EQ(counters_->of(Tier::kDisk).brought, 3U);
  Compute(made);  // is on its way while everything is thrown away
  connector_->Clear(true);
  RunAll();
  EXPECT_EQ(connector_->Match(made, 0), 0U);
  EXPECT_EQ(counters_->of(Tier::kDisk).stored, 0U);
  Make({.disk_slots = 64, .filter = false});
  EXPECT_EQ(connector_->Match(made, 0), 0U) << "nor after a restart";
  connector_->CheckInvariants();
}

TEST_F(TieredConnectorTest, PriorityOfItsRequestsKeepsABlockLonger) {
  Make({.host_slots = 2, .policy = EvictionPolicy::kLru});
  const ConnectorRequestRef dear = MakeRequest({1}, {}, 5);
  Compute(dear);
  RunAll();
  Finish(dear);
  Compute(MakeRequest({2}));
  Compute(MakeRequest({3}));
  Compute(MakeRequest({4}));
  RunAll();
  EXPECT_EQ(Bring(dear), 1U);
}

struct Router {
  /// Applies what was told; asserts that nothing is told twice.
  void Hear(const CacheChanges& changes) {
    std::size_t stored = 0;
    for (const CacheEvent& event : changes.events) {
      auto& held = tiers[event.tier];
      if (event.kind == CacheEvent::Kind::kStored) {
        EXPECT_TRUE(held.insert(event.chain_hash).second) << "told twice";
        EXPECT_EQ(changes.tokens.size() / 4, changes.roots.size());
        ++stored;
      } else {
        EXPECT_EQ(held.erase(event.chain_hash), 1U) << "never told";
      }
    }
    EXPECT_EQ(stored, changes.roots.size());
  }

  std::map<wire::KvTier, std::set<std::uint64_t>> tiers;
};

TEST_F(TieredConnectorTest, RoutersHearOnceOfEachBlockThatATierHasAndOnceOfItsEnd) {
  Make({.host_slots = 4, .disk_slots = 64, .filter = false});
  Router router;
  auto hear = [&] {
    CacheChanges changes;
    connector_->DrainEvents(changes, false);
    router.Hear(changes);
  };
  const ConnectorRequestRef made = MakeRequest({1, 2, 3, 4});
  const std::vector<std::uint64_t> names = [&] {
    std::vector<std::uint64_t> chains;
    for (const std::uint64_t block : wire::PublicBlockHashes(made->chain.tokens, 4, 7)) {
      chains.push_back(chains.empty() ? block : wire::PublicChainHash(chains.back(), block));
    }
    return chains;
  }();
  Compute(made);
  RunAll();
  hear();
  EXPECT_EQ(router.tiers[wire::KvTier::kHost], std::set(names.begin(), names.end()));
  EXPECT_EQ(router.tiers[wire::KvTier::kDisk], std::set(names.begin(), names.end()));
  Compute(made);  // again: nobody hears of it
  RunAll();
  hear();
  Compute(MakeRequest({5, 6, 7, 8}));  // the host evicts, the disk does not
  RunAll();
  hear();
  EXPECT_EQ(router.tiers[wire::KvTier::kHost].size(), 4U);
  EXPECT_EQ(router.tiers[wire::KvTier::kDisk].size(), 8U);
  EXPECT_TRUE(router.tiers[wire::KvTier::kDisk].contains(names[0]));
  connector_->Distrust(made->chain.hashes);
  RunAll();
  hear();
  EXPECT_EQ(router.tiers[wire::KvTier::kDisk].size(), 4U);
  // Whoever has forgotten everything hears of everything; and so after a restart.
  Router other;
  CacheChanges all;
  EXPECT_TRUE(connector_->DrainEvents(all, true));
  other.Hear(all);
  EXPECT_EQ(other.tiers, router.tiers);
  Make({.host_slots = 4, .disk_slots = 64, .filter = false});
  Router later;
  CacheChanges found;
  connector_->DrainEvents(found, false);
  later.Hear(found);
  EXPECT_EQ(later.tiers[wire::KvTier::kDisk], router.tiers[wire::KvTier::kDisk]);
}

TEST_F(TieredConnectorTest, ChangesThatDoNotFitAreReplacedByEverything) {
  Make({.events = 3});
  Compute(MakeRequest({1, 2, 3, 4, 5}));
  RunAll();
  EXPECT_TRUE(connector_->lost_events());
  CacheChanges changes;
  connector_->DrainEvents(changes, true);
  EXPECT_EQ(changes.events.size(), 5U);
  EXPECT_FALSE(connector_->lost_events());
}

// Requests of a few conversations, with tiers that are too small for them and faults of every kind:
// whatever comes back is what the model computes.
TEST_F(TieredConnectorTest, RandomUseWithEvictionAndFaultsBringsOnlyWhatIsTrue) {
  const std::uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  rt::Random random(seed + 3);
  Make({.host_slots = 12, .disk_slots = 30});
  std::uint64_t brought = 0;
  for (int step = 0; step < 3'000; ++step) {
    std::vector<TokenId> firsts;
    const auto talk = static_cast<TokenId>(100 * random.Below(6));
    for (std::uint64_t i = 0; i < 1 + random.Below(8); ++i) {
      firsts.push_back(talk + static_cast<TokenId>(i));
    }
    const ConnectorRequestRef made =
        MakeRequest(firsts, {.tenant = random.Chance(0.5) ? "a" : "b"});
    host_faults_->flip = random.Chance(0.05) ? std::optional(random.Below(900)) : std::nullopt;
    disk_faults_->flip = random.Chance(0.05) ? std::optional(random.Below(900)) : std::nullopt;
    disk_faults_->read = random.Chance(0.02) ? BlockFault::kIo : BlockFault::kNone;
    disk_faults_->write = random.Chance(0.02) ? std::optional(Code::kUnavailable) : std::nullopt;
    const auto have = static_cast<std::uint32_t>(random.Below(firsts.size()));
    if (random.Chance(0.3)) {  // it waits for its turn, while this or that is done
      connector_->Expect(std::vector<ExpectedRequest>{{made, have}});
      for (std::uint64_t i = random.Below(6); i > 0 && !jobs_->empty(); --i) {
        RunOne();
      }
      Poll();
      connector_->Expect({});
    }
    if (random.Chance(0.002)) {
      connector_->Clear(random.Chance(0.3));
    }
    const std::uint32_t came = Bring(made, have);
    brought += came;
    Compute(made, have + came);
    for (std::uint64_t i = random.Below(12); i > 0 && !jobs_->empty(); --i) {
      RunOne();
    }
    Poll(std::chrono::milliseconds(random.Below(2000)));
    Finish(made);
    if (step % 100 == 0) {
      RunAll();
      connector_->CheckInvariants();
      ASSERT_EQ(pool_->pinned_count(), 0U);
    }
  }
  RunAll();
  connector_->CheckInvariants();
  EXPECT_TRUE(connector_->idle());
  EXPECT_GT(brought, 1000U);
  EXPECT_GT(counters_->of(Tier::kDisk).brought, 50U);
  EXPECT_GT(counters_->of(Tier::kDisk).prefetched, 50U);
  EXPECT_GT(Faults(Tier::kHost, BlockFault::kChecksum), 5U);
}

// The same with real threads: for the thread sanitizer, and for whoever removes a lock.
TEST_F(TieredConnectorTest, ThreadsBringOnlyWhatIsTrueWhateverIsCancelled) {
  const std::uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  rt::Random random(seed + 4);
  Make({.host_slots = 12, .disk_slots = 30, .threads = true});
  std::uint64_t brought = 0;
  for (int step = 0; step < 600; ++step) {
    std::vector<TokenId> firsts;
    const auto talk = static_cast<TokenId>(100 * random.Below(6));
    for (std::uint64_t i = 0; i < 1 + random.Below(8); ++i) {
      firsts.push_back(talk + static_cast<TokenId>(i));
    }
    const ConnectorRequestRef made = MakeRequest(firsts);
    connector_->Expect(std::vector<ExpectedRequest>{{made, 0}});
    const std::uint32_t matched = connector_->Match(made, 0);
    std::uint32_t came = 0;
    if (matched > 0) {
      Loading loading = StartLoad(made, 0, matched);
      const bool cancelled = random.Chance(0.3);
      if (cancelled) {
        connector_->Cancel(loading.id);
      }
      while (!ends_.contains(loading.id)) {
        Poll(std::chrono::microseconds(1));
        std::this_thread::yield();
      }
      came = ends_[loading.id].blocks;
      for (std::uint32_t i = 0; i < matched; ++i) {
        if (i < came) {
          ASSERT_TRUE(std::ranges::equal(loading.targets[i].bytes, Truth(made->chain.hashes[i])));
        } else {  // the engine uses it for something else at once
          std::ranges::fill(loading.targets[i].bytes, std::byte{0x11});
        }
      }
      loading.pins.clear();
    }
    brought += came;
    Compute(made, came);
    Poll();
    Finish(made);
    const bool settles = random.Chance(0.2);  // else the threads might not run before the end
    while (settles ? !connector_->idle() : pool_->pinned_count() > kPoolBlocks / 2) {
      Poll();
      std::this_thread::yield();
    }
  }
  while (!connector_->idle()) {
    Poll();
    std::this_thread::yield();
  }
  EXPECT_EQ(pool_->pinned_count(), 0U);
  EXPECT_GT(brought, 200U);
}

}  // namespace
}  // namespace pixii::kv
