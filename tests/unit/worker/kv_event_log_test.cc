#include "worker/kv_event_log.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>

#include "rt/random.h"

namespace pixii::worker {
namespace {

using wire::KvEvent;
using wire::KvTier;

using Place = std::pair<std::uint32_t, KvTier>;

// What a router holds that counts nothing: each block is there or is not.
class Reader {
 public:
  void Take(const KvEvent& event) {
    if (event.kind == KvEvent::Kind::kCleared) {
      std::erase_if(held_, [&](const auto& one) { return one.first.first == event.rank; });
      return;
    }
    std::map<std::uint64_t, std::uint64_t>& held = held_[{event.rank, event.tier}];
    for (const wire::KvBlock& block : event.blocks) {
      EXPECT_TRUE(held.emplace(block.block_hash, block.tokens_hash).second);
    }
    for (const std::uint64_t hash : event.removed) {
      EXPECT_EQ(held.erase(hash), 1U);
    }
    if (held.empty()) {
      held_.erase({event.rank, event.tier});
    }
  }

  friend bool operator==(const Reader&, const Reader&) = default;

 private:
  std::map<Place, std::map<std::uint64_t, std::uint64_t>> held_;
};

KvEvent Stored(std::vector<std::uint64_t> hashes, std::optional<std::uint64_t> parent = {}) {
  KvEvent event;
  event.parent = parent;
  for (const std::uint64_t hash : hashes) {
    event.blocks.push_back({hash, hash * 10});
  }
  return event;
}

KvEvent Removed(std::vector<std::uint64_t> hashes) {
  KvEvent event;
  event.kind = KvEvent::Kind::kRemoved;
  event.removed = std::move(hashes);
  return event;
}

KvEvent Cleared(std::uint32_t rank) {
  KvEvent event;
  event.kind = KvEvent::Kind::kCleared;
  event.rank = rank;
  return event;
}

TEST(KvEventLog, TheFirstStoreAndTheLastRemoveAreTold) {
  KvEventLog log({});
  log.Add(Stored({1, 2, 3}));
  log.Add(Stored({1, 2, 4}));  // 1 and 2 a second time
  log.Add(Removed({2, 3}));
  const std::vector<KvEvent> events = log.Since(0, 100).value();
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[1].id, 1U);
  EXPECT_EQ(events[1].parent, 2U);
  ASSERT_EQ(events[1].blocks.size(), 1U);
  EXPECT_EQ(events[1].blocks[0].block_hash, 4U);
  EXPECT_EQ(events[2].removed, std::vector<std::uint64_t>{3});
  log.Add(Removed({2}));
  EXPECT_EQ(log.Since(3, 100)->front().removed, std::vector<std::uint64_t>{2});
  log.Add(Removed({2, 77}));
  EXPECT_EQ(log.next_id(), 4U) << "nothing changed";
}

TEST(KvEventLog, AKnownBlockInARowEndsItAndIsTheNextOnesParent) {
  KvEventLog log({});
  log.Add(Stored({2}, 1));
  log.Add(Stored({1, 2, 3}));
  const std::vector<KvEvent> events = log.Since(1, 100).value();
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].parent, std::nullopt);
  EXPECT_EQ(events[0].blocks.at(0).block_hash, 1U);
  EXPECT_EQ(events[1].parent, 2U);
  EXPECT_EQ(events[1].blocks.at(0).block_hash, 3U);
}

TEST(KvEventLog, ClearedIsOfOneRank) {
  KvEventLog log({});
  KvEvent other = Stored({5});
  other.rank = 1;
  log.Add(Stored({5}));
  log.Add(std::move(other));
  log.Add(Cleared(0));
  EXPECT_EQ(log.block_count(), 1U);
  EXPECT_EQ(log.Dump().at(0).rank, 1U);
}

TEST(KvEventLog, WhatIsForgottenIsNotMadeUp) {
  KvEventLog log({.blocks_max = 10});
  for (std::uint64_t hash = 1; hash <= 100; ++hash) {
    log.Add(Stored({hash}));
  }
  EXPECT_FALSE(log.Since(0, 100));
  EXPECT_FALSE(log.Since(101, 100)) << "nothing was told of it yet";
  EXPECT_TRUE(log.Since(100, 100)->empty());
  EXPECT_EQ(log.Since(97, 100)->size(), 3U);
  EXPECT_EQ(log.Since(97, 1)->size(), 1U);
  EXPECT_EQ(log.Dump().size(), 100U);
}

TEST(KvEventLog, ADumpPutsParentsFirstWheneverTheyCame) {
  KvEventLog log({});
  log.Add(Stored({1, 2, 3}));
  log.Add(Removed({1}));
  log.Add(Stored({1}));  // again, behind those that follow it
  std::set<std::uint64_t> said;
  for (const KvEvent& event : log.Dump()) {
    EXPECT_TRUE(!event.parent || said.contains(*event.parent));
    EXPECT_EQ(event.id, 2U);
    for (const wire::KvBlock& block : event.blocks) {
      said.insert(block.block_hash);
    }
  }
  EXPECT_EQ(said, (std::set<std::uint64_t>{1, 2, 3}));
}

// Whoever follows, from whatever point, or begins with a dump, holds the same as one that counts
// what the engine said.
TEST(KvEventLog, FollowersAndDumpsAgreeWithACountOfEverything) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    rt::Random random(seed);
    KvEventLog log({.blocks_max = 40});
    std::map<Place, std::map<std::uint64_t, int>> counts;
    Reader follower;
    std::uint64_t followed = 0;
    for (int step = 0; step < 400; ++step) {
      const Place place{static_cast<std::uint32_t>(random.Below(2)),
                        static_cast<KvTier>(random.Below(2))};
      std::vector<std::uint64_t> hashes;
      for (std::uint64_t i = 0; i <= random.Below(4); ++i) {
        hashes.push_back(random.Below(20));
      }
      const std::uint64_t what = random.Below(40);
      KvEvent event = what == 0 ? Cleared(0) : what < 22 ? Stored(hashes) : Removed(hashes);
      event.rank = place.first;
      event.tier = place.second;
      if (what == 0) {
        std::erase_if(counts, [&](const auto& one) { return one.first.first == place.first; });
      }
      for (const std::uint64_t hash : what == 0 ? std::vector<std::uint64_t>{} : hashes) {
        int& count = counts[place][hash];
        count = what < 22 ? count + 1 : std::max(count - 1, 0);
      }
      log.Add(std::move(event));
      if (random.Below(6) != 0) {
        continue;
      }
      if (std::optional<std::vector<KvEvent>> events = log.Since(followed, 1000)) {
        for (const KvEvent& one : *events) {
          EXPECT_EQ(one.id, followed++);
          follower.Take(one);
        }
      } else {
        follower = Reader();
        for (const KvEvent& one : log.Dump()) {
          follower.Take(one);
        }
        followed = log.next_id();
      }
      Reader expected;
      for (const auto& [where, hashes_of] : counts) {
        for (const auto& [hash, count] : hashes_of) {
          KvEvent one = Stored({hash});
          one.rank = where.first;
          one.tier = where.second;
          if (count > 0) {
            expected.Take(one);
          }
        }
      }
      EXPECT_EQ(follower, expected);
    }
  }
}

}  // namespace
}  // namespace pixii::worker
