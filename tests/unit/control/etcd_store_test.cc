// Against a real etcd that is killed, stopped, wiped and set back.
#include "control/etcd_store.h"

#include <gtest/gtest.h>

#include <csignal>
#include <set>

#include "control/etcd_client.h"
#include "control/http_call.h"
#include "unit/control/store_worlds.h"

namespace pixii::control {
namespace {

using std::chrono::seconds;

class EtcdStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = EtcdStoreWorld::SkipReason(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
    world_ = std::make_unique<EtcdStoreWorld>();
  }

  void Watch(LeaseStore& store) {
    store.Watch("v1/", [this](const StoreView& view) {
      view_ = view;
      seen_.insert(view.values);
    });
  }

  testing::AssertionResult Comes(const StoreValues& values) {
    if (world_->RunUntil([&] { return !view_.trouble && view_.values == values; })) {
      return testing::AssertionSuccess();
    }
    return testing::AssertionFailure() << view_.values.size() << " values; "
                                       << (view_.trouble ? view_.trouble->detail() : "no trouble");
  }

  std::unique_ptr<EtcdStoreWorld> world_;
  StoreView view_;
  std::set<StoreValues> seen_;
};

TEST_F(EtcdStoreTest, AServerThatIsRestartedHarmsNothing) {
  const auto writer = world_->Open();
  const auto reader = world_->Open();
  Watch(*reader);
  ASSERT_TRUE(writer->Put("v1/x", "1"));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  seen_.clear();
  world_->Kill();
  ASSERT_TRUE(world_->RunUntil([&] { return view_.trouble.has_value(); }));
  EXPECT_EQ(view_.values.size(), 1U) << "what was known stands";
  EXPECT_NE(view_.trouble->detail().find(world_->address().ToString()), std::string::npos);
  ASSERT_TRUE(writer->Put("v1/y", "2"));
  world_->Start();
  ASSERT_TRUE(Comes({{"v1/x", "1"}, {"v1/y", "2"}}));
  EXPECT_FALSE(seen_.contains(StoreValues{}));
}

TEST_F(EtcdStoreTest, AServerThatHangsIsTroubleWithinALease) {
  const auto store = world_->Open(seconds(2));
  Watch(*store);
  ASSERT_TRUE(store->Put("v1/x", "1"));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  const rt::Time stopped_at = world_->loop().Now();
  world_->Signal(SIGSTOP);
  ASSERT_TRUE(world_->RunUntil([&] { return view_.trouble.has_value(); }));
  EXPECT_LT(world_->loop().Now() - stopped_at, seconds(4));
  EXPECT_EQ(view_.values.size(), 1U);
  // Long enough for the lease to be over when it goes on.
  ASSERT_TRUE(world_->RunUntil([&] { return world_->loop().Now() - stopped_at > seconds(4); }));
  world_->Signal(SIGCONT);
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
}

TEST_F(EtcdStoreTest, AWipedServerHasEverythingAgainUnderANewLease) {
  const auto writer = world_->Open();
  const auto reader = world_->Open();
  Watch(*reader);
  ASSERT_TRUE(writer->Put("v1/x", "1"));
  ASSERT_TRUE(writer->Put("v1/y", "1"));
  ASSERT_TRUE(Comes({{"v1/x", "1"}, {"v1/y", "1"}}));
  writer->Delete("v1/y");
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  world_->Wipe();
  ASSERT_TRUE(world_->RunUntil([&] { return world_->Dump().size() == 1; }));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  ASSERT_TRUE(writer->Put("v1/x", "3"));
  ASSERT_TRUE(Comes({{"v1/x", "3"}}));
}

TEST_F(EtcdStoreTest, AServerSetBackEndsWithWhatIsTrueNow) {
  const auto writer = world_->Open(seconds(2));
  auto leaver = world_->Open(seconds(2));
  const auto reader = world_->Open(seconds(2));
  Watch(*reader);
  ASSERT_TRUE(writer->Put("v1/x", "old"));
  ASSERT_TRUE(leaver->Put("v1/gone", "old"));
  ASSERT_TRUE(Comes({{"v1/gone", "old"}, {"v1/x", "old"}}));
  world_->Kill();
  world_->Save();
  world_->Start();
  ASSERT_TRUE(Comes({{"v1/gone", "old"}, {"v1/x", "old"}}));
  ASSERT_TRUE(writer->Put("v1/x", "new"));
  ASSERT_TRUE(writer->Put("v1/z", "new"));
  bool closed = false;
  leaver->Close([&] { closed = true; });
  ASSERT_TRUE(world_->RunUntil([&] { return closed; }));
  leaver.reset();
  ASSERT_TRUE(Comes({{"v1/x", "new"}, {"v1/z", "new"}}));
  world_->Restore();
  // The keys of the one that left end with their old lease.
  EXPECT_TRUE(world_->RunUntil(
      [&] { return world_->Dump() == StoreValues{{"v1/x", "new"}, {"v1/z", "new"}}; }));
  EXPECT_TRUE(Comes({{"v1/x", "new"}, {"v1/z", "new"}}));
}

TEST_F(EtcdStoreTest, AKeyThatSomebodyDeletedComesBack) {
  const auto store = world_->Open(seconds(2));
  Watch(*store);
  ASSERT_TRUE(store->Put("v1/x", "1"));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  const auto other = world_->Open(seconds(2));
  ASSERT_TRUE(other->Put("v1/x", "2"));  // another lease has it now, and takes it with it
  ASSERT_TRUE(Comes({{"v1/x", "2"}}));
  bool closed = false;
  other->Close([&] { closed = true; });
  ASSERT_TRUE(world_->RunUntil([&] { return closed; }));
  EXPECT_TRUE(Comes({{"v1/x", "1"}}));
}

TEST_F(EtcdStoreTest, AHolderThatIsGoneLosesItsKeysAfterTheLease) {
  auto writer = world_->Open(seconds(2));
  const auto reader = world_->Open(seconds(2));
  Watch(*reader);
  ASSERT_TRUE(writer->Put("v1/x", "1"));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  writer.reset();  // without giving the lease back
  EXPECT_TRUE(Comes({}));
}

TEST_F(EtcdStoreTest, AnotherEndpointIsTriedWhenOneDoesNotAnswer) {
  EtcdStoreOptions options;
  options.endpoints = {{.host = "127.0.0.1", .port = 1}, world_->address()};
  EtcdStore store(world_->loop(), world_->net(), options);
  Watch(store);
  ASSERT_TRUE(store.Put("v1/x", "1"));
  EXPECT_TRUE(Comes({{"v1/x", "1"}}));
}

TEST(EtcdClientTest, LinesOfAWatchAreRead) {
  const auto events = EtcdClient::ReadWatchLine(
      R"({"result":{"header":{"revision":"12"},"events":[{"kv":{"key":"YQ==","value":"eA==",)"
      R"("mod_revision":"11"}},{"type":"DELETE","kv":{"key":"Yg=="}}]}})");
  ASSERT_TRUE(events) << events.error().detail();
  EXPECT_EQ(events->revision, 12);
  ASSERT_EQ(events->events.size(), 2U);
  EXPECT_EQ(events->events[0].key, "a");
  EXPECT_EQ(events->events[0].value, "x");
  EXPECT_FALSE(events->events[0].deleted);
  EXPECT_EQ(events->events[1].key, "b");
  EXPECT_TRUE(events->events[1].deleted);
  EXPECT_TRUE(
      EtcdClient::ReadWatchLine(R"({"result":{"header":{"revision":"1"},"created":true}})"));
}

TEST(EtcdClientTest, LinesThatEndAWatchOrCannotBeReadAreErrors) {
  const auto code = [](std::string_view line) {
    const auto events = EtcdClient::ReadWatchLine(line);
    return events ? Code::kNotFound : events.error().code();
  };
  EXPECT_EQ(
      code(R"({"result":{"header":{"revision":"1"},"canceled":true,"compact_revision":"5"}})"),
      Code::kUnavailable);
  EXPECT_EQ(code(R"({"error":{"grpc_code":14,"message":"no leader"}})"), Code::kUnavailable);
  EXPECT_EQ(code(R"({"result":{}})"), Code::kDataCorrupt);
  EXPECT_EQ(code(R"({"result":{"header":{"revision":"x"}}})"), Code::kDataCorrupt);
  EXPECT_EQ(code(R"({"result":{"header":{"revision":"1"},"events":[{"kv":{"key":"!"}}]}})"),
            Code::kDataCorrupt);
  EXPECT_EQ(code("{"), Code::kInvalidArgument);
}

}  // namespace
}  // namespace pixii::control
