// What comes from a slow tier before its turn, and the threads that bring it.
#include "kv/tiers/tiered_connector.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "rt/sync.h"
#include "unit/kv/tiers/tiered_connector_world.h"

namespace pixii::kv {
namespace {

TEST_F(TieredConnectorTest, BlocksOfWaitingRequestsComeFromTheDiskToHostMemoryBeforeTheirTurn) {
  Make({.host_slots = 8, .disk_slots = 64, .filter = false});
  const ConnectorRequestRef made = MakeRequest({1, 2, 3});
  const ConnectorRequestRef later = MakeRequest({5, 6});
  Compute(made);
  Compute(later);
  RunAll();
  Compute(MakeRequest({10, 11, 12, 13, 14, 15, 16, 17}));
  RunAll();  // host memory has the last eight alone
  connector_->Expect(std::vector<ExpectedRequest>{{made, 1}, {later, 0}});
  EXPECT_EQ(counters_->of(Tier::kDisk).prefetched, 0U) << "not on the engine's thread";
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).prefetched, 4U);
  EXPECT_EQ(counters_->of(Tier::kDisk).brought, 0U);
  EXPECT_EQ(pool_->pinned_count(), 0U) << "no block of the device is needed for it";
  EXPECT_EQ(Bring(made, 1), 2U);
  EXPECT_EQ(counters_->of(Tier::kHost).brought, 2U);
  EXPECT_EQ(counters_->of(Tier::kDisk).brought, 0U) << "it came from host memory";
  connector_->CheckInvariants();
}

TEST_F(TieredConnectorTest, WhatComesEarlyIsProvenAndAFailureIsTheSlowTiers) {
  Make({.host_slots = 8, .disk_slots = 64, .filter = false});
  const ConnectorRequestRef made = MakeRequest({1, 2, 3});
  Compute(made);
  RunAll();
  Compute(MakeRequest({10, 11, 12, 13, 14, 15, 16, 17}));
  RunAll();
  disk_faults_->flip = 3;
  connector_->Expect(std::vector<ExpectedRequest>{{made, 0}});
  RunAll();
  EXPECT_EQ(Faults(Tier::kDisk, BlockFault::kChecksum), 3U);
  EXPECT_EQ(counters_->of(Tier::kDisk).prefetched, 0U);
  EXPECT_EQ(connector_->Match(made, 0), 0U);
  connector_->CheckInvariants();
}

TEST_F(TieredConnectorTest, ALoadThatSomebodyWaitsForGoesBeforeWhatComesEarly) {
  Make({.host_slots = 16, .disk_slots = 64, .filter = false});
  const ConnectorRequestRef early =
      MakeRequest({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  const ConnectorRequestRef now = MakeRequest({21, 22});
  Compute(early);
  RunAll();
  Compute(now);
  RunAll();
  Compute(MakeRequest({31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46}));
  RunAll();
  connector_->Expect(std::vector<ExpectedRequest>{{early, 0}});
  EXPECT_EQ(jobs_->size(), 2U) << "two batches at a time, so that a load comes soon";
  const Loading loading = StartLoad(now, 0, 2);
  RunOne();
  Poll();
  EXPECT_EQ(ends_[loading.id].blocks, 2U);
  EXPECT_EQ(counters_->of(Tier::kDisk).prefetched, 0U);
  RunAll();
  EXPECT_EQ(counters_->of(Tier::kDisk).prefetched, 8U) << "half of host memory's slots";
  Finish(early);
  connector_->CheckInvariants();
}

TEST(JobThreadTest, ItRunsUrgentJobsFirstAndEndsWithTheOneThatRuns) {
  std::vector<int> order;
  {
    rt::Mutex gate;
    gate.Lock();
    std::atomic<int> done = 0;
    JobThread thread("test");
    thread.Post(false, [&] {
      const rt::MutexLock lock(gate);
      order.push_back(0);
    });
    thread.Post(false, [&] { order.push_back(2); });
    thread.Post(true, [&] { order.push_back(1); });
    thread.Post(false, [&] { done = 1; });
    gate.Unlock();
    while (done == 0) {
      std::this_thread::yield();
    }
  }
  // Whether the first one had begun when the urgent one came is not known.
  EXPECT_EQ(order.back(), 2);
  EXPECT_EQ(order.size(), 3U);
}

}  // namespace
}  // namespace pixii::kv
