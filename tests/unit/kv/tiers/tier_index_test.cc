#include "kv/tiers/tier_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "rt/random.h"

namespace pixii::kv {
namespace {

Hash128 HashOf(std::uint64_t value) { return {value, value * 31}; }

TierBlock Block(std::uint64_t value, std::uint64_t parent = 0) {
  return {.hash = HashOf(value), .parent = HashOf(parent)};
}

TierPlace Store(TierIndex& index, const TierBlock& block) {
  const auto reserved = index.Reserve(block);
  EXPECT_TRUE(reserved);
  index.Commit(reserved->place.slot);
  return reserved->place;
}

/// The same by walking over everything.
class Naive {
 public:
  explicit Naive(const TierIndexOptions& options) : options_(options) {}

  struct Entry {
    std::uint64_t parent = 0;
    std::string tenant;
    std::int64_t priority = 0;
    std::uint64_t used = 0;
    std::uint64_t frequency = 1;
    std::uint64_t kept = 0;  // ns
    int readers = 0;
    bool written = false;  // to its end
  };

  bool HasChild(std::uint64_t hash) const {
    return std::ranges::any_of(entries_, [&](const auto& entry) {
      return entry.second.parent == hash && entry.first != hash;
    });
  }

  std::optional<std::uint64_t> Victim(const std::string* tenant) const {
    std::optional<std::uint64_t> best;
    std::tuple<std::int64_t, std::int64_t, std::uint64_t> best_rank;
    for (const auto& [hash, entry] : entries_) {
      if (!entry.written || entry.readers > 0 || (tenant != nullptr && entry.tenant != *tenant)) {
        continue;
      }
      std::tuple<std::int64_t, std::int64_t, std::uint64_t> rank;
      switch (options_.policy) {
        case EvictionPolicy::kLru:
          rank = {entry.priority, 0, entry.used};
          break;
        case EvictionPolicy::kFrequency:
          rank = {entry.priority, static_cast<std::int64_t>(entry.frequency), entry.used};
          break;
        case EvictionPolicy::kLeafFirst:
          rank = {HasChild(hash) ? 1 : 0, entry.priority, entry.used};
          break;
        case EvictionPolicy::kLeafReward:
          rank = {HasChild(hash) ? 1 : 0, entry.priority, entry.kept};
          break;
      }
      if (!best || rank < best_rank) {
        best = hash;
        best_rank = rank;
      }
    }
    return best;
  }

  /// Whether there is room, and who goes for it.
  std::pair<bool, std::optional<std::uint64_t>> Reserve(std::uint64_t hash, std::uint64_t parent,
                                                        const std::string& tenant,
                                                        std::int64_t priority) {
    const auto own = std::ranges::count_if(
        entries_, [&](const auto& entry) { return entry.second.tenant == tenant; });
    const auto doomed_own =
        std::ranges::count(doomed_, tenant, &std::pair<std::uint64_t, std::string>::second);
    const bool at_budget =
        options_.tenant_slots_max > 0 && own + doomed_own >= options_.tenant_slots_max;
    std::optional<std::uint64_t> victim;
    if (at_budget || entries_.size() + doomed_.size() >= options_.slot_count) {
      victim = Victim(at_budget ? &tenant : nullptr);
      if (!victim || entries_[*victim].priority > priority || *victim == parent) {
        return {false, std::nullopt};
      }
      entries_.erase(*victim);
    }
    entries_[hash] = {
        .parent = parent, .tenant = tenant, .priority = priority, .used = ++uses_, .kept = now_};
    return {true, victim};
  }

