#include "wire/engine_kv_translator.h"

#include <gtest/gtest.h>

#include <vector>

#include "wire/public_hash.h"

namespace pixii::wire {
namespace {

EngineKvEvent Stored(std::vector<std::uint64_t> hashes, std::vector<TokenId> tokens,
                     std::optional<std::uint64_t> parent = {}) {
  EngineKvEvent event;
  event.block_tokens = static_cast<std::uint32_t>(tokens.size() / hashes.size());
  event.hashes = std::move(hashes);
  event.tokens = std::move(tokens);
  event.parent = parent;
  return event;
}

std::vector<KvEvent> Told(EngineKvTranslator& translator, const EngineKvEvent& event) {
  std::vector<KvEvent> out;
  translator.Translate(event, 7, out);
  return out;
}

TEST(EngineKvTranslator, TokensGetPublicHashesAndBlocksKeepTheirs) {
  EngineKvTranslator translator({.block_tokens = 4});
  const auto told =
      Told(translator, Stored({500, 501, 502}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].rank, 7U);
  ASSERT_EQ(told[0].blocks.size(), 3U);  // the table of spec/dynamo-core.md B.3
  EXPECT_EQ(told[0].blocks[0].tokens_hash, 14643705804678351452U);
  EXPECT_EQ(told[0].blocks[1].tokens_hash, 16777012769546811212U);
  EXPECT_EQ(told[0].blocks[2].tokens_hash, 483935686894639516U);
  EXPECT_EQ(told[0].blocks[2].block_hash, 502U);
}

TEST(EngineKvTranslator, SaltReachesTheBlocksBehindTheFirst) {
  EngineKvTranslator translator({.block_tokens = 2});
  EngineKvEvent first = Stored({1}, {10, 11});
  first.salt = "tenant";
  Told(translator, first);
  const auto second = Told(translator, Stored({2}, {12, 13}, 1));
  const TokenId tokens[] = {12, 13};
  EXPECT_EQ(second[0].blocks[0].tokens_hash, PublicBlockHash(tokens, PublicHashSeed("tenant", "")));
  EXPECT_NE(second[0].blocks[0].tokens_hash, PublicBlockHash(tokens, kPublicHashSeed));
  // Removed and stored anew without: it is for everybody.
  EngineKvEvent removed;
  removed.kind = EngineKvEvent::Kind::kRemoved;
  removed.hashes = {1, 2};
  Told(translator, removed);
  const auto plain = Told(translator, Stored({2}, {12, 13}, 1));
  EXPECT_EQ(plain[0].blocks[0].tokens_hash, PublicBlockHash(tokens, kPublicHashSeed));
}

TEST(EngineKvTranslator, AdaptersAndMediaAreInTheHash) {
  EngineKvTranslator translator({.block_tokens = 4});
  EngineKvEvent media = Stored({1}, {0, 1, 2, 3});
  media.media = {{9, 7}};
  EXPECT_EQ(Told(translator, media)[0].blocks[0].tokens_hash, 2804314152109901951U);
  EngineKvEvent tuned = Stored({1}, {0, 1, 2, 3});
  tuned.adapter = "a";
  const TokenId tokens[] = {0, 1, 2, 3};
  EXPECT_EQ(Told(translator, tuned)[0].blocks[0].tokens_hash,
            PublicBlockHash(tokens, PublicHashSeed("", "a")));
}

// Acceptance B14.
TEST(EngineKvTranslator, OnlyLayersThatKeepEverythingCount) {
  EngineKvTranslator translator({.block_tokens = 1});
  const auto of_group = [](std::uint64_t hash, std::int64_t group, std::string attention) {
    EngineKvEvent event = Stored({hash}, {1});
    event.group = group;
    event.attention = std::move(attention);
    return event;
  };
  EXPECT_EQ(Told(translator, of_group(1, 0, "sliding_window")).size(), 0U);
  EXPECT_EQ(Told(translator, of_group(2, 1, "full_attention")).size(), 1U);
  EXPECT_EQ(Told(translator, of_group(3, 5, "")).size(), 0U);  // not said, and not the first
  EXPECT_EQ(translator.counters().odd_group, 2U);
  // Removals name the group alone.
  EngineKvEvent removed;
  removed.kind = EngineKvEvent::Kind::kRemoved;
  removed.hashes = {2};
  removed.group = 0;
  EXPECT_EQ(Told(translator, removed).size(), 0U);
  removed.group = 1;
  EXPECT_EQ(Told(translator, removed).size(), 1U);
}

TEST(EngineKvTranslator, WhatCannotBeHashedIsLeftOutAndCounted) {
  EngineKvTranslator translator({.block_tokens = 4});
  EXPECT_TRUE(Told(translator, Stored({1}, {1, 2})).empty());
  EngineKvEvent cut = Stored({1, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  cut.tokens.pop_back();
  EXPECT_TRUE(Told(translator, cut).empty());
  EXPECT_EQ(translator.counters().odd_size, 1U);
  EXPECT_EQ(translator.counters().incomplete, 1U);
  EXPECT_EQ(translator.counters().blocks, 0U);
}

}  // namespace
}  // namespace pixii::wire
