#include "kv/prefix_index.h"

#include <gtest/gtest.h>

#include <vector>

namespace pixii::kv {
namespace {

constexpr Hash128 kSame{7, 7};  // what a hostile or unlucky pair of prefixes would share

class PrefixIndexTest : public ::testing::Test {
 protected:
  ChainPosition Root(std::string_view tenant) {
    return StartOf(identity_.MakeRoot({.model_fingerprint = "m",
                                       .numerics_id = "n",
                                       .kv_dtype = "f",
                                       .adapter = {},
                                       .tenant = tenant,
                                       .salt = {}}));
  }

  ChainPosition After(const ChainPosition& parent, BlockId block, const Hash128& hash) {
    return {parent.root, hash, index_.node(block), block};
  }

  BlockIdentity identity_{"key"};
  PrefixIndex index_{{.block_count_max = 8, .block_tokens = 2}};
  std::vector<TokenId> ab_ = {1, 2};
  std::vector<TokenId> cd_ = {3, 4};
};

TEST_F(PrefixIndexTest, FindsWhatWasInsertedAfterTheSameParent) {
  ChainPosition root = Root("t");
  EXPECT_FALSE(index_.Find(root, kSame, ab_));
  EXPECT_EQ(index_.Insert(BlockId{3}, root, kSame, ab_).what, PrefixIndex::Insertion::kInserted);
  EXPECT_EQ(index_.Find(root, kSame, ab_), BlockId{3});
  EXPECT_EQ(index_.Find(Root("t"), kSame, ab_), BlockId{3});  // an equal root made anew
  EXPECT_EQ(index_.collision_count(), 0U);
}

TEST_F(PrefixIndexTest, EqualHashesOfOtherTokensAreAMissAndCounted) {
  ChainPosition root = Root("t");
  index_.Insert(BlockId{0}, root, kSame, ab_);
  EXPECT_FALSE(index_.Find(root, kSame, cd_));
  EXPECT_EQ(index_.collision_count(), 1U);
  EXPECT_EQ(index_.Insert(BlockId{1}, root, kSame, cd_).what, PrefixIndex::Insertion::kCollision);
  EXPECT_FALSE(index_.contains(BlockId{1}));
}

TEST_F(PrefixIndexTest, EqualHashesOfAnotherTenantAreAMiss) {
  index_.Insert(BlockId{0}, Root("alice"), kSame, ab_);
  EXPECT_FALSE(index_.Find(Root("mallory"), kSame, ab_));
  EXPECT_EQ(index_.collision_count(), 1U);
}

TEST_F(PrefixIndexTest, EqualTokensAfterAnotherParentAreAMiss) {
  ChainPosition root = Root("t");
  Hash128 first{1, 1};
  Hash128 second{2, 2};
  index_.Insert(BlockId{0}, root, first, ab_);
  index_.Insert(BlockId{1}, root, second, cd_);
  ChainPosition after_ab = After(root, BlockId{0}, first);
  ChainPosition after_cd = After(root, BlockId{1}, second);
  index_.Insert(BlockId{2}, after_ab, kSame, ab_);
  EXPECT_EQ(index_.Find(after_ab, kSame, ab_), BlockId{2});
  EXPECT_FALSE(index_.Find(after_cd, kSame, ab_));
  EXPECT_EQ(index_.collision_count(), 1U);
}

TEST_F(PrefixIndexTest, AnEqualBlockIsADuplicate) {
  ChainPosition root = Root("t");
  index_.Insert(BlockId{0}, root, kSame, ab_);
  PrefixIndex::InsertResult again = index_.Insert(BlockId{1}, root, kSame, ab_);
  EXPECT_EQ(again.what, PrefixIndex::Insertion::kDuplicate);
  EXPECT_EQ(again.existing, BlockId{0});
}

TEST_F(PrefixIndexTest, AnEntryWhoseParentIsGoneIsNeverFoundAndGivesWay) {
  ChainPosition root = Root("t");
  Hash128 first{1, 1};
  index_.Insert(BlockId{0}, root, first, ab_);
  index_.Insert(BlockId{1}, After(root, BlockId{0}, first), kSame, cd_);
  index_.Erase(BlockId{0});
  index_.Insert(BlockId{0}, root, first,
                ab_);  // the same prefix in the same block, but computed anew
  ChainPosition parent = After(root, BlockId{0}, first);
  EXPECT_FALSE(index_.Find(parent, kSame, cd_));
  EXPECT_EQ(index_.collision_count(), 0U);
  PrefixIndex::InsertResult result = index_.Insert(BlockId{2}, parent, kSame, cd_);
  EXPECT_EQ(result.what, PrefixIndex::Insertion::kStale);
  index_.Erase(result.existing);
  EXPECT_EQ(index_.Insert(BlockId{2}, parent, kSame, cd_).what, PrefixIndex::Insertion::kInserted);
}

TEST_F(PrefixIndexTest, NothingIsFoundOrInsertedAfterAnErasedParent) {
  ChainPosition root = Root("t");
  Hash128 first{1, 1};
  index_.Insert(BlockId{0}, root, first, ab_);
  ChainPosition parent = After(root, BlockId{0}, first);
  index_.Insert(BlockId{1}, parent, kSame, cd_);
  index_.Erase(BlockId{0});
  EXPECT_FALSE(index_.Find(parent, kSame, cd_));
  EXPECT_EQ(index_.Insert(BlockId{2}, parent, Hash128{3, 3}, cd_).what,
            PrefixIndex::Insertion::kOrphan);
  EXPECT_FALSE(index_.contains(BlockId{2}));
  EXPECT_EQ(index_.collision_count(), 0U);
}

TEST_F(PrefixIndexTest, ErasingLeavesNeighboursOfAFullProbeRunFindable) {
  ChainPosition root = Root("t");
  std::vector<std::vector<TokenId>> tokens;
  for (std::uint32_t i = 0; i < 8; ++i) {
    tokens.push_back({static_cast<TokenId>(i), 0});
    // Low bits alike: all start at one slot of the table, the last one.
    index_.Insert(BlockId{i}, root, Hash128{15 + 16ULL * (i / 2), i}, tokens[i]);
  }
  for (std::uint32_t gone : {0U, 5U, 2U}) {
    index_.Erase(BlockId{gone});
    for (std::uint32_t i = 0; i < 8; ++i) {
      auto found = index_.Find(root, Hash128{15 + 16ULL * (i / 2), i}, tokens[i]);
      EXPECT_EQ(found.has_value(), index_.contains(BlockId{i})) << i;
    }
  }
  EXPECT_EQ(index_.size(), 5U);
}

}  // namespace
}  // namespace pixii::kv
