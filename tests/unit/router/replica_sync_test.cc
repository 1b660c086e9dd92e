#include "router/replica_sync.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "rt/random.h"

namespace pixii::router {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::IsEmpty;
using wire::ReplicaMessage;

const wire::PoolName kPool{.model = "m", .group = "default", .block_tokens = 4};

Placement At(std::uint64_t instance, std::uint64_t prefill = 8) {
  return {.target = {InstanceId{instance}, 0},
          .prompt = {{instance, instance + 1}, 9},
          .prefill_tokens = prefill,
          .expected_output_tokens = 5,
          .session = "s"};
}

LoadChange Added(std::uint64_t id, Placement placement) {
  return {LoadChange::Kind::kAdded, RequestId{id}, std::move(placement)};
}

LoadChange Prefilled(std::uint64_t id) { return {LoadChange::Kind::kPrefilled, RequestId{id}, {}}; }

LoadChange Freed(std::uint64_t id) { return {LoadChange::Kind::kFreed, RequestId{id}, {}}; }

// What a router knows that was told all that a ReplicaSync heard: (instance, prefill tokens).
using View = std::multiset<std::pair<std::uint64_t, std::uint64_t>>;

class Replica {
 public:
  explicit Replica(std::uint64_t id, ReplicaSyncOptions options = {})
      : sync(options, ReplicaId{id}, kPool) {}

  void Hear(const ReplicaMessage& message, rt::Time now) {
    sync.OnMessage(message, now);
    for (const ReplicaSync::Heard& heard : sync.TakeHeard()) {
      EXPECT_NE(Raw(heard.id) & ReplicaSync::kElsewhere, 0U);
      switch (heard.kind) {
        case LoadChange::Kind::kAdded:
          EXPECT_TRUE(here_.emplace(heard.id, heard.placement).second);
          break;
        case LoadChange::Kind::kPrefilled:
          ASSERT_TRUE(here_.contains(heard.id));
          here_.at(heard.id).prefill_tokens = 0;
          break;
        case LoadChange::Kind::kFreed:
          EXPECT_EQ(here_.erase(heard.id), 1U);
          break;
      }
    }
  }

  View Seen() const {
    View out;
    for (const auto& [id, placement] : here_) {
      out.emplace(Raw(placement.target.instance), placement.prefill_tokens);
    }
    return out;
  }

  const std::map<RequestId, Placement>& here() const { return here_; }

  ReplicaSync sync;

