#include "kv/block_cache.h"

#include <gtest/gtest.h>

#include <vector>

namespace pixii::kv {
namespace {

TEST(BlockCache, RefusesABlockSizeOutOfRangeAndNamesIt) {
  auto cache = BlockCache::Create({.block_count_max = 1, .block_tokens = 513, .identity_key = "k"});
  ASSERT_FALSE(cache);
  EXPECT_EQ(cache.error().param(), "block_tokens");
}

TEST(BlockCache, TheEndOfAPrefixIsEvictedBeforeItsBeginning) {
  auto cache = *BlockCache::Create({.block_count_max = 4, .block_tokens = 1, .identity_key = "k"});
  ChainPosition root = StartOf(cache->MakeRoot({}));
  ChainPosition chain = root;
  std::vector<BlockPin> pins;
  for (TokenId token = 0; token < 4; ++token) {
    pins.push_back(cache->Publish(*cache->Allocate(), chain, std::vector<TokenId>{token}).pin);
  }
  while (!pins.empty()) {
    pins.pop_back();
  }
  BlockPin other = *cache->Allocate();
  chain = root;
  for (TokenId token = 0; token < 4; ++token) {
    EXPECT_EQ(static_cast<bool>(cache->Find(chain, std::vector<TokenId>{token})), token < 3)
        << token;
  }
}

TEST(BlockCache, AClearedCacheFindsNothingAndKeepsItsPins) {
  auto cache = *BlockCache::Create({.block_count_max = 4, .block_tokens = 1, .identity_key = "k"});
  ChainPosition root = StartOf(cache->MakeRoot({}));
  ChainPosition chain = root;
  std::vector<BlockPin> pins;
  for (TokenId token = 0; token < 3; ++token) {
    pins.push_back(cache->Publish(*cache->Allocate(), chain, std::vector<TokenId>{token}).pin);
  }
  pins.pop_back();
  cache->Clear();
  cache->CheckInvariants();
  EXPECT_EQ(cache->pool().cached_count(), 0U);
  EXPECT_EQ(cache->pool().pinned_count(), 2U);
  chain = root;
  EXPECT_FALSE(cache->Find(chain, std::vector<TokenId>{0}));
  pins.clear();
  EXPECT_EQ(cache->pool().free_count(), 4U);
  // The same content can be published anew.
  EXPECT_TRUE(cache->Publish(*cache->Allocate(), chain, std::vector<TokenId>{0}).findable);
  EXPECT_EQ(cache->counters().evictions, 0U);
}

TEST(BlockCache, WhoPublishesAnEqualBlockGoesOnWithTheFirst) {
  auto cache = *BlockCache::Create({.block_count_max = 4, .block_tokens = 1, .identity_key = "k"});
  ChainPosition a = StartOf(cache->MakeRoot({}));
  ChainPosition b = a;
  std::vector<TokenId> tokens = {5};
  BlockCache::Published first = cache->Publish(*cache->Allocate(), a, tokens);
  BlockCache::Published second = cache->Publish(*cache->Allocate(), b, tokens);
  EXPECT_TRUE(second.findable);
  EXPECT_EQ(first.pin.id(), second.pin.id());
  EXPECT_EQ(cache->pool().free_count(), 3U);
  EXPECT_EQ(cache->counters().duplicates, 1U);
}

}  // namespace
}  // namespace pixii::kv
