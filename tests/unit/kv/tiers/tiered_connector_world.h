// A connector of tiers whose jobs run when the test says so, on stores that a test can break.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kv/tiers/disk_store.h"
#include "kv/tiers/host_store.h"
#include "kv/tiers/job_runner.h"
#include "kv/tiers/tiered_connector.h"
#include "unit/kv/tiers/stored_blocks.h"

namespace pixii::kv {

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

inline constexpr std::uint32_t kPoolBlocks = 64;

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

}  // namespace pixii::kv
