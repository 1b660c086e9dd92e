// When a store is asked, in virtual time: at once for news, with a pause after a failure, and on
// its beat.
#include "control/held_store.h"

#include <gtest/gtest.h>

#include <vector>

#include "rt/sim_world.h"

namespace pixii::control {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr LeaseOptions kLease{.ttl = seconds(9)};

class FakeStore final : public HeldStore {
 public:
  explicit FakeStore(rt::Loop& loop)
      : HeldStore(loop, {kLease, milliseconds(50), milliseconds(120)}), begun_(loop.Now()) {
    StartHolding();
  }

  ~FakeStore() override { StopHolding(); }

  WatchId Watch(std::string /*prefix*/, WatchHandler /*on_view*/) override { return {}; }

  void Unwatch(WatchId /*watch*/) override {}

  bool fails = false;
  rt::Time quiet_until{};
  std::vector<milliseconds> asked;  // since it was made
  std::map<std::string, std::string> held;
  std::vector<std::string> ended;  // of Close

 private:
  rt::Task<Result<void>> Hold() override {
    asked.push_back(std::chrono::duration_cast<milliseconds>(loop().Now() - begun_));
    if (fails) {
      co_return Fail(Code::kUnavailable, "away");
    }
    if (!wanted().empty() && (!has_lease_ || is_due())) {
      has_lease_ = true;
      SetRenewed(loop().Now());
    }
    held = wanted();
    co_return Result<void>();
  }

  bool has_lease() const override { return has_lease_; }

  rt::Time not_before() const override { return quiet_until; }

  void EndWatches() override { ended.push_back("watches"); }

  rt::Task<Result<void>> GiveBack() override {
    ended.push_back("lease");
    co_return Fail(Code::kUnavailable, "away");
  }

  rt::Time begun_;
  bool has_lease_ = false;
};

class HeldStoreTest : public ::testing::Test {
 protected:
  void RunFor(rt::Duration duration) { world_.RunTo(world_.now() + duration); }

  rt::SimWorld world_{{.seed = 1}};
  rt::Loop& loop_ = world_.AddNode("holder").loop();
  FakeStore store_{loop_};
};

TEST_F(HeldStoreTest, NothingIsAskedUntilSomethingIsWantedThenAtOnceAndOnTheBeat) {
  RunFor(seconds(20));
  EXPECT_EQ(store_.asked, (std::vector<milliseconds>{milliseconds(0)}));
  ASSERT_TRUE(store_.Put("a", "1"));
  RunFor(seconds(7));
  EXPECT_EQ(store_.asked,
            (std::vector<milliseconds>{seconds(0), seconds(20), seconds(23), seconds(26)}));
  EXPECT_EQ(store_.held, (std::map<std::string, std::string>{{"a", "1"}}));
  store_.Delete("b");  // nothing of ours
  RunFor(milliseconds(1));
  EXPECT_EQ(store_.asked.size(), 4U);
  store_.Delete("a");
  RunFor(milliseconds(1));
  EXPECT_EQ(store_.asked.size(), 5U);
  EXPECT_TRUE(store_.held.empty());
  EXPECT_EQ(store_.Put("", "1").error().code(), Code::kInvalidArgument);
}

TEST_F(HeldStoreTest, PausesAfterFailuresGrowToTheirBoundAndBeginAnewAfterASuccess) {
  store_.fails = true;
  ASSERT_TRUE(store_.Put("a", "1"));
  RunFor(milliseconds(300));
  EXPECT_EQ(store_.asked,
            (std::vector<milliseconds>{milliseconds(0), milliseconds(0), milliseconds(50),
                                       milliseconds(150), milliseconds(270)}));
  store_.fails = false;
  RunFor(milliseconds(100));
  store_.fails = true;
  store_.asked.clear();
  ASSERT_TRUE(store_.Put("a", "2"));
  RunFor(milliseconds(60));
  ASSERT_EQ(store_.asked.size(), 2U);
  EXPECT_EQ(store_.asked[1] - store_.asked[0], milliseconds(50));
}

TEST_F(HeldStoreTest, AServerThatWantsQuietHasIt) {
  store_.fails = true;
  store_.quiet_until = loop_.Now() + seconds(2);
  ASSERT_TRUE(store_.Put("a", "1"));
  RunFor(seconds(2) - milliseconds(1));
  EXPECT_LE(store_.asked.size(), 2U);
  RunFor(milliseconds(2));
  EXPECT_EQ(store_.asked.back(), seconds(2));
}

TEST_F(HeldStoreTest, AClosedOneGivesItsLeaseBackOnceAndIsDoneEvenIfThatFails) {
  ASSERT_TRUE(store_.Put("a", "1"));
  RunFor(seconds(1));
  const std::size_t asked = store_.asked.size();
  bool closed = false;
  store_.Close([&] { closed = true; });
  EXPECT_TRUE(store_.ended.empty()) << "inside the call";
  RunFor(seconds(30));
  EXPECT_TRUE(closed);
  EXPECT_EQ(store_.ended, (std::vector<std::string>{"watches", "lease"}));
  EXPECT_EQ(store_.asked.size(), asked);
}

}  // namespace
}  // namespace pixii::control
