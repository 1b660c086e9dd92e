#include "base/hash.h"

#include <gtest/gtest.h>

#include <set>

namespace pixii {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(HashKey, EqualKeysAgreeAndOtherKeysDoNot) {
  EXPECT_EQ(HashKey("k1").Digest(Bytes("abc")), HashKey("k1").Digest(Bytes("abc")));
  EXPECT_NE(HashKey("k1").Digest(Bytes("abc")), HashKey("k2").Digest(Bytes("abc")));
}

TEST(HashKey, ChainDependsOnParentAndOnWhereTheBytesAreCut) {
  HashKey key("secret");
  Hash128 root = key.Digest(Bytes("root"));
  std::set<Hash128> seen = {root, key.Chain(root, Bytes("ab")), key.Chain({}, Bytes("ab")),
                            key.Chain(key.Chain(root, Bytes("a")), Bytes("b"))};
  EXPECT_EQ(seen.size(), 4U);
}

TEST(HashKey, LongInputsUseTheSecretToo) {
  std::string text(100'000, 'x');
  EXPECT_NE(HashKey("k1").Digest(Bytes(text)), HashKey("k2").Digest(Bytes(text)));
}

TEST(Hash128, HexHasTheHighHalfFirst) {
  EXPECT_EQ(ToHex({.low = 1, .high = 0xAB}), "00000000000000ab0000000000000001");
}

}  // namespace
}  // namespace pixii
