#include "kv/tiers/tiered_connector.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "unit/kv/tiers/faulty_file.h"
#include "unit/kv/tiers/tiered_connector_world.h"
#include "wire/public_hash.h"

namespace pixii::kv {
namespace {

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
