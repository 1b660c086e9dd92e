#include "control/discovery.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control/instance_codec.h"
#include "unit/control/store_worlds.h"

namespace pixii::control {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

Instance Make(std::string address, std::string ns = "dynamo") {
  Instance instance;
  instance.ns = std::move(ns);
  instance.address = std::move(address);
  instance.card.name = "m";
  instance.card.block_count = 77;
  return instance;
}

// Says what the test says.
class ScriptedStore final : public LeaseStore {
 public:
  void Say(const StoreView& view) {
    for (const auto& [prefix, handler] : watches_) {
      StoreView part{.values = {}, .trouble = view.trouble};
      for (const auto& [key, value] : view.values) {
        if (key.starts_with(prefix)) {
          part.values.emplace(key, value);
        }
      }
      handler(part);
    }
  }

  Result<void> Put(const std::string&, std::string) override { return {}; }

  void Delete(const std::string&) override {}

  WatchId Watch(std::string prefix, WatchHandler on_view) override {
    watches_.emplace_back(std::move(prefix), std::move(on_view));
    return WatchId{watches_.size()};
  }

  void Unwatch(WatchId) override {}

  void Close(std::function<void()> on_closed) override { on_closed(); }

 private:
  std::vector<std::pair<std::string, WatchHandler>> watches_;
};

class DiscoveryTest : public testing::Test {
 protected:
  std::unique_ptr<Discovery> Join() { return Join(world_.loop()); }

  std::unique_ptr<Discovery> Join(rt::Loop& loop) {
    return std::make_unique<Discovery>(
        loop, std::make_unique<MemStore>(loop, world_.hub().shared_from_this()),
        DiscoveryOptions{});
  }

  std::unique_ptr<InstanceWatch> Watch(Discovery& discovery, std::string_view ns = "dynamo") {
    return discovery.Watch(ns, [this](const std::vector<MembershipChange>& changes) {
      for (const MembershipChange& change : changes) {
        if (change.kind == MembershipChange::Kind::kRemoved) {
          addresses_.erase(change.instance.address);
          ++removed_count_;
        } else {
          addresses_.insert(change.instance.address);
        }
      }
    });
  }

  bool Becomes(const std::set<std::string>& addresses) {
    return world_.RunUntil([&] { return addresses_ == addresses; });
  }

  void RunFor(rt::Duration time) { world_.world().RunTo(world_.world().now() + time); }

