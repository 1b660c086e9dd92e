#include "router/service/pool.h"

#include <gtest/gtest.h>

#include <string>

#include "router/service/reservations.h"
#include "unit/router/service/router_process.h"

namespace pixii::router {
namespace {

wire::PoolName Named(std::size_t number, std::uint32_t block_tokens = 4) {
  return {.model = "m" + std::to_string(number), .group = "default", .block_tokens = block_tokens};
}

class PoolBookTest : public ::testing::Test {
 protected:
  void Fill() {
    for (std::size_t i = 0; i < PoolBook::kPoolsMax; ++i) {
      ASSERT_TRUE(pools_.Get(Named(i)));
    }
  }

  rt::SimWorld world_{{.seed = 1}};
  rt::SimNode& node_ = world_.AddNode("router");
  PoolBook pools_{node_.loop(), KvOptions(), nullptr};
};

TEST_F(PoolBookTest, ModelsWithoutWorkersMakeRoomForOthers) {
  Fill();
  Pool* const used = *pools_.Get(Named(3));
  used->router().SetWorker(MakeWorker(1));
  Pool* const held = *pools_.Get(Named(4));
  held->Hold();
  ASSERT_TRUE(pools_.Get(Named(5000)));
  EXPECT_EQ(pools_.Find("m3", "default"), used);
  EXPECT_EQ(pools_.Find("m4", "default"), held);
  EXPECT_EQ(pools_.pools().size(), PoolBook::kPoolsMax);
}

TEST_F(PoolBookTest, ThoseInUseAreNeverDropped) {
  for (std::size_t i = 0; i < PoolBook::kPoolsMax; ++i) {
    (*pools_.Get(Named(i)))->Hold();
  }
  EXPECT_EQ(pools_.Get(Named(5000)).error().code(), Code::kResourceExhausted);
}

TEST_F(PoolBookTest, AModelWithoutWorkersMayComeBackWithOtherBlocks) {
  Pool* const first = *pools_.Get(Named(1));
  first->router().SetWorker(MakeWorker(1));
  EXPECT_EQ(pools_.Get(Named(1, 8)).value()->name().block_tokens, 8U);
  EXPECT_EQ(pools_.Find(Named(1)), first) << "it has a worker";
  first->router().RemoveWorker(InstanceId{1});
  ASSERT_TRUE(pools_.Get(Named(1, 16)));
  EXPECT_EQ(pools_.pools().size(), 1U);
}

TEST_F(PoolBookTest, RequestsOfPoolsOfOneNameHaveDifferentIds) {
  const auto ignore = [](const Dispatch&, const Placement*) {};
  const RequestId first = (*pools_.Get(Named(1)))->Submit(MakeRequest(1), ignore);
  ASSERT_TRUE(pools_.Get(Named(1, 8)));
  EXPECT_NE((*pools_.Get(Named(1, 8)))->Submit(MakeRequest(1), ignore), first);
}

TEST_F(PoolBookTest, WhatWasChosenInAPoolGoesWithIt) {
  Reservations held(node_.loop(), pools_, {});
  Pool* const pool = *pools_.Get(Named(1));
  pool->router().SetWorker(MakeWorker(1));
  ASSERT_TRUE(held.Select(*pool, "one", MakeRequest(1), false, [](const Result<Chosen>&) {}));
  pool->router().RemoveWorker(InstanceId{1});
  Pool* const next = *pools_.Get(Named(1, 8));
  EXPECT_EQ(held.Reserve(*next, "one").error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace pixii::router
