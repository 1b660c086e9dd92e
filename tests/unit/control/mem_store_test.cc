#include "control/mem_store.h"

#include <gtest/gtest.h>

#include "unit/control/store_worlds.h"

namespace pixii::control {
namespace {

using std::chrono::seconds;

class MemStoreTest : public testing::Test {
 protected:
  void Watch(LeaseStore& store) {
    store.Watch("", [this](const StoreView& view) { view_ = view; });
  }

  bool Sees(std::size_t count) {
    return world_.RunUntil([&] { return !view_.trouble && view_.values.size() == count; });
  }

  MemStoreWorld world_;
  StoreView view_;
};

TEST_F(MemStoreTest, AHubThatHangsIsTroubleAndTheViewStands) {
  const auto store = world_.Open();
  Watch(*store);
  ASSERT_TRUE(store->Put("x", "1"));
  ASSERT_TRUE(Sees(1));
  const rt::Time frozen_at = world_.world().now();
  world_.hub_node().Freeze(frozen_at + seconds(60));
  ASSERT_TRUE(world_.RunUntil([&] { return view_.trouble.has_value(); }));
  EXPECT_LE(world_.world().now() - frozen_at, seconds(3));
  EXPECT_EQ(view_.values.size(), 1U);
  ASSERT_TRUE(store->Put("y", "1"));
  ASSERT_TRUE(Sees(2));
  EXPECT_GE(world_.world().now() - frozen_at, seconds(60));
}

TEST_F(MemStoreTest, AHolderThatStopsLosesItsKeysAndHasThemAgainWhenItGoesOn) {
  rt::SimNode& other = world_.world().AddNode("other");
  MemStore holder(other.loop(), world_.hub().shared_from_this());
  const auto reader = world_.Open();
  Watch(*reader);
  ASSERT_TRUE(holder.Put("x", "1"));
  ASSERT_TRUE(Sees(1));
  const rt::Time stopped_at = world_.world().now();
  other.Freeze(stopped_at + seconds(60));
  ASSERT_TRUE(Sees(0));
  EXPECT_LE(world_.world().now() - stopped_at, seconds(4));
  ASSERT_TRUE(Sees(1));
  EXPECT_GE(world_.world().now() - stopped_at, seconds(60));
}

TEST_F(MemStoreTest, AHolderThatDiesLosesItsKeysAfterTheLease) {
  rt::SimNode& other = world_.world().AddNode("other");
  auto holder = std::make_unique<MemStore>(other.loop(), world_.hub().shared_from_this());
  const auto reader = world_.Open();
  Watch(*reader);
  ASSERT_TRUE(holder->Put("x", "1"));
  ASSERT_TRUE(Sees(1));
  other.Kill();
  EXPECT_TRUE(Sees(0));
}

TEST_F(MemStoreTest, WhatAnOldSnapshotBringsBackEndsWithItsLease) {
  const auto store = world_.Open();
  Watch(*store);
  ASSERT_TRUE(store->Put("x", "new"));
  ASSERT_TRUE(Sees(1));
  world_.Restore({{"x", "old"}, {"gone", "old"}});
  ASSERT_TRUE(
      world_.RunUntil([&] { return view_.values == StoreValues{{"gone", "old"}, {"x", "new"}}; }));
  ASSERT_TRUE(world_.RunUntil([&] { return view_.values == StoreValues{{"x", "new"}}; }));
}

}  // namespace
}  // namespace pixii::control
