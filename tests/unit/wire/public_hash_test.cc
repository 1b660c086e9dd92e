#include "wire/public_hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace pixii::wire {
namespace {

std::vector<TokenId> Count(TokenId first, std::size_t count) {
  std::vector<TokenId> out(count);
  std::iota(out.begin(), out.end(), first);
  return out;
}

std::vector<std::uint64_t> Chain(const std::vector<std::uint64_t>& blocks) {
  std::vector<std::uint64_t> out;
  for (const std::uint64_t block : blocks) {
    out.push_back(out.empty() ? block : PublicChainHash(out.back(), block));
  }
  return out;
}

TEST(PublicHash, GivesThePublishedValues) {
  const auto blocks = PublicBlockHashes(Count(1, 12), 4, kPublicHashSeed);
  EXPECT_THAT(blocks, testing::ElementsAre(14643705804678351452U, 16777012769546811212U,
                                           483935686894639516U));
  EXPECT_THAT(Chain(blocks), testing::ElementsAre(14643705804678351452U, 4945711292740353085U,
                                                  12583592247330656132U));
  const auto wide = PublicBlockHashes(Count(0, 48), 16, kPublicHashSeed);
  EXPECT_THAT(wide, testing::ElementsAre(15310707395893867146U, 15292316782987903195U,
                                         5532946206955930018U));
  EXPECT_THAT(Chain(wide), testing::ElementsAre(15310707395893867146U, 13769157705258532664U,
                                                11879827756109914528U));
}

TEST(PublicHash, TakesTheHashesOfMediaInAnyOrder) {
  const auto tokens = Count(0, 4);
  const std::uint64_t media[] = {9, 7};
  const std::uint64_t sorted[] = {7, 9};
  EXPECT_EQ(PublicBlockHash(tokens, kPublicHashSeed, media), 2804314152109901951U);
  EXPECT_EQ(PublicBlockHash(tokens, kPublicHashSeed, sorted), 2804314152109901951U);
}

TEST(PublicHash, SeedsBySaltAndAdapter) {
  EXPECT_EQ(PublicHashSeed("", ""), 1337U);
  EXPECT_EQ(PublicHashSeed("", "a"), 10087718194390073631U);
  EXPECT_EQ(PublicHashSeed("s", "a"), 15920896875121705793U);
  EXPECT_NE(PublicHashSeed("a", ""), PublicHashSeed("", "a"));
}

TEST(PublicHash, HashesCompleteBlocksAlone) {
  EXPECT_EQ(PublicBlockHashes(Count(0, 11), 4, 1).size(), 2);
  EXPECT_TRUE(PublicBlockHashes(Count(0, 3), 4, 1).empty());
  EXPECT_TRUE(PublicBlockHashes({}, 4, 1).empty());
}

}  // namespace
}  // namespace pixii::wire
