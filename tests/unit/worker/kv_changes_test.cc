#include "worker/kv_changes.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

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

TEST(KvChanges, EachTierHasEventsOfItsOwn) {
  CacheEvent host = Stored(2, 1);
  host.tier = wire::KvTier::kHost;
  CacheEvent gone = Removed(2);
  gone.tier = wire::KvTier::kHost;
  const CacheEvent changes[] = {Stored(1, 0), host, Removed(1), gone};
  std::uint64_t next_id = 0;
  const std::vector<KvEvent> events = JoinChanges(changes, next_id);
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(events[0].tier, wire::KvTier::kDevice);
  EXPECT_EQ(events[1].tier, wire::KvTier::kHost);
  EXPECT_EQ(events[2].tier, wire::KvTier::kDevice);
  EXPECT_EQ(events[3].tier, wire::KvTier::kHost);
  EXPECT_EQ(events[3].removed, (std::vector<std::uint64_t>{2}));
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

std::shared_ptr<const kv::BlockRoot> Root(const std::string& adapter, const std::string& salt) {
  kv::BlockRoot root;
  root.public_adapter = adapter;
  root.public_salt = salt;
  return std::make_shared<const kv::BlockRoot>(std::move(root));
}

TEST(KvChanges, EnginesTermsHaveTokensAndWhoseTheyAre) {
  const auto plain = Root("", "");
  const auto tuned = Root("tuned", "tenant");
  kv::CacheChanges changes;
  changes.events = {Stored(1, 0),
                    Stored(2, 1),
                    Removed(9),
                    Stored(3, 2),
                    Stored(4, 0),
                    Stored(5, 4),
                    {.kind = CacheEvent::Kind::kCleared}};
  changes.roots = {plain, plain, plain, tuned, tuned};
  changes.tokens = {11, 12, 21, 22, 31, 32, 41, 42, 51, 52};
  const std::vector<wire::EngineKvEvent> events = JoinEngineChanges(changes, 2);
  ASSERT_EQ(events.size(), 5U);
  EXPECT_EQ(events[0].hashes, (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(events[0].tokens, (std::vector<TokenId>{11, 12, 21, 22}));
  EXPECT_EQ(events[0].block_tokens, 2U);
  EXPECT_FALSE(events[0].parent);
  EXPECT_EQ(events[1].kind, wire::EngineKvEvent::Kind::kRemoved);
  EXPECT_EQ(events[1].hashes, (std::vector<std::uint64_t>{9}));
  EXPECT_EQ(events[2].parent, 2U);
  EXPECT_EQ(events[2].tokens, (std::vector<TokenId>{31, 32}));
  EXPECT_EQ(events[3].adapter, "tuned");
  EXPECT_EQ(events[3].salt, "tenant");
  EXPECT_EQ(events[3].hashes, (std::vector<std::uint64_t>{4, 5}));
  EXPECT_EQ(events[4].kind, wire::EngineKvEvent::Kind::kCleared);
}

// Of two requests: what the second stores may be of another salt.
TEST(KvChanges, BlocksOfTwoRequestsAreTwoEvents) {
  kv::CacheChanges changes;
  changes.events = {Stored(1, 0), Stored(2, 1)};
  changes.roots = {Root("", "a"), Root("", "a")};
  changes.tokens = {1, 2};
  EXPECT_EQ(JoinEngineChanges(changes, 1).size(), 2U);
}

}  // namespace
}  // namespace pixii::worker
