#include "worker/kv_consolidator.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "rt/random.h"

namespace pixii::worker {
namespace {

using kv::CacheChanges;
using kv::CacheEvent;
using wire::KvTier;

CacheChanges Stored(std::uint64_t chain, KvTier tier) {
  CacheChanges changes;
  changes.events.push_back({.kind = CacheEvent::Kind::kStored, .chain_hash = chain, .tier = tier});
  changes.tokens = {static_cast<TokenId>(chain), static_cast<TokenId>(chain + 1)};
  changes.roots = {std::make_shared<const kv::BlockRoot>()};
  return changes;
}

CacheChanges Removed(std::uint64_t chain, KvTier tier) {
  CacheChanges changes;
  changes.events.push_back({.kind = CacheEvent::Kind::kRemoved, .chain_hash = chain, .tier = tier});
  return changes;
}

TEST(KvConsolidatorTest, ABlockIsToldOfWithItsFirstTierAndTakenBackWithItsLast) {
  KvConsolidator consolidator;
  const CacheChanges first = consolidator.Merge(Stored(7, KvTier::kDevice), 2);
  ASSERT_EQ(first.events.size(), 1U);
  EXPECT_EQ(first.tokens, (std::vector<TokenId>{7, 8}));
  EXPECT_EQ(first.roots.size(), 1U);
  EXPECT_TRUE(consolidator.Merge(Stored(7, KvTier::kHost), 2).events.empty());
  EXPECT_TRUE(consolidator.Merge(Removed(7, KvTier::kDevice), 2).events.empty());
  EXPECT_TRUE(consolidator.Merge(Stored(7, KvTier::kDisk), 2).events.empty());
  EXPECT_TRUE(consolidator.Merge(Removed(7, KvTier::kHost), 2).events.empty());
  const CacheChanges last = consolidator.Merge(Removed(7, KvTier::kDisk), 2);
  ASSERT_EQ(last.events.size(), 1U);
  EXPECT_EQ(last.events[0].kind, CacheEvent::Kind::kRemoved);
  EXPECT_EQ(last.events[0].tier, KvTier::kDevice);
  EXPECT_TRUE(consolidator.Merge(Removed(7, KvTier::kDisk), 2).events.empty());
  EXPECT_EQ(consolidator.block_count(), 0U);
}

TEST(KvConsolidatorTest, TokensStayWithTheirBlocks) {
  KvConsolidator consolidator;
  CacheChanges changes = Stored(1, KvTier::kDevice);
  for (const CacheChanges& more : {Stored(1, KvTier::kHost), Stored(2, KvTier::kHost)}) {
    changes.events.insert(changes.events.end(), more.events.begin(), more.events.end());
    changes.tokens.insert(changes.tokens.end(), more.tokens.begin(), more.tokens.end());
    changes.roots.insert(changes.roots.end(), more.roots.begin(), more.roots.end());
  }
  const CacheChanges merged = consolidator.Merge(changes, 2);
  EXPECT_EQ(merged.events.size(), 2U);
  EXPECT_EQ(merged.tokens, (std::vector<TokenId>{1, 2, 2, 3}));
}

TEST(KvConsolidatorTest, AClearingForgetsEveryTier) {
  KvConsolidator consolidator;
  static_cast<void>(consolidator.Merge(Stored(1, KvTier::kHost), 2));
  CacheChanges cleared;
  cleared.events.push_back({.kind = CacheEvent::Kind::kCleared});
  EXPECT_EQ(consolidator.Merge(cleared, 2).events.size(), 1U);
  EXPECT_EQ(consolidator.Merge(Stored(1, KvTier::kHost), 2).events.size(), 1U);
}

// Against a set of (block, tier).
TEST(KvConsolidatorTest, AListenerHoldsWhatAnyTierHolds) {
  const std::uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  rt::Random random(seed);
  KvConsolidator consolidator;
  std::set<std::pair<std::uint64_t, KvTier>> held;
  std::set<std::uint64_t> listener;
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t chain = random.Below(30);
    const auto tier = static_cast<KvTier>(random.Below(4));
    const bool is_held = held.contains({chain, tier});
    const CacheChanges merged =
        consolidator.Merge(is_held ? Removed(chain, tier) : Stored(chain, tier), 2);
    is_held ? static_cast<void>(held.erase({chain, tier}))
            : static_cast<void>(held.insert({chain, tier}));
    for (const CacheEvent& event : merged.events) {
      if (event.kind == CacheEvent::Kind::kStored) {
        ASSERT_TRUE(listener.insert(event.chain_hash).second);
      } else {
        ASSERT_EQ(listener.erase(event.chain_hash), 1U);
      }
    }
    std::set<std::uint64_t> any;
    for (const auto& [block, where] : held) {
      any.insert(block);
    }
    ASSERT_EQ(listener, any);
  }
}

}  // namespace
}  // namespace pixii::worker
