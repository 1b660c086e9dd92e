// Tiers that fail, are slow or are told to stop.
#include "kv/tiers/tiered_connector.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "unit/kv/tiers/tiered_connector_world.h"

namespace pixii::kv {
namespace {

TEST_F(TieredConnectorTest, AFullDiskRestsAndServesWhatItHas) {
  Make({.host_slots = 2, .disk_slots = 64, .filter = false});
  const ConnectorRequestRef made = MakeRequest({1, 2});
  Compute(made);
  RunAll();
  disk_faults_->write = Code::kResourceExhausted;
  Compute(MakeRequest({3, 4}));
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).write_failures, 2U);
  EXPECT_EQ(counters_->of(Tier::kDisk).degraded, 1U);
  EXPECT_EQ(Bring(made), 2U);
  disk_faults_->write.reset();
  Compute(MakeRequest({5, 6}));
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).written, 2U);  // it rests
  Poll(std::chrono::minutes(1));
  EXPECT_EQ(counters_->of(Tier::kDisk).degraded, 1U) << "nothing says yet that it works";
  Compute(MakeRequest({7, 8}));
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).written, 4U);
  EXPECT_EQ(counters_->of(Tier::kDisk).degraded, 0U);
  connector_->CheckInvariants();
}

TEST_F(TieredConnectorTest, ReadErrorsAreMissesAndADiskThatGoesOnFailingIsLeftAlone) {
  Make({.host_slots = 0, .disk_slots = 64});
  std::vector<ConnectorRequestRef> made;
  for (TokenId i = 0; i < 4; ++i) {
    made.push_back(MakeRequest({10 * i + 1, 10 * i + 2}));
    Compute(made.back());
  }
  RunAll();
  disk_faults_->read = BlockFault::kIo;
  EXPECT_EQ(Bring(made[0]), 0U);
  EXPECT_EQ(Bring(made[1]), 0U);
  EXPECT_EQ(Bring(made[2]), 0U);
  EXPECT_EQ(counters_->of(Tier::kDisk).read_failures, 3U);
  EXPECT_EQ(connector_->Match(made[3], 0), 0U);
  disk_faults_->read = BlockFault::kNone;
  Poll(std::chrono::minutes(1));
  EXPECT_EQ(Bring(made[3]), 2U);
}

TEST_F(TieredConnectorTest, ThatATierRestsAndThatItWorksAgainIsSaidOnceWithTheReason) {
  using Lines = std::vector<std::string>;
  Make({.host_slots = 0, .disk_slots = 64});
  std::vector<ConnectorRequestRef> made;
  for (TokenId i = 0; i < 6; ++i) {
    made.push_back(MakeRequest({10 * i + 1}));
    Compute(made.back());
  }
  RunAll();
  disk_faults_->read = BlockFault::kIo;
  Bring(made[0]);
  Bring(made[1]);
  EXPECT_EQ(Said(), Lines{});
  Bring(made[2]);
  EXPECT_EQ(Said(), Lines{"kv.tier.resting tier=disk rank=3 what=reads why=\"cannot read\""});
  Poll(std::chrono::minutes(1));
  Bring(made[3]);
  EXPECT_EQ(Said(), Lines{}) << "it rests once more";
  disk_faults_->read = BlockFault::kNone;
  disk_faults_->write = Code::kResourceExhausted;
  Poll(std::chrono::minutes(1));
  Bring(made[4]);
  Compute(MakeRequest({100}));
  RunAll();
  EXPECT_EQ(Said(), (Lines{"kv.tier.resumed tier=disk rank=3 what=reads",
                           "kv.tier.resting tier=disk rank=3 what=writes why=broken"}));
  disk_faults_->write.reset();
  Poll(std::chrono::minutes(1));
  Compute(MakeRequest({200}));
  RunAll();
  EXPECT_EQ(Said(), Lines{"kv.tier.resumed tier=disk rank=3 what=writes"});
}

TEST_F(TieredConnectorTest, ABlockThatFailsIsDroppedCountedAndNeverTriedAgain) {
  Make({.host_slots = 0, .disk_slots = 64});
  const ConnectorRequestRef made = MakeRequest({1, 2, 3});
  Compute(made);
  RunAll();
  disk_faults_->flip = 100;
  EXPECT_EQ(Bring(made), 0U);
  EXPECT_EQ(Faults(Tier::kDisk, BlockFault::kChecksum), 1U);
  disk_faults_->flip.reset();
  EXPECT_EQ(connector_->Match(made, 0), 0U);
  EXPECT_EQ(connector_->Match(made, 1), 2U);
  Make({.host_slots = 0, .disk_slots = 64});  // nor after a restart
  EXPECT_EQ(connector_->Find(made->chain.hashes), (std::vector<bool>{false, true, true}));
}

