#include "control/keeper.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace pixii::control {
namespace {

using namespace std::chrono_literals;
using Kind = KeeperAction::Kind;
using State = ReplicaStatus::State;

// Runs what the keeper decides: replicas are ready, and end, when the test says so.
class KeeperTest : public ::testing::Test {
 protected:
  void Set(std::vector<KeptPart> parts) {
    keeper.SetParts(std::move(parts));
    Do();
  }

  void Do() {
    for (KeeperAction& action : keeper.Decide(now)) {
      if (action.kind == Kind::kStart) {
        EXPECT_TRUE(alive.insert(action.replica).second);
        starts.push_back(action.part);
      }
      actions.push_back(std::move(action));
    }
  }

  void Pass(rt::Duration time) {
    now += time;
    Do();
  }

  // Whether all that starts is ready at once and what is stopped ends at once.
  void RunToEnd() {
    for (int step = 0; step < 200; ++step) {
      for (const ReplicaStatus& one : keeper.replicas()) {
        if (one.state == State::kStarting) {
          keeper.OnReady(one.replica, now);
        } else if (one.state == State::kStopping) {
          Exit(one.replica);
        }
        serving_min = std::min(serving_min, Count(State::kReady));
        running_max = std::max(running_max, alive.size());
      }
      Do();
      const rt::Time next = keeper.next_time(now);
      if (next == rt::kNever && keeper.settled(now)) {
        return;
      }
      now = next == rt::kNever ? now : next;
      Do();
    }
    ADD_FAILURE() << "it never came to rest";
  }

  void Exit(ReplicaId replica) {
    alive.erase(replica);
    keeper.OnExit(replica, now);
  }

  std::size_t Count(State state) const {
    const auto all = keeper.replicas();
    return static_cast<std::size_t>(std::ranges::count(all, state, &ReplicaStatus::state));
  }

  std::size_t Actions(Kind kind) const {
    return static_cast<std::size_t>(std::ranges::count(actions, kind, &KeeperAction::kind));
  }

