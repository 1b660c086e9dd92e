#include "control/membership.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "rt/random.h"

namespace pixii::control {
namespace {

using Kind = MembershipChange::Kind;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr InstanceId kA{1};
constexpr InstanceId kB{2};

Instance Make(InstanceId id, std::uint64_t generation = 0, bool draining = false) {
  Instance instance;
  instance.id = id;
  instance.address = "host:1";
  instance.generation = generation;
  instance.draining = draining;
  return instance;
}

SeenInstance Seen(InstanceId id, std::uint64_t generation = 0, bool draining = false) {
  return {.id = id, .instance = Make(id, generation, draining)};
}

class MembershipTest : public testing::Test {
 protected:
  rt::Time At(rt::Duration after) const { return start_ + after; }

  // "+1 ~2 -3": added, changed, removed ids since the last call.
  std::string Changes() {
    std::string text;
    for (const MembershipChange& change : membership_.TakeChanges()) {
      text += text.empty() ? "" : " ";
      text += change.kind == Kind::kAdded ? '+' : change.kind == Kind::kChanged ? '~' : '-';
      text += std::to_string(static_cast<std::uint64_t>(change.instance.id));
    }
    return text;
  }

  rt::Time start_ = rt::Time{} + seconds(100);
  Membership membership_{{.absence_grace = seconds(5)}};
};

TEST_F(MembershipTest, InstancesComeChangeAndGoWithTheStore) {
  membership_.OnView({Seen(kA), Seen(kB)}, At(seconds(0)));
  EXPECT_EQ(Changes(), "+1 +2");
  membership_.OnView({Seen(kA, 1), Seen(kB)}, At(seconds(1)));
  EXPECT_EQ(Changes(), "~1");
  EXPECT_EQ(membership_.instances().at(kA).generation, 1U);
  membership_.OnView({Seen(kB)}, At(seconds(2)));
  EXPECT_EQ(Changes(), "");
  EXPECT_EQ(membership_.next_deadline(), At(seconds(7)));
  membership_.OnTime(At(seconds(7)));
  EXPECT_EQ(Changes(), "-1");
  EXPECT_EQ(membership_.next_deadline(), rt::kNever);
}

TEST_F(MembershipTest, WhoSaidOnItsConnectionThatItEndsIsWithdrawn) {
  membership_.OnView({Seen(kA, 3), Seen(kB)}, At(seconds(0)));
  EXPECT_EQ(Changes(), "+1 +2");
  membership_.OnConnection(kA, true, At(seconds(0)));
  membership_.OnGoingAway(kA);
  membership_.OnTime(At(seconds(1)));
  EXPECT_EQ(Changes(), "") << "the store has it still";
  membership_.OnView({Seen(kB)}, At(seconds(2)));
  EXPECT_EQ(Changes(), "-1") << "connected or not";
  membership_.OnView({Seen(kA, 3), Seen(kB)}, At(seconds(3)));
  membership_.OnView({Seen(kA, 4, true), Seen(kB)}, At(seconds(3)));
  EXPECT_EQ(Changes(), "") << "old snapshots, of before and after it drained";
  // The other way round: the store lost it first.
  membership_.OnConnection(kB, true, At(seconds(4)));
  membership_.OnView({}, At(seconds(5)));
  EXPECT_EQ(membership_.next_deadline(), rt::kNever) << "it is connected";
  membership_.OnGoingAway(kB);
  EXPECT_LE(membership_.next_deadline(), At(seconds(5)));
  membership_.OnTime(At(seconds(5)));
  EXPECT_EQ(Changes(), "-2");
  membership_.OnGoingAway(kB);  // nobody knows it any more
  membership_.OnView({Seen(kA, 5)}, At(seconds(6)));
  EXPECT_EQ(Changes(), "+1") << "said anew";
}

TEST_F(MembershipTest, AStoreThatIsAwayForHoweverLongChangesNothing) {
  for (const rt::Duration away :
       {rt::Duration(seconds(5)), rt::Duration(seconds(60)), rt::Duration(minutes(10))}) {
    Membership membership({.absence_grace = seconds(5)});
    membership.OnView({Seen(kA), Seen(kB)}, At(seconds(0)));
    membership.OnView({Seen(kA)}, At(seconds(1)));  // B's absence began
    membership.OnTrouble();
    EXPECT_EQ(membership.next_deadline(), rt::kNever);
    membership.OnConnection(kA, true, At(seconds(1)));
    membership.OnConnection(kA, false, At(seconds(2)));
    membership.OnTime(At(away));
    EXPECT_EQ(membership.instances().size(), 2U);
    // It returns without anything: all have the whole grace to come back.
    membership.OnView({}, At(away));
    EXPECT_EQ(membership.instances().size(), 2U);
    membership.OnView({Seen(kA)}, At(away + seconds(4)));
    membership.OnTime(At(away + seconds(5)));
    EXPECT_EQ(membership.instances().size(), 1U);
    EXPECT_TRUE(membership.instances().contains(kA));
  }
}

TEST_F(MembershipTest, AWipedStoreTakesNobodyWhoIsConnected) {
  membership_.OnView({Seen(kA), Seen(kB)}, At(seconds(0)));
  membership_.OnConnection(kA, true, At(seconds(0)));
  membership_.OnView({}, At(seconds(1)));
  membership_.OnTime(At(minutes(60)));
  EXPECT_EQ(Changes(), "+1 +2 -2");
  membership_.OnConnection(kA, false, At(minutes(60)));
  EXPECT_EQ(membership_.next_deadline(), At(minutes(60) + seconds(5)));
  membership_.OnTime(At(minutes(60) + seconds(5)));
  EXPECT_EQ(Changes(), "-1");
}

TEST_F(MembershipTest, AnOldStateOfAnInstanceIsIgnored) {
  membership_.OnView({Seen(kA, 7)}, At(seconds(0)));
  membership_.OnView({Seen(kA, 3, true)}, At(seconds(1)));
  EXPECT_EQ(Changes(), "+1");
  EXPECT_EQ(membership_.instances().at(kA).generation, 7U);
  EXPECT_FALSE(membership_.instances().at(kA).draining);
}

TEST_F(MembershipTest, WhatCannotBeReadIsThereAndStaysAsItWas) {
  membership_.OnView({Seen(kA, 7)}, At(seconds(0)));
  membership_.OnView({{.id = kA, .instance = std::nullopt}, {.id = kB, .instance = std::nullopt}},
                     At(seconds(1)));
  membership_.OnTime(At(minutes(1)));
  EXPECT_EQ(Changes(), "+1");
}

TEST_F(MembershipTest, AWithdrawnInstanceIsGoneAtOnceAndNoOldSnapshotBringsItBack) {
  membership_.OnView({Seen(kA)}, At(seconds(0)));
  membership_.OnConnection(kA, true, At(seconds(0)));
  membership_.OnView({Seen(kA, 1, true)}, At(seconds(1)));
  membership_.OnView({}, At(seconds(2)));
  EXPECT_EQ(Changes(), "+1 ~1 -1");
  membership_.OnView({Seen(kA)}, At(seconds(3)));
  EXPECT_EQ(Changes(), "");
  // It may itself say later that it is back.
  membership_.OnView({Seen(kA, 2)}, At(seconds(4)));
  EXPECT_EQ(Changes(), "+1");
}

TEST_F(MembershipTest, AStoppedWorkerGoesAndComesBackUnderItsId) {
  membership_.OnView({Seen(kA, 4)}, At(seconds(0)));
  membership_.OnConnection(kA, true, At(seconds(0)));
  membership_.OnConnection(kA, false, At(seconds(3)));  // no pings answered
  membership_.OnView({}, At(seconds(10)));              // its lease ran out
  membership_.OnTime(At(seconds(15)));
  EXPECT_EQ(Changes(), "+1 -1");
  membership_.OnView({Seen(kA, 4)}, At(seconds(60)));
  EXPECT_EQ(Changes(), "+1");
}

TEST_F(MembershipTest, WithdrawnInstancesAreForgottenBeyondTheBound) {
  Membership membership({.absence_grace = seconds(5), .withdrawn_max = 1});
  membership.OnView({Seen(kA, 0, true), Seen(kB, 0, true)}, At(seconds(0)));
  membership.OnView({}, At(seconds(1)));
  membership.OnView({Seen(kA), Seen(kB)}, At(seconds(2)));
  EXPECT_EQ(membership.instances().size(), 1U);
  EXPECT_TRUE(membership.instances().contains(kA));
}

// Random stores, connections and times against the rules said as plainly as possible: from the
// whole history of each instance.
struct History {
  bool in_view = false;
  bool connected = false;
  std::optional<std::uint64_t> generation;  // the newest seen readable
  bool draining = false;
  rt::Time absent_since{};
  std::optional<std::uint64_t> withdrawn;
};

void Evict(std::map<InstanceId, History>& world, bool frozen, rt::Time now) {
  for (auto& [id, one] : world) {
    if (!frozen && one.generation && !one.in_view && !one.connected &&
        now - one.absent_since >= seconds(5)) {
      one.generation.reset();
    }
  }
}

TEST(MembershipModelTest, AgreesWithThePlainRulesOnRandomHistories) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    rt::Random random(seed);
    Membership membership({.absence_grace = seconds(5)});
    std::map<InstanceId, History> world;
    std::set<InstanceId> listed;  // from the changes alone
    rt::Time now = rt::Time{} + seconds(1);
    bool frozen = true;
    for (int step = 0; step < 200; ++step) {
      now += std::chrono::milliseconds(random.Below(3000));
      membership.OnTime(now);
      Evict(world, frozen, now);
      const InstanceId some{random.Below(6) + 1};
      switch (random.Below(4)) {
        case 0:
          membership.OnTrouble();
          frozen = true;
          break;
        case 1: {
          const bool connected = random.Chance(0.5);
          membership.OnConnection(some, connected, now);
          History& one = world[some];
          if (one.generation) {
            one.absent_since = one.connected && !connected && !one.in_view ? now : one.absent_since;
            one.connected = connected;
          }
          break;
        }
        default: {
          std::vector<SeenInstance> seen;
          for (std::uint64_t n = 1; n <= 6; ++n) {
            if (random.Chance(0.6)) {
              seen.push_back(Seen(InstanceId{n}, random.Below(step / 10 + 2), random.Chance(0.1)));
              if (random.Chance(0.1)) {
                seen.back().instance.reset();
              }
            }
          }
          membership.OnView(seen, now);
          for (std::uint64_t n = 1; n <= 6; ++n) {
            History& one = world[InstanceId{n}];
            const auto found = std::ranges::find(seen, InstanceId{n}, &SeenInstance::id);
            const bool there = found != seen.end();
            if (there && found->instance) {
              const std::uint64_t generation = found->instance->generation;
              const bool stale = one.withdrawn && generation <= *one.withdrawn;
              if (!stale && (!one.generation || generation > *one.generation)) {
                if (!one.generation) {
                  one.connected = false;
                }
                one.generation = generation;
                one.draining = found->instance->draining;
              }
            }
            if (!there && one.generation) {
              one.absent_since = one.in_view || frozen ? now : one.absent_since;
              if (one.draining) {
                one.withdrawn = one.generation;
                one.generation.reset();
              }
            }
            one.in_view = there;
          }
          frozen = false;
          Evict(world, frozen, now);
          break;
        }
      }
      for (const MembershipChange& change : membership.TakeChanges()) {
        if (change.kind == Kind::kAdded) {
          ASSERT_TRUE(listed.insert(change.instance.id).second) << "seed " << seed;
        } else if (change.kind == Kind::kRemoved) {
          ASSERT_EQ(listed.erase(change.instance.id), 1U) << "seed " << seed;
        } else {
          ASSERT_TRUE(listed.contains(change.instance.id)) << "seed " << seed;
        }
      }
      std::set<InstanceId> expected;
      for (const auto& [id, one] : world) {
        if (one.generation) {
          expected.insert(id);
          ASSERT_TRUE(membership.instances().contains(id)) << "seed " << seed << " step " << step;
          EXPECT_EQ(membership.instances().at(id).generation, *one.generation);
          EXPECT_EQ(membership.instances().at(id).draining, one.draining);
        }
      }
      ASSERT_EQ(listed, expected) << "seed " << seed << " step " << step;
      ASSERT_EQ(membership.instances().size(), expected.size());
    }
  }
}

}  // namespace
}  // namespace pixii::control