  MemStoreWorld world_;
  std::set<std::string> addresses_;
  int removed_count_ = 0;
};

TEST_F(DiscoveryTest, WhoRegistersIsFoundWithItsCardAndChangesArrive) {
  const auto worker = Join();
  const auto frontend = Join();
  const auto watch = Watch(*frontend);
  auto registered = worker->Register(Make("w:1"));
  ASSERT_TRUE(registered);
  ASSERT_TRUE(Becomes({"w:1"}));
  EXPECT_TRUE(watch->complete());
  const InstanceId id = (*registered)->instance().id;
  EXPECT_NE(id, InstanceId{});
  EXPECT_EQ(watch->instances().at(id).card.block_count, 77U);

  Instance changed = (*registered)->instance();
  changed.card.block_count = 78;
  changed.draining = true;
  ASSERT_TRUE((*registered)->Update(changed));
  ASSERT_TRUE(world_.RunUntil([&] { return watch->instances().at(id).draining; }));
  EXPECT_EQ(watch->instances().at(id).card.block_count, 78U);

  changed.endpoint = "other";
  EXPECT_FALSE((*registered)->Update(changed));
  registered->reset();
  EXPECT_TRUE(Becomes({}));
}

TEST_F(DiscoveryTest, NamespacesDoNotSeeEachOther) {
  const auto worker = Join();
  const auto frontend = Join();
  const auto mine = Watch(*frontend, "a");
  std::size_t all = 0;
  const auto others = frontend->Watch("", [&](const auto& changes) { all += changes.size(); });
  const auto first = worker->Register(Make("w:1", "a"));
  const auto second = worker->Register(Make("w:2", "ab"));
  ASSERT_TRUE(world_.RunUntil([&] { return all == 2; }));
  RunFor(seconds(1));
  EXPECT_EQ(addresses_, (std::set<std::string>{"w:1"}));
}

TEST_F(DiscoveryTest, AnInstanceThatCannotBeIsRefused) {
  const auto worker = Join();
  EXPECT_EQ(worker->Register(Make("")).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(worker->Register(Make("w:1", "a/b")).error().param(), "namespace");
}

TEST_F(DiscoveryTest, AStoreFrozenForAnyTimeStopsNothing) {
  const auto worker = Join();
  const auto frontend = Join();
  const auto watch = Watch(*frontend);
  const auto one = worker->Register(Make("w:1"));
  ASSERT_TRUE(Becomes({"w:1"}));
  for (const rt::Duration away :
       {rt::Duration(seconds(5)), rt::Duration(seconds(60)), rt::Duration(minutes(10))}) {
    world_.hub_node().Freeze(world_.world().now() + away);
    RunFor(away - seconds(1));
    EXPECT_TRUE(watch->trouble().has_value());
    EXPECT_EQ(watch->instances().size(), 1U);
    ASSERT_TRUE(world_.RunUntil([&] { return !watch->trouble(); }));
    RunFor(seconds(20));
    EXPECT_EQ(watch->instances().size(), 1U);
  }
  EXPECT_EQ(removed_count_, 0);
}

TEST_F(DiscoveryTest, WhoOnlyRegistersSaysThatTheStoreIsAway) {
  std::vector<std::string> lines;
  obs::Log log(
      {}, [] { return rt::WallTime{}; },
      [&](obs::Severity, std::string_view line) { lines.emplace_back(line); });
  const auto worker = Join();
  const auto one = worker->Register(Make("w:1"));
  (*one)->TellTrouble(log);
  RunFor(seconds(5));
  EXPECT_EQ(lines.size(), 0U);
  world_.hub_node().Freeze(world_.world().now() + seconds(60));
  ASSERT_TRUE(world_.RunUntil([&] { return lines.size() == 1; }));
  EXPECT_NE(lines[0].find("discovery.away"), std::string::npos) << lines[0];
  EXPECT_NE(lines[0].find("reason="), std::string::npos) << lines[0];
  ASSERT_TRUE(world_.RunUntil([&] { return lines.size() == 2; }));
  EXPECT_NE(lines[1].find("discovery.back"), std::string::npos) << lines[1];
}

TEST_F(DiscoveryTest, AStoreThatIsBackSaysHowManyAreKnown) {
  std::vector<std::string> lines;
  obs::Log log(
      {}, [] { return rt::WallTime{}; },
      [&](obs::Severity, std::string_view line) { lines.emplace_back(line); });
  auto owned = std::make_unique<ScriptedStore>();
  ScriptedStore& store = *owned;
  Discovery frontend(world_.loop(), std::move(owned), {.membership = {}, .log = &log});
  const auto watch = Watch(frontend);
  Instance one = Make("w:1");
  one.id = InstanceId{1};
  store.Say({.values = {{InstanceKey(one), EncodeInstance(one)}, {CardKey(one), EncodeCard(one)}},
             .trouble = {}});
  ASSERT_EQ(watch->instances().size(), 1U);
  watch->SetConnected(one.id, true);
  store.Say({.values = {}, .trouble = Error(Code::kUnavailable, "nobody listens")});
  store.Say({.values = {}, .trouble = {}});  // wiped: who is connected stays
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_NE(lines[0].find("nobody listens"), std::string::npos) << lines[0];
  EXPECT_NE(lines[1].find("discovery.back instances=1"), std::string::npos) << lines[1];
}

TEST_F(DiscoveryTest, AWipedStoreLosesNobody) {
  const auto worker = Join();
  const auto frontend = Join();
  const auto watch = Watch(*frontend);
  const auto one = worker->Register(Make("w:1"));
  const auto two = worker->Register(Make("w:2"));
  ASSERT_TRUE(Becomes({"w:1", "w:2"}));
  world_.Wipe();
  RunFor(seconds(30));
  EXPECT_EQ(removed_count_, 0);
  EXPECT_EQ(world_.Dump().size(), 4U);
}

TEST_F(DiscoveryTest, AnOldSnapshotBringsNoWithdrawnInstanceBackAndChangesNone) {
  const auto worker = Join();
  const auto frontend = Join();
  const auto watch = Watch(*frontend);
  auto one = worker->Register(Make("w:1"));
  auto two = worker->Register(Make("w:2"));
  ASSERT_TRUE(Becomes({"w:1", "w:2"}));
  const StoreValues old = world_.Dump();
  Instance changed = (*one)->instance();
  changed.address = "w:3";
  ASSERT_TRUE((*one)->Update(changed));
  Instance draining = (*two)->instance();
  draining.draining = true;
  ASSERT_TRUE((*two)->Update(draining));
  RunFor(seconds(1));
  (*two)->Withdraw();
  RunFor(seconds(1));
  addresses_.erase("w:1");
  ASSERT_EQ(addresses_, (std::set<std::string>{"w:3"}));
  world_.Restore(old);
  RunFor(seconds(30));
  EXPECT_EQ(addresses_, (std::set<std::string>{"w:3"}));
  EXPECT_EQ(watch->instances().size(), 1U);
  EXPECT_EQ(removed_count_, 1);
}

TEST_F(DiscoveryTest, WhoIsConnectedStaysThoughTheStoreHasForgottenIt) {
  rt::SimNode& node = world_.world().AddNode("worker");
  const auto worker = Join(node.loop());
  const auto frontend = Join();
  const auto watch = Watch(*frontend);
  const auto one = worker->Register(Make("w:1"));
  ASSERT_TRUE(Becomes({"w:1"}));
  const InstanceId id = watch->instances().begin()->first;
  watch->SetConnected(id, true);
  node.Freeze(world_.world().now() + seconds(100));  // it does not renew its lease
  RunFor(minutes(1));
  EXPECT_TRUE(world_.Dump().empty());
  EXPECT_EQ(watch->instances().size(), 1U);
  watch->SetConnected(id, false);
  RunFor(seconds(4));
  EXPECT_EQ(watch->instances().size(), 1U);
  RunFor(seconds(2));
  EXPECT_EQ(watch->instances().size(), 0U);
  // It goes on, and is back.
  ASSERT_TRUE(Becomes({"w:1"}));
  EXPECT_EQ(watch->instances().begin()->first, id);
}

}  // namespace
}  // namespace pixii::control