TEST_F(TieredConnectorTest, ALoadThatTakesTooLongEndsAndNothingIsWrittenAfterwards) {
  Make({});
  const ConnectorRequestRef made = MakeRequest({1, 2});
  Compute(made);
  RunAll();
  const Loading loading = StartLoad(made, 0, 2);
  EXPECT_TRUE(woken_);
  Poll();
  EXPECT_FALSE(ends_.contains(loading.id));
  Poll(std::chrono::seconds(6));
  ASSERT_TRUE(ends_.contains(loading.id));
  EXPECT_EQ(ends_[loading.id].blocks, 0U);
  ASSERT_TRUE(ends_[loading.id].error);
  EXPECT_EQ(ends_[loading.id].error->code(), Code::kDeadlineExceeded);
  EXPECT_TRUE(connector_->idle());
  RunAll();
  EXPECT_EQ(loading.targets[0].bytes[0], std::byte{0xEE});
  EXPECT_EQ(counters_->timed_out_loads, 1U);
  connector_->CheckInvariants();
}

TEST_F(TieredConnectorTest, OnlyATierThatWasReadIsBlamedForALoadThatTakesTooLong) {
  Make({.host_slots = 2, .disk_slots = 64, .filter = false});
  const ConnectorRequestRef made = MakeRequest({1, 2});
  Compute(made);
  RunAll();
  auto load_too_long = [&] {
    for (std::uint32_t i = 0; i < TierHealth::kFailuresMax; ++i) {
      EXPECT_EQ(connector_->Match(made, 0), 2U);
      const Loading loading = StartLoad(made, 0, 2);
      Poll();
      Poll(std::chrono::seconds(6));
      ASSERT_EQ(ends_.at(loading.id).error->code(), Code::kDeadlineExceeded);
    }
  };
  load_too_long();
  EXPECT_EQ(counters_->of(Tier::kDisk).degraded, 0U) << "host memory had them";
  RunAll();
  Compute(MakeRequest({5, 6}));
  RunAll();
  load_too_long();
  EXPECT_EQ(counters_->of(Tier::kDisk).degraded, 1U);
  RunAll();
  connector_->CheckInvariants();
}

TEST_F(TieredConnectorTest, ACancelledLoadEndsOnceAndWritesNothing) {
  Make({});
  const ConnectorRequestRef made = MakeRequest({1, 2});
  Compute(made);
  RunAll();
  const Loading loading = StartLoad(made, 0, 2);
  connector_->Cancel(loading.id);
  connector_->Cancel(loading.id);
  Poll();
  EXPECT_EQ(ends_.at(loading.id).error->code(), Code::kCancelled);
  RunAll();
  EXPECT_EQ(loading.targets[0].bytes[0], std::byte{0xEE});
  connector_->Cancel(loading.id);
  Poll();
  connector_->CheckInvariants();
}

TEST_F(TieredConnectorTest, ASlowTierIsAskedForNoMoreThanItBringsInTime) {
  Make({.host_slots = 0, .disk_slots = 64});
  const ConnectorRequestRef made = MakeRequest({1, 2, 3, 4, 5, 6, 7, 8});
  Compute(made);
  RunAll();
  ASSERT_EQ(connector_->Match(made, 0), 8U);
  StartLoad(made, 0, 2);
  Poll();
  RunOne();
  Poll(std::chrono::seconds(2));              // two blocks in two seconds
  EXPECT_EQ(connector_->Match(made, 0), 2U);  // half of five seconds
}

TEST_F(TieredConnectorTest, NoMoreBytesAreOnTheirWayThanMay) {
  Make({.bytes_in_flight_max = 3 * SmallShape().payload_bytes()});
  Compute(MakeRequest({1, 2, 3, 4, 5}));
  EXPECT_EQ(pool_->pinned_count(), 3U);
  EXPECT_EQ(counters_->of(Tier::kHost).refused, 2U);
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kHost).written, 3U);
}

