#include "worker/kv_changes.h"

#include <gtest/gtest.h>

namespace pixii::worker {
namespace {

using kv::CacheEvent;
using wire::KvEvent;

CacheEvent Stored(std::uint64_t chain, std::uint64_t parent) {
  return {.kind = CacheEvent::Kind::kStored,
          .has_parent = parent != 0,
          .chain_hash = chain,
          .tokens_hash = chain * 10,
          .parent_hash = parent};
}

CacheEvent Removed(std::uint64_t chain) {
  return {.kind = CacheEvent::Kind::kRemoved, .chain_hash = chain};
}

TEST(KvChanges, BlocksBehindEachOtherAndRemovalsInARowAreOneEvent) {
  const CacheEvent changes[] = {Stored(1, 0), Stored(2, 1), Stored(3, 2), Stored(4, 2),
                                Removed(3),   Removed(4),   Stored(5, 2), Stored(6, 0)};
  std::uint64_t next_id = 7;
  const std::vector<KvEvent> events = JoinChanges(changes, next_id);
  ASSERT_EQ(events.size(), 5U);
  EXPECT_EQ(next_id, 12U);
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].id, 7 + i);
  }
  EXPECT_FALSE(events[0].parent);
  ASSERT_EQ(events[0].blocks.size(), 3U);
  EXPECT_EQ(events[0].blocks[2].block_hash, 3U);
  EXPECT_EQ(events[0].blocks[2].tokens_hash, 30U);
  EXPECT_EQ(events[1].parent, 2U);  // behind another block than the last one
  EXPECT_EQ(events[2].kind, KvEvent::Kind::kRemoved);
  EXPECT_EQ(events[2].removed, (std::vector<std::uint64_t>{3, 4}));
  EXPECT_EQ(events[3].parent, 2U);
  EXPECT_FALSE(events[4].parent);
}

TEST(KvChanges, AClearingStandsAlone) {
  const CacheEvent changes[] = {{.kind = CacheEvent::Kind::kCleared},
                                {.kind = CacheEvent::Kind::kCleared}};
  std::uint64_t next_id = 0;
  const std::vector<KvEvent> events = JoinChanges(changes, next_id);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].kind, KvEvent::Kind::kCleared);
  EXPECT_TRUE(JoinChanges({}, next_id).empty());
}

}  // namespace
}  // namespace pixii::worker
