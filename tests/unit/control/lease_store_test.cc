// One suite for every lease store (spec dynamo-core C1).
#include "control/lease_store.h"

#include <gtest/gtest.h>

#include "unit/control/store_worlds.h"

namespace pixii::control {
namespace {

template <class World>
class LeaseStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = World::SkipReason(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
    world_ = std::make_unique<World>();
  }

  WatchId Watch(LeaseStore& store, const std::string& prefix) {
    return store.Watch(prefix, [this](const StoreView& view) {
      view_ = view;
      ++view_count_;
    });
  }

  /// Waits for exactly these values, with the store there.
  testing::AssertionResult Comes(const StoreValues& values) {
    if (world_->RunUntil(
            [&] { return view_count_ > 0 && !view_.trouble && view_.values == values; })) {
      return testing::AssertionSuccess();
    }
    auto failure = testing::AssertionFailure() << "seen";
    for (const auto& [key, value] : view_.values) {
      failure << " " << key << "=" << value;
    }
    return failure << (view_.trouble ? " trouble: " + view_.trouble->detail() : "");
  }

  std::unique_ptr<World> world_;
  StoreView view_;
  int view_count_ = 0;
};

using Worlds = testing::Types<MemStoreWorld, FileStoreWorld, EtcdStoreWorld, KubeStoreWorld>;
TYPED_TEST_SUITE(LeaseStoreTest, Worlds);

TYPED_TEST(LeaseStoreTest, WhatOnePutsAnotherSeesChangeAndGo) {
  const auto writer = this->world_->Open();
  const auto reader = this->world_->Open();
  this->Watch(*reader, "v1/a/");
  EXPECT_TRUE(this->Comes({}));
  ASSERT_TRUE(writer->Put("v1/a/x", "1"));
  EXPECT_TRUE(this->Comes({{"v1/a/x", "1"}}));
  ASSERT_TRUE(writer->Put("v1/a/x", "2"));
  ASSERT_TRUE(writer->Put("v1/a/y", ""));
  ASSERT_TRUE(writer->Put("v1/b/z", "other"));
  EXPECT_TRUE(this->Comes({{"v1/a/x", "2"}, {"v1/a/y", ""}}));
  writer->Delete("v1/a/x");
  writer->Delete("v1/a/never");
  EXPECT_TRUE(this->Comes({{"v1/a/y", ""}}));
}

TYPED_TEST(LeaseStoreTest, AWatchBeginsWithWhatIsThere) {
  const auto writer = this->world_->Open();
  ASSERT_TRUE(writer->Put("v1/a/x", "1"));
  ASSERT_TRUE(this->world_->RunUntil([&] { return this->world_->Dump().size() == 1; }));
  const auto reader = this->world_->Open();
  this->Watch(*reader, "v1/");
  EXPECT_TRUE(this->Comes({{"v1/a/x", "1"}}));
}

TYPED_TEST(LeaseStoreTest, KeysStandThereAsTheyAreNamed) {
  const auto writer = this->world_->Open();
  const StoreValues values = {{"v1/instances/ns/backend/generate/694d98147d54be25", "{}"},
                              {"v1/mdc/ns/backend/generate/694d98147d54be25", "{\"a\":1}"},
                              {"odd%2F,key:*~", std::string("\0\xff\n", 3)}};
  for (const auto& [key, value] : values) {
    ASSERT_TRUE(writer->Put(key, value));
  }
  EXPECT_TRUE(this->world_->RunUntil([&] { return this->world_->Dump() == values; }));
  const auto reader = this->world_->Open();
  this->Watch(*reader, "");
  EXPECT_TRUE(this->Comes(values));
}

TYPED_TEST(LeaseStoreTest, BytesBigAndManyArriveWhole) {
  const auto writer = this->world_->Open();
  StoreValues values;
  for (int i = 0; i < 40; ++i) {
    values["v1/" + std::to_string(i)] = std::string(1000 * i, static_cast<char>('a' + i % 26));
  }
  values["v1/large"] = std::string(kStoreValueBytesMax, 'x');
  for (const auto& [key, value] : values) {
    ASSERT_TRUE(writer->Put(key, value));
  }
  const auto reader = this->world_->Open();
  this->Watch(*reader, "v1/");
  EXPECT_TRUE(this->Comes(values));
}

TYPED_TEST(LeaseStoreTest, EntriesThatNoStoreCanHaveAreRefused) {
  const auto store = this->world_->Open();
  EXPECT_EQ(store->Put("", "x").error().code(), Code::kInvalidArgument);
  EXPECT_EQ(store->Put("a b", "x").error().code(), Code::kInvalidArgument);
  EXPECT_EQ(store->Put("a\n", "x").error().code(), Code::kInvalidArgument);
  EXPECT_EQ(store->Put(std::string(kStoreKeyBytesMax + 1, 'k'), "x").error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(store->Put("k", std::string(kStoreValueBytesMax + 1, 'k')).error().code(),
            Code::kTooLarge);
  EXPECT_TRUE(store->Put(std::string(kStoreKeyBytesMax, 'k'), "x"));
}

TYPED_TEST(LeaseStoreTest, ClosingTakesAllKeysOfTheHolderAtOnce) {
  auto writer = this->world_->Open();
  const auto other = this->world_->Open();
  const auto reader = this->world_->Open();
  this->Watch(*reader, "v1/");
  ASSERT_TRUE(writer->Put("v1/x", "1"));
  ASSERT_TRUE(writer->Put("v1/y", "1"));
  ASSERT_TRUE(other->Put("v1/z", "1"));
  EXPECT_TRUE(this->Comes({{"v1/x", "1"}, {"v1/y", "1"}, {"v1/z", "1"}}));
  bool closed = false;
  writer->Close([&] { closed = true; });
  EXPECT_TRUE(this->world_->RunUntil([&] { return closed; }));
  EXPECT_TRUE(this->Comes({{"v1/z", "1"}}));
  writer.reset();
  EXPECT_TRUE(this->Comes({{"v1/z", "1"}}));
}

TYPED_TEST(LeaseStoreTest, KeysOutliveTheLeasesLengthWhileTheirHolderLives) {
  const auto writer = this->world_->Open();
  const auto reader = this->world_->Open();
  this->Watch(*reader, "v1/");
  ASSERT_TRUE(writer->Put("v1/x", "1"));
  EXPECT_TRUE(this->Comes({{"v1/x", "1"}}));
  const int seen = this->view_count_;
  const rt::Time later = this->world_->loop().Now() + std::chrono::seconds(5);
  ASSERT_TRUE(this->world_->RunUntil([&] { return this->world_->loop().Now() >= later; }));
  EXPECT_EQ(this->view_count_, seen);
}

TYPED_TEST(LeaseStoreTest, AStoreThatWasWipedHasEverythingAgainSoon) {
  const auto writer = this->world_->Open();
  const auto reader = this->world_->Open();
  this->Watch(*reader, "v1/");
  ASSERT_TRUE(writer->Put("v1/x", "1"));
  EXPECT_TRUE(this->Comes({{"v1/x", "1"}}));
  this->world_->Wipe();
  EXPECT_TRUE(this->world_->RunUntil([&] { return this->world_->Dump().size() == 1; }));
  EXPECT_TRUE(this->Comes({{"v1/x", "1"}}));
  ASSERT_TRUE(writer->Put("v1/x", "2"));
  EXPECT_TRUE(this->Comes({{"v1/x", "2"}}));
}

TYPED_TEST(LeaseStoreTest, AWatchThatEndedIsSilent) {
  const auto store = this->world_->Open();
  const WatchId watch = this->Watch(*store, "v1/");
  EXPECT_TRUE(this->Comes({}));
  const int seen = this->view_count_;
  store->Unwatch(watch);
  int others = 0;
  store->Watch("v1/", [&](const StoreView& view) { others += view.values.empty() ? 0 : 1; });
  ASSERT_TRUE(store->Put("v1/x", "1"));
  EXPECT_TRUE(this->world_->RunUntil([&] { return others > 0; }));
  EXPECT_EQ(this->view_count_, seen);
}

}  // namespace
}  // namespace pixii::control
