// Tokens that stand for pictures.
#include "wire/messages/media.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace pixii::wire {
namespace {

MediaItem MakeItem() {
  MediaItem item;
  item.height = 2;
  item.width = 1;
  item.pixels = "abcdef";
  return item;
}

TEST(Media, EverythingButThePlaceChangesTheDigest) {
  const MediaItem item = MakeItem();
  std::set<std::string> digests = {MediaDigest(item)};
  const auto differs = [&](auto change) {
    MediaItem other = MakeItem();
    change(other);
    return digests.insert(MediaDigest(other)).second;
  };
  EXPECT_EQ(digests.begin()->size(), 32U);
  EXPECT_TRUE(differs([](MediaItem& other) { other.pixels[5] = 'g'; }));
  EXPECT_TRUE(differs([](MediaItem& other) { other.kind = MediaKind::kVideo; }));
  EXPECT_TRUE(differs([](MediaItem& other) { other.frames = 2; }));
  EXPECT_TRUE(differs([](MediaItem& other) { std::swap(other.height, other.width); }));
  EXPECT_TRUE(differs([](MediaItem& other) { other.seconds_per_frame = 0.5F; }));
  EXPECT_TRUE(differs([](MediaItem& other) {
    other.pixels.clear();
    other.features = "abcd";
  }));
  EXPECT_FALSE(differs([](MediaItem& other) { other.begin = 9; }));
  EXPECT_FALSE(differs([](MediaItem& other) { other.encoded = "a record"; }));
}

TEST(Media, TokensOfAnItemDifferAndAreNoWords) {
  const std::string digest = MediaDigest(MakeItem());
  std::set<TokenId> tokens;
  for (std::uint32_t i = 0; i < 16'384; ++i) {
    const TokenId token = MediaToken(digest, i);
    EXPECT_TRUE(IsMediaToken(token));
    tokens.insert(token);
  }
  EXPECT_GT(tokens.size(), 16'300U) << "30 bits of which few may meet";
}

TEST(Media, EveryBitOfTheDigestIsInTheFirstTokens) {
  const std::string digest = MediaDigest(MakeItem());
  int seen = 0;
  for (std::size_t bit = 0; bit < 256; ++bit) {
    std::string other = digest;
    other[bit / 8] = static_cast<char>(other[bit / 8] ^ (1 << (bit % 8)));
    bool differs = false;
    for (std::uint32_t i = 0; i < kMediaTokensSafe; ++i) {
      differs = differs || MediaToken(digest, i) != MediaToken(other, i);
    }
    seen += differs ? 1 : 0;
  }
  EXPECT_EQ(seen, 240);
}

}  // namespace
}  // namespace pixii::wire
