#include "base/seal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace pixii {
namespace {

std::vector<std::byte> Bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

class SealTest : public ::testing::Test {
 protected:
  SealKey key_{"a secret", "tests"};
  SealNonce nonce_{std::byte{1}, std::byte{2}};
  std::vector<std::byte> context_ = Bytes("context");
  std::vector<std::byte> plain_ = Bytes("what nobody else may read");
};

TEST_F(SealTest, WhatWasSealedComesBack) {
  std::vector<std::byte> bytes = plain_;
  const SealTag tag = key_.Seal(nonce_, context_, bytes);
  EXPECT_NE(bytes, plain_);
  ASSERT_TRUE(key_.Open(nonce_, context_, tag, bytes));
  EXPECT_EQ(bytes, plain_);
}

TEST_F(SealTest, AnyOtherBitKeyNonceOrContextIsSeen) {
  std::vector<std::byte> sealed = plain_;
  const SealTag tag = key_.Seal(nonce_, context_, sealed);
  for (std::size_t bit = 0; bit < 8 * sealed.size(); ++bit) {
    std::vector<std::byte> bytes = sealed;
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(key_.Open(nonce_, context_, tag, bytes));
  }
  for (std::size_t bit = 0; bit < 8 * tag.size(); ++bit) {
    std::vector<std::byte> bytes = sealed;
    SealTag other = tag;
    other[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(key_.Open(nonce_, context_, other, bytes));
  }
  std::vector<std::byte> bytes = sealed;
  EXPECT_FALSE(SealKey("a secret", "others").Open(nonce_, context_, tag, bytes));
  bytes = sealed;
  EXPECT_FALSE(SealKey("another", "tests").Open(nonce_, context_, tag, bytes));
  bytes = sealed;
  EXPECT_FALSE(key_.Open(SealNonce{}, context_, tag, bytes));
  bytes = sealed;
  EXPECT_FALSE(key_.Open(nonce_, Bytes("contexts"), tag, bytes));
}

}  // namespace
}  // namespace pixii