 private:
  std::map<RequestId, Placement> here_;
};

// Everything that one says reaches the other.
void Exchange(Replica& from, Replica& to, rt::Time now) {
  for (const ReplicaMessage& out : from.sync.TakeMessages(now)) {
    to.Hear(out, now);
  }
}

TEST(ReplicaSync, TheOtherCountsWhatWasSentUntilItEnds) {
  Replica a(1);
  Replica b(2);
  const rt::Time now{};
  a.sync.OnOwn(Added(7, At(3)));
  Exchange(a, b, now);
  ASSERT_EQ(b.here().size(), 1U);
  const Placement& placed = b.here().begin()->second;
  EXPECT_EQ(placed.target.instance, InstanceId{3});
  EXPECT_EQ(placed.prompt.block_hashes, (std::vector<std::uint64_t>{3, 4}));
  EXPECT_EQ(placed.prompt.token_count, 9U);
  EXPECT_EQ(placed.expected_output_tokens, 5U);
  EXPECT_EQ(placed.session, "s");
  EXPECT_EQ(b.Seen(), (View{{3, 8}}));
  a.sync.OnOwn(Prefilled(7));
  Exchange(a, b, now);
  EXPECT_EQ(b.Seen(), (View{{3, 0}}));
  a.sync.OnOwn(Freed(7));
  Exchange(a, b, now);
  EXPECT_THAT(b.Seen(), IsEmpty());
  EXPECT_EQ(b.sync.ask_count(), 0U);
}

TEST(ReplicaSync, ItsOwnEchoAndOtherPoolsAreNotHeard) {
  Replica a(1);
  a.sync.OnOwn(Added(7, At(3)));
  const std::vector<ReplicaMessage> sent = a.sync.TakeMessages({});
  ASSERT_FALSE(sent.empty());
  for (const ReplicaMessage& out : sent) {
    a.Hear(out, {});
    ReplicaMessage other = out;
    other.from = 9;
    other.pool.block_tokens = 8;
    a.Hear(other, {});
    other.pool = kPool;
    other.pool.group = "another";
    a.Hear(other, {});
  }
  EXPECT_THAT(a.Seen(), IsEmpty());
  EXPECT_EQ(a.sync.peer_count(), 0U);
}

TEST(ReplicaSync, WhoComesLaterGetsAllThatRuns) {
  Replica a(1, {.part_hashes = 4});
  Replica b(2);
  rt::Time now{};
  for (std::uint64_t id = 1; id <= 20; ++id) {
    a.sync.OnOwn(Added(id, At(id)));
  }
  a.sync.TakeMessages(now);  // nobody was there
  now += seconds(1);
  Exchange(a, b, now);  // a digest
  EXPECT_THAT(b.Seen(), IsEmpty());
  Exchange(b, a, now);  // asks
  Exchange(a, b, now);
  EXPECT_EQ(b.Seen().size(), 20U);
}

TEST(ReplicaSync, APeerThatIsSilentIsForgottenAfterTheExpiryAndNotBefore) {
  Replica a(1);
  Replica b(2, {.peer_expiry = seconds(30)});
  rt::Time now{};
  a.sync.OnOwn(Added(1, At(3)));
  Exchange(a, b, now);
  now += seconds(30) - milliseconds(1);
  b.sync.TakeMessages(now);
  EXPECT_EQ(b.sync.TakeHeard().size(), 0U);
  EXPECT_EQ(b.sync.Running().size(), 1U);
  EXPECT_LE(b.sync.next_time(), now + milliseconds(1));
  now += milliseconds(1);
  b.sync.TakeMessages(now);
  const std::vector<ReplicaSync::Heard> heard = b.sync.TakeHeard();
  ASSERT_EQ(heard.size(), 1U);
  EXPECT_EQ(heard[0].kind, LoadChange::Kind::kFreed);
  EXPECT_EQ(b.sync.peer_count(), 0U);
}

TEST(ReplicaSync, WhatIsHeardOfAPeerIsBounded) {
  Replica a(1);
  Replica b(2, {.loads_max = 10});
  rt::Time now{};
  for (std::uint64_t id = 1; id <= 50; ++id) {
    a.sync.OnOwn(Added(id, At(id)));
  }
  for (int i = 0; i < 20; ++i) {
    Exchange(a, b, now);
    Exchange(b, a, now);
    now += seconds(1);
  }
  EXPECT_EQ(b.Seen().size(), 10U);
  EXPECT_LE(b.sync.ask_count(), 1U);
}

// Several replicas, a network that loses, doubles and reorders, and a restart now and then: once
// the network is whole again all know the same, within a few digests.
TEST(ReplicaSyncModel, AllAgreeOnceMessagesArrive) {
  constexpr std::size_t kReplicas = 3;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    rt::Random draw(seed);
    rt::Time now{};
    std::uint64_t last_replica = 0;
    const ReplicaSyncOptions options{.peer_expiry = seconds(10),
                                     .batch_changes = 1 + draw.Below(5),
                                     .part_hashes = 1 + draw.Below(20)};
    std::vector<std::unique_ptr<Replica>> replicas;
    std::vector<std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>>> truth(kReplicas);
    for (std::size_t i = 0; i < kReplicas; ++i) {
      replicas.push_back(std::make_unique<Replica>(++last_replica, options));
    }

    struct Flying {
      std::size_t to;
      ReplicaMessage message;
    };

    std::vector<Flying> network;
    std::uint64_t last_request = 0;
    const auto send = [&](std::size_t i, bool faults) {
      for (const ReplicaMessage& out : replicas[i]->sync.TakeMessages(now)) {
        for (std::size_t to = 0; to < kReplicas; ++to) {
          const std::uint64_t copies = !faults ? 1 : draw.Below(4) == 0 ? 0 : 1 + draw.Below(2);
          for (std::uint64_t copy = 0; copy < copies; ++copy) {
            network.push_back({to, out});  // also to itself, and to who did not ask
          }
        }
      }
    };
    for (int step = 0; step < 400; ++step) {
      const std::size_t i = draw.Below(kReplicas);
      auto& own = truth[i];
      const std::uint64_t what = draw.Below(10);
      if (what < 5) {
        const std::uint64_t id = ++last_request;
        own[id] = {1 + draw.Below(4), draw.Below(3) == 0 ? 0 : 8};
        replicas[i]->sync.OnOwn(Added(id, At(own[id].first, own[id].second)));
      } else if (!own.empty() && what < 9) {
        const auto at = std::next(own.begin(), static_cast<std::ptrdiff_t>(draw.Below(own.size())));
        if (draw.Below(2) == 0) {
          replicas[i]->sync.OnOwn(Prefilled(at->first));
          at->second.second = 0;
        } else {
          replicas[i]->sync.OnOwn(Freed(at->first));
          own.erase(at);
        }
      } else if (draw.Below(20) == 0) {
        replicas[i] = std::make_unique<Replica>(++last_replica, options);
        own.clear();
      }
      send(i, true);
      while (!network.empty() && draw.Below(3) != 0) {
        const std::size_t at = draw.Below(network.size());
        replicas[network[at].to]->Hear(network[at].message, now);
        network.erase(network.begin() + static_cast<std::ptrdiff_t>(at));
      }
      now += milliseconds(draw.Below(60));
    }
    for (int round = 0; round < 130; ++round) {  // the network is whole; who is gone expires
      for (std::size_t i = 0; i < kReplicas; ++i) {
        send(i, false);
      }
      for (const Flying& one : network) {
        replicas[one.to]->Hear(one.message, now);
      }
      network.clear();
      now += milliseconds(100);
    }
    for (std::size_t i = 0; i < kReplicas; ++i) {
      View expected;
      for (std::size_t j = 0; j < kReplicas; ++j) {
        for (const auto& [id, one] : truth[j]) {
          if (j != i) {
            expected.insert(one);
          }
        }
      }
      replicas[i]->Hear(ReplicaMessage{}, now);  // of no pool; takes what expired
      EXPECT_EQ(replicas[i]->Seen(), expected) << "replica " << i;
    }
  }
}

}  // namespace
}  // namespace pixii::router
