// Two routers' processes that tell each other their loads, over a simulated network.
#include "router/service/replica_mesh.h"

#include <gtest/gtest.h>

#include <functional>

#include "unit/router/service/router_process.h"

namespace pixii::router {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ReplicaMeshTest : public testing::Test {
 protected:
  ReplicaMeshTest() {
    for (RouterProcess* one : {&a_, &b_}) {
      one->AddWorkers(2);
    }
    EXPECT_TRUE(a_.mesh.SetPeer("b", "b:7100", InstanceId{2}));
    EXPECT_TRUE(a_.mesh.SetPeer("a", "a:7100", InstanceId{1}));  // itself: no peer
    EXPECT_TRUE(b_.mesh.SetPeer("a", "a:7100", std::nullopt));
    RunUntil([&] { return a_.mesh.connected_count() == 1 && b_.mesh.connected_count() == 1; });
  }

  void RunUntil(const std::function<bool()>& done) {
    ASSERT_EQ(world_.RunUntil(done, world_.now() + seconds(600)), rt::SimEnd::kDone);
  }

  RequestId Send(RouterProcess& process, std::uint64_t prompt) {
    return process.pool->Submit(MakeRequest(prompt), [](const Dispatch&, const Placement*) {});
  }

  static RouterOptions Options() {
    RouterOptions out = KvOptions();
    out.active_request_expiry = seconds(30);
    return out;
  }

  rt::SimWorld world_{{.seed = 5}};
  RouterProcess a_{world_.AddNode("a"), Options(), 1};
  RouterProcess b_{world_.AddNode("b"), Options(), 2};
};

TEST_F(ReplicaMeshTest, WhatOneSendsTheOtherCountsWithin100Ms) {
  const RequestId one = Send(a_, 1);
  const RequestId two = Send(a_, 2);
  Send(b_, 3);
  const rt::Time sent = world_.now();
  RunUntil([&] { return a_.Loads() == b_.Loads() && a_.RequestCount() == 3; });
  EXPECT_LT(world_.now() - sent, milliseconds(100));
  a_.pool->OnFirstToken(one);
  RunUntil([&] { return a_.Loads() == b_.Loads(); });
  a_.pool->Withdraw(one);
  RunUntil([&] { return b_.RequestCount() == 2; });
  for (int i = 0; i < 12; ++i) {  // much longer than the expiry: only what streams lives
    a_.pool->OnTokens(two, 1);
    world_.RunTo(world_.now() + seconds(10));
  }
  EXPECT_EQ(a_.RequestCount(), 1U);
  EXPECT_EQ(b_.RequestCount(), 1U);
}

TEST_F(ReplicaMeshTest, WhoDiesIsForgottenAfterTheExpiryAndNotBefore) {
  Send(a_, 1);
  RunUntil([&] { return b_.RequestCount() == 1; });
  const rt::Time killed = world_.now();
  a_.node.Kill();
  world_.RunTo(killed + seconds(20));
  EXPECT_EQ(b_.RequestCount(), 1U);
  RunUntil([&] { return b_.RequestCount() == 0; });
  EXPECT_LT(world_.now() - killed, seconds(35));
}

TEST_F(ReplicaMeshTest, APoolThatIsMadeAnewIsHeard) {
  for (std::uint64_t id = 1; id <= 5; ++id) {
    Send(a_, id);
  }
  RunUntil([&] { return b_.RequestCount() == 5; });
  a_.pool->router().RemoveWorker(InstanceId{1});
  a_.pool->router().RemoveWorker(InstanceId{2});
  a_.pool->Pump();
  RunUntil([&] { return b_.RequestCount() == 0; });
  wire::PoolName other = kPool;
  other.block_tokens = 8;
  ASSERT_TRUE(a_.pools.Get(other));  // in its place
  const Result<Pool*> again = a_.pools.Get(kPool);
  ASSERT_TRUE(again) << again.error().ToString();
  a_.pool = *again;
  a_.AddWorkers(2);
  Send(a_, 6);
  RunUntil([&] { return b_.RequestCount() == 1; });
}

TEST_F(ReplicaMeshTest, AConnectionThatBreaksIsMadeGood) {
  Send(a_, 1);
  RunUntil([&] { return b_.RequestCount() == 1; });
  world_.SetPartition("a", "b", true);
  const RequestId two = Send(a_, 2);
  Send(a_, 3);
  a_.pool->Withdraw(two);
  world_.RunTo(world_.now() + seconds(10));
  EXPECT_EQ(b_.RequestCount(), 1U);
  world_.SetPartition("a", "b", false);
  RunUntil([&] { return b_.RequestCount() == 2; });
  EXPECT_EQ(a_.Loads(), b_.Loads());
}

}  // namespace
}  // namespace pixii::router