TEST_F(TieredConnectorTest, WhatIsDistrustedIsFoundNowhereAlsoIfItWasBeingWritten) {
  Make({.disk_slots = 64, .filter = false});
  const ConnectorRequestRef made = MakeRequest({1, 2, 3});
  Compute(made);
  connector_->Distrust(std::span(made->chain.hashes).subspan(1, 1));
  RunAll();
  EXPECT_EQ(connector_->Find(made->chain.hashes), (std::vector<bool>{true, false, true}));
  connector_->Distrust(made->chain.hashes);
  RunAll();
  EXPECT_EQ(connector_->Find(made->chain.hashes), (std::vector<bool>{false, false, false}));
  connector_->CheckInvariants();
}

/// Of a server whose list has no end.
class EndlessStore final : public BlockStore {
 public:
  explicit EndlessStore(bool has_names) : has_names_(has_names) {}

  Result<void> Write(std::uint32_t /*slot*/, StoredBlock /*block*/,
                     std::span<const std::byte> /*payload*/) override {
    return {};
  }

  BlockFault Read(std::uint32_t /*slot*/, const Hash128& /*hash*/, StoredBlock& /*block*/,
                  std::span<const std::byte>& /*payload*/) override {
    return BlockFault::kMissing;
  }

  void Scan(const std::function<bool(Found)>& on_found,
            const std::function<void(BlockFault)>& on_fault) override {
    Found found;
    while (!stopping()) {
      ++found.block.hash.low;
      if (has_names_ && !on_found(found)) {
        return;
      }
    }
    on_fault(BlockFault::kIo);
  }

 private:
  bool has_names_;
};

std::unique_ptr<TieredConnector> MakeEndless(bool has_names, std::unique_ptr<JobRunner> runner,
                                             const std::shared_ptr<TierCounters>& counters) {
  std::vector<TierSetup> tiers;
  TierSetup& object = tiers.emplace_back();
  object.tier = Tier::kObject;
  object.index = {.slot_count = 1000};
  object.store = std::make_unique<EndlessStore>(has_names);
  object.runner = std::move(runner);
  object.scan = true;
  object.has_slots = false;
  auto connector = std::make_unique<TieredConnector>(TieredConnectorOptions{.shape = SmallShape()},
                                                     std::move(tiers), counters);
  connector->Start([] {});
  return connector;
}

TEST(TieredConnectorListTest, AListEndsWhenTheTierHasNoMoreRoom) {
  auto jobs = std::make_shared<std::deque<Job>>();
  const auto counters = std::make_shared<TierCounters>();
  auto connector = MakeEndless(true, std::make_unique<ManualRunner>(jobs), counters);
  jobs->front()();
  std::vector<LoadEnd> ended;
  connector->Poll(rt::Time{std::chrono::seconds(1)}, ended);
  EXPECT_EQ(counters->of(Tier::kObject).stored, 1000U);
  EXPECT_EQ(counters->of(Tier::kObject).read_failures, 0U);
  EXPECT_TRUE(connector->Find(std::vector<Hash128>{{.low = 7, .high = 0}}).front())
      << "its list is at its end";
}

TEST(TieredConnectorListTest, AConnectorThatEndsStopsAList) {
  const auto counters = std::make_shared<TierCounters>();
  MakeEndless(false, std::make_unique<JobThread>("test"), counters).reset();  // or never
}

TEST(TieredConnectorListTest, AListThatFailsIsAFailureOfTheTier) {
  const auto counters = std::make_shared<TierCounters>();
  auto jobs = std::make_shared<std::deque<Job>>();
  std::vector<TierSetup> tiers;
  TierSetup& object = tiers.emplace_back();
  object.tier = Tier::kObject;
  object.index = {.slot_count = 1000};
  object.store = std::make_unique<EndlessStore>(false);
  object.store->Stop();
  object.runner = std::make_unique<ManualRunner>(jobs);
  object.scan = true;
  object.has_slots = false;
  TieredConnector connector({.shape = SmallShape()}, std::move(tiers), counters);
  connector.Start([] {});
  std::vector<LoadEnd> ended;
  for (std::uint32_t i = 1; i <= TierHealth::kFailuresMax; ++i) {
    jobs->front()();
    jobs->pop_front();
    connector.Poll(rt::Time{std::chrono::minutes(2 * i)}, ended);
    EXPECT_EQ(counters->of(Tier::kObject).read_failures, i);
    connector.Poll(rt::Time{std::chrono::minutes(2 * i + 1)}, ended);  // the next list
  }
}

}  // namespace
}  // namespace pixii::kv