  TierIndexOptions options_;
  std::map<std::uint64_t, Entry> entries_;
  std::vector<std::pair<std::uint64_t, std::string>> doomed_;  // removed and still read
  std::uint64_t uses_ = 0;
  std::uint64_t now_ = 0;  // ns
};

class EvictionModelTest : public ::testing::TestWithParam<EvictionPolicy> {};

// 100,000 random operations; whoever is evicted is whom the naive model evicts, and never one in
// use.
TEST_P(EvictionModelTest, EvictsAsTheNaiveModelDoes) {
  const std::uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  rt::Random random(seed + 1);
  const TierIndexOptions options{.slot_count = 24, .policy = GetParam(), .tenant_slots_max = 14};
  TierIndex index(options);
  Naive naive(options);
  std::map<std::uint64_t, std::uint32_t> reserved;             // hash -> slot
  std::vector<std::pair<std::uint64_t, std::uint32_t>> reads;  // hash, slot
  std::uint64_t evictions = 0;
  for (int step = 0; step < 100'000; ++step) {
    naive.now_ += 1 + random.Below(1000);  // all steps take less than one reward
    index.AdvanceTo(rt::Time(rt::Duration(naive.now_)));
    const std::uint64_t value = 1 + random.Below(64);
    const Hash128 hash = HashOf(value);
    const auto place = index.Find(hash);
    const auto known = naive.entries_.find(value);
    ASSERT_EQ(index.contains(hash), known != naive.entries_.end());
    ASSERT_EQ(place.has_value(), known != naive.entries_.end() && known->second.written);
    switch (random.Below(8)) {
      case 0:
      case 1:
      case 2: {
        if (known != naive.entries_.end()) {
          break;
        }
        const std::uint64_t parent = value / 2;
        const std::string tenant = random.Chance(0.6) ? "a" : "b";
        const auto priority = static_cast<std::int32_t>(random.Chance(0.1) ? random.Below(3) : 0);
        const auto expected = naive.Reserve(value, parent, tenant, priority);
        const auto given = index.Reserve(
            {.hash = hash, .parent = HashOf(parent), .tenant = tenant, .priority = priority});
        ASSERT_EQ(given.has_value(), expected.first) << "step " << step;
        if (given) {
          ASSERT_EQ(given->evicted.has_value(), expected.second.has_value()) << "step " << step;
          if (given->evicted) {
            ASSERT_EQ(*given->evicted, HashOf(*expected.second)) << "step " << step;
            ++evictions;
          }
          reserved[value] = given->place.slot;
        }
        break;
      }
      case 3:
        if (const auto waiting = reserved.find(value); waiting != reserved.end()) {
          if (random.Chance(0.8)) {
            index.Commit(waiting->second);
            known->second.written = true;
          } else {
            index.Abandon(waiting->second);
            naive.entries_.erase(known);
          }
          reserved.erase(waiting);
        }
        break;
      case 4:
        index.Touch(hash);
        if (known != naive.entries_.end()) {
          known->second.used = ++naive.uses_;
          ++known->second.frequency;
          known->second.kept = std::max(known->second.kept, naive.now_) +
                               static_cast<std::uint64_t>(rt::Duration(options.hit_reward).count());
        }
        break;
      case 5:
        if (place && reads.size() < 6) {
          index.BeginRead(place->slot);
          ++known->second.readers;
          reads.emplace_back(value, place->slot);
        }
        break;
      case 6:
        if (!reads.empty()) {
          const std::size_t which = random.Below(reads.size());
          const auto [read, slot] = reads[which];
          reads.erase(reads.begin() + static_cast<long>(which));
          index.EndRead(slot);
          const auto doomed = std::ranges::find(naive.doomed_, slot, [&](const auto& entry) {
            return static_cast<std::uint32_t>(entry.first);
          });
          if (doomed == naive.doomed_.end()) {
            --naive.entries_.at(read).readers;
          } else if (std::ranges::count(reads, slot,
                                        &std::pair<std::uint64_t, std::uint32_t>::second) == 0) {
            naive.doomed_.erase(doomed);
          }
        }
        break;
      case 7:
        if (place && random.Chance(0.2)) {
          ASSERT_TRUE(index.Remove(hash, *place));
          if (known->second.readers > 0) {
            naive.doomed_.emplace_back(place->slot, known->second.tenant);
          }
          naive.entries_.erase(known);
        }
        break;
      default:
        break;
    }
    if (step % 64 == 0) {
      index.CheckInvariants();
    }
    ASSERT_EQ(index.stored_count() + index.free_count() + index.busy_count(), index.slot_count());
  }
  EXPECT_GT(evictions, 1000U);
}

INSTANTIATE_TEST_SUITE_P(Policies, EvictionModelTest,
                         ::testing::Values(EvictionPolicy::kLru, EvictionPolicy::kFrequency,
                                           EvictionPolicy::kLeafFirst,
                                           EvictionPolicy::kLeafReward));

TEST(TierIndexTest, ABlockIsFoundOnceItIsWrittenAndNotBefore) {
  TierIndex index({.slot_count = 2});
  const auto reserved = index.Reserve(Block(1));
  ASSERT_TRUE(reserved);
  EXPECT_TRUE(index.contains(HashOf(1)));
  EXPECT_FALSE(index.Find(HashOf(1)));
  index.Commit(reserved->place.slot);
  EXPECT_EQ(index.Find(HashOf(1)), reserved->place);
}

TEST(TierIndexTest, ASlotThatIsReadOrWrittenIsNeverGivenAway) {
  TierIndex index({.slot_count = 2});
  const TierPlace read = Store(index, Block(1));
  index.BeginRead(read.slot);
  ASSERT_TRUE(index.Reserve(Block(2)));
  EXPECT_FALSE(index.Reserve(Block(3)));
  index.EndRead(read.slot);
  EXPECT_TRUE(index.Reserve(Block(3)));
}

TEST(TierIndexTest, ARemovedBlockKeepsItsSlotUntilItsLastReaderEnds) {
  TierIndex index({.slot_count = 1});
  const TierPlace place = Store(index, Block(1));
  index.BeginRead(place.slot);
  index.BeginRead(place.slot);
  EXPECT_TRUE(index.Remove(HashOf(1), place));
  EXPECT_FALSE(index.Find(HashOf(1)));
  index.EndRead(place.slot);
  EXPECT_FALSE(index.Reserve(Block(2)));
  index.EndRead(place.slot);
  EXPECT_TRUE(index.Reserve(Block(2)));
}

TEST(TierIndexTest, ANewBlockInASlotHasAnotherGeneration) {
  TierIndex index({.slot_count = 1});
  const TierPlace first = Store(index, Block(1));
  const TierPlace second = Store(index, Block(2));
  EXPECT_EQ(first.slot, second.slot);
  EXPECT_NE(first.generation, second.generation);
  EXPECT_FALSE(index.Remove(HashOf(2), first));
  EXPECT_TRUE(index.Find(HashOf(2)));
}

TEST(TierIndexTest, ATenantAtItsBudgetTakesFromItself) {
  TierIndex index({.slot_count = 4, .tenant_slots_max = 2});
  auto store = [&](std::uint64_t value, std::string_view tenant) {
    TierBlock block = Block(value);
    block.tenant = tenant;
    Store(index, block);
  };
  store(1, "a");
  store(2, "b");
  store(3, "b");
  store(4, "b");
  EXPECT_FALSE(index.Find(HashOf(2)));
  EXPECT_TRUE(index.Find(HashOf(1)));
  EXPECT_EQ(index.free_count(), 1U);
}

TEST(TierIndexTest, PrioritiesStayLongerAndFadeWithTime) {
  TierIndex index({.slot_count = 2, .policy = EvictionPolicy::kLru});
  Store(index, Block(1));
  Store(index, Block(2));
  index.Raise(HashOf(1), 1);
  Store(index, Block(3));
  EXPECT_TRUE(index.Find(HashOf(1)));
  EXPECT_FALSE(index.Find(HashOf(2)));
  index.LowerPriorities();
  Store(index, Block(4));
  EXPECT_FALSE(index.Find(HashOf(1)));
}

TEST(TierIndexTest, LeavesGoBeforeWhatStandsBeforeThem) {
  TierIndex index({.slot_count = 3});
  Store(index, Block(1));
  Store(index, Block(2, 1));
  Store(index, Block(3, 2));
  index.Touch(HashOf(3));
  Store(index, Block(9));
  EXPECT_FALSE(index.Find(HashOf(3)));
  EXPECT_TRUE(index.Find(HashOf(1)));
  // And a block never takes the place of its own parent.
  TierIndex one({.slot_count = 1});
  Store(one, Block(1));
  EXPECT_FALSE(one.Reserve(Block(2, 1)));
}

TEST(TierIndexTest, WhatStoodThereBeforeIsTakenIntoAccountOnce) {
  TierIndex index({.slot_count = 4});
  EXPECT_TRUE(index.Adopt({.slot = 2, .generation = 40}, Block(1), 3));
  EXPECT_FALSE(index.Adopt({.slot = 2, .generation = 41}, Block(2), 1));
  EXPECT_FALSE(index.Adopt({.slot = 3, .generation = 1}, Block(1), 1));
  EXPECT_FALSE(index.Adopt({.slot = 9, .generation = 1}, Block(5), 1));
  EXPECT_EQ(index.Find(HashOf(1)), (TierPlace{.slot = 2, .generation = 40}));
  index.CheckInvariants();
}

TEST(TierIndexDeathTest, StepsOutOfOrderAreBugs) {
  TierIndex index({.slot_count = 2});
  const auto reserved = index.Reserve(Block(1));
  const std::uint32_t slot = reserved->place.slot;
  EXPECT_DEATH(index.BeginRead(slot), "");  // not written yet
  EXPECT_DEATH(static_cast<void>(index.Reserve(Block(1))), "");
  index.Commit(slot);
  EXPECT_DEATH(index.Commit(slot), "");
  EXPECT_DEATH(index.Abandon(slot), "");
  EXPECT_DEATH(index.EndRead(slot), "");
}

}  // namespace
}  // namespace pixii::kv