  Keeper keeper{KeeperOptions{}};
  rt::Time now{};
  std::set<ReplicaId> alive;
  std::vector<KeeperAction> actions;
  std::vector<std::string> starts;
  std::size_t serving_min = 1000;
  std::size_t running_max = 0;
};

TEST_F(KeeperTest, StartsWhatIsNeededFirst) {
  Set({{.name = "worker", .version = "1", .replicas = 2},
       {.name = "frontend", .version = "1", .needs = {"worker"}}});
  EXPECT_EQ(starts, (std::vector<std::string>{"worker", "worker"}));
  keeper.OnReady(*alive.begin(), now);
  Do();
  EXPECT_EQ(starts.size(), 2U) << "one of two is not all";
  keeper.OnReady(*alive.rbegin(), now);
  Do();
  EXPECT_EQ(starts.back(), "frontend");
  EXPECT_FALSE(keeper.settled(now));
  RunToEnd();
  EXPECT_TRUE(keeper.settled(now));
}

TEST_F(KeeperTest, WhatEndsIsStartedAnewLaterEachTime) {
  Set({{.name = "worker", .version = "1"}});
  std::vector<rt::Duration> pauses;
  for (int i = 0; i < 10; ++i) {
    Exit(*alive.begin());
    const rt::Time ended = now;
    Do();
    EXPECT_TRUE(alive.empty());
    now = keeper.next_time(now);
    pauses.push_back(now - ended);
    Do();
    ASSERT_EQ(alive.size(), 1U);
  }
  EXPECT_EQ(pauses[0], 100ms);
  EXPECT_EQ(pauses[1], 200ms);
  EXPECT_EQ(pauses.back(), 10s);
  keeper.OnReady(*alive.begin(), now);
  Pass(20s);
  Exit(*alive.begin());
  EXPECT_EQ(keeper.next_time(now) - now, 100ms) << "it was sound meanwhile";
}

TEST_F(KeeperTest, ReplicasThatEndTogetherComeBackTogether) {
  Set({{.name = "worker", .version = "1", .replicas = 8}});
  for (const ReplicaId one : std::set<ReplicaId>(alive)) {
    keeper.OnReady(one, now);
  }
  for (const ReplicaId one : std::set<ReplicaId>(alive)) {
    Exit(one);
  }
  Do();
  EXPECT_TRUE(alive.empty());
  EXPECT_EQ(keeper.next_time(now) - now, 100ms);
  Pass(100ms);
  EXPECT_EQ(alive.size(), 8U);
}

TEST_F(KeeperTest, OneThatAlwaysFailsKeepsNoOtherWaiting) {
  Set({{.name = "worker", .version = "1", .replicas = 2}});
  for (int i = 0; i < 10; ++i) {  // the one that was started last
    Exit(*alive.rbegin());
    now = keeper.next_time(now);
    Do();
    ASSERT_EQ(alive.size(), 2U);
  }
  const ReplicaId good = *alive.begin();
  Exit(*alive.rbegin());
  Do();
  Exit(good);
  Do();
  Pass(100ms);
  EXPECT_EQ(alive.size(), 1U) << "it failed once";
  Pass(9s);
  EXPECT_EQ(alive.size(), 1U) << "the other one failed eleven times";
  Pass(1s);
  EXPECT_EQ(alive.size(), 2U);
}

TEST_F(KeeperTest, ReplacesAReplicaAtATimeAndNeverServesWithLess) {
  Set({{.name = "worker", .version = "1", .replicas = 3}});
  RunToEnd();
  serving_min = 1000;
  keeper.SetParts({{.name = "worker", .version = "2", .replicas = 3}});
  Do();
  RunToEnd();
  for (const ReplicaStatus& one : keeper.replicas()) {
    EXPECT_EQ(one.version, "2");
    EXPECT_EQ(one.state, State::kReady);
  }
  EXPECT_EQ(alive.size(), 3U);
  EXPECT_EQ(serving_min, 3U);
  EXPECT_EQ(running_max, 4U);
}

TEST_F(KeeperTest, AnOldReplicaGoesOnlyWhenItsSuccessorSettled) {
  Set({{.name = "worker", .version = "1"}});
  RunToEnd();
  keeper.SetParts({{.name = "worker", .version = "2", .settle = 5s}});
  Do();
  ASSERT_EQ(alive.size(), 2U);
  const ReplicaId fresh = *alive.rbegin();
  Pass(60s);
  EXPECT_EQ(Actions(Kind::kStop), 0U) << "it is not ready";
  keeper.OnReady(fresh, now);
  Pass(4s);
  EXPECT_EQ(Actions(Kind::kStop), 0U) << "others have not heard of it";
  Pass(1s);
  ASSERT_EQ(Actions(Kind::kStop), 1U);
  EXPECT_NE(actions.back().replica, fresh);
}

TEST_F(KeeperTest, ANewVersionThatNeverGetsReadyHarmsNobody) {
  Set({{.name = "worker", .version = "good", .replicas = 2}});
  RunToEnd();
  keeper.SetParts({{.name = "worker", .version = "bad", .replicas = 2}});
  for (int i = 0; i < 20; ++i) {
    Do();
    for (const ReplicaStatus& one : keeper.replicas()) {
      if (one.version == "bad") {
        Exit(one.replica);
      }
    }
    now = keeper.next_time(now);
  }
  EXPECT_EQ(Count(State::kReady), 2U);
  EXPECT_EQ(Actions(Kind::kStop), 0U);
  keeper.SetParts({{.name = "worker", .version = "good", .replicas = 2}});
  RunToEnd();
  EXPECT_EQ(Actions(Kind::kStop), 0U) << "the old ones are the right ones again";
}

TEST_F(KeeperTest, WhatCannotOverlapEndsFirst) {
  Set({{.name = "frontend", .version = "1", .overlaps = false}});
  RunToEnd();
  running_max = 0;
  keeper.SetParts({{.name = "frontend", .version = "2", .overlaps = false}});
  Do();
  RunToEnd();
  EXPECT_EQ(running_max, 1U);
  EXPECT_EQ(keeper.replicas().at(0).version, "2");
}

TEST_F(KeeperTest, FollowsTheNumberOfReplicas) {
  Set({{.name = "worker", .version = "1", .replicas = 4}});
  RunToEnd();
  keeper.SetParts({{.name = "worker", .version = "1", .replicas = 1}});
  Do();
  EXPECT_EQ(Actions(Kind::kStop), 3U);
  RunToEnd();
  EXPECT_EQ(alive.size(), 1U);
  keeper.SetParts({});
  Do();
  EXPECT_EQ(Actions(Kind::kStop), 4U);
  RunToEnd();
  EXPECT_TRUE(alive.empty());
}

TEST_F(KeeperTest, DrainsThoseThatNeedOthersFirst) {
  Set({{.name = "worker", .version = "1", .replicas = 2},
       {.name = "frontend", .version = "1", .needs = {"worker"}}});
  RunToEnd();
  keeper.Drain();
  Do();
  ASSERT_EQ(Actions(Kind::kStop), 1U);
  EXPECT_EQ(actions.back().part, "frontend");
  Exit(actions.back().replica);
  Do();
  EXPECT_EQ(Actions(Kind::kStop), 3U);
  EXPECT_FALSE(keeper.finished());
  Pass(30s);
  EXPECT_EQ(Actions(Kind::kKill), 2U) << "who does not end is ended";
  Pass(30s);
  EXPECT_EQ(Actions(Kind::kKill), 2U);
  for (const ReplicaStatus& one : keeper.replicas()) {
    Exit(one.replica);
  }
  Do();
  EXPECT_TRUE(keeper.finished());
  EXPECT_EQ(starts.size(), 3U) << "what ended while draining is not started anew";
}

}  // namespace
}  // namespace pixii::control
