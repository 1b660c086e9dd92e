#include "wire/lmcache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "support/golden.h"

namespace pixii::wire {
namespace {

/// A file of tests/wire/lmcache, made from the protocol's source, not by this program.
std::string Vector(const std::string& name) {
  const std::string text =
      testing::ReadFileOrFail(testing::SourceDir() + "/tests/wire/lmcache/" + name + ".hex");
  std::string bytes;
  std::string digits;
  for (const char c : text) {
    if (c != '\n') {
      digits += c;
    }
  }
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

std::string Text(const LmcacheRequestBytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Result<LmcacheReply> Decode(const std::string& bytes, std::uint64_t length_max) {
  EXPECT_EQ(bytes.size(), kLmcacheReplyBytes);
  return DecodeLmcacheReply(std::as_bytes(std::span(bytes)).first<kLmcacheReplyBytes>(),
                            length_max);
}

/// A reply with a number put at a place.
std::string With(std::size_t index, std::int32_t value) {
  std::string bytes = Vector("reply_found");
  std::memcpy(bytes.data() + index * 4, &value, 4);
  return bytes;
}

TEST(Lmcache, RequestsAreTheBytesOfThePublicProtocol) {
  const std::string key =
      LmcacheKey("pixii-kv-v1-0123456789abcdef", "00112233445566778899aabbccddeeff");
  EXPECT_LE(key.size(), kLmcacheKeyBytesMax);
  EXPECT_EQ(Text(EncodeLmcacheRequest(LmcacheCommand::kPut, key, 1000)), Vector("put"));
  EXPECT_EQ(Text(EncodeLmcacheRequest(LmcacheCommand::kGet, key, 0)), Vector("get"));
  EXPECT_EQ(Text(EncodeLmcacheRequest(LmcacheCommand::kExist, key, 0)), Vector("exist"));
  EXPECT_EQ(Text(EncodeLmcacheRequest(LmcacheCommand::kHealth, key, 0)), Vector("health"));
}

TEST(Lmcache, RepliesOfThePublicProtocolAreRead) {
  const LmcacheReply found = *Decode(Vector("reply_found"), 1000);
  EXPECT_TRUE(found.found);
  EXPECT_EQ(found.length_bytes, 1000u);
  EXPECT_TRUE(Decode(Vector("reply_exists"), 0)->found);
  EXPECT_FALSE(Decode(Vector("reply_missing"), 0)->found);
}

TEST(Lmcache, WhatARepliesShapeSaysMattersToNobody) {
  for (std::size_t index = 2; index < 9; ++index) {
    EXPECT_EQ(Decode(With(index, -1), 1000)->length_bytes, 1000u);
  }
}

TEST(Lmcache, AReplyThatLiesIsRefusedBeforeMemoryIsTaken) {
  EXPECT_EQ(Decode(Vector("reply_found"), 999).error().code(), Code::kTooLarge);
  EXPECT_EQ(Decode(With(1, 0x7fffffff), 1 << 20).error().code(), Code::kTooLarge);
  for (const std::int32_t length : {-1, -0x7fffffff - 1}) {
    const Error error = Decode(With(1, length), kLmcacheValueBytesMax).error();
    EXPECT_EQ(error.code(), Code::kDataCorrupt);
    EXPECT_NE(error.detail().find(std::to_string(length)), std::string::npos) << error.detail();
  }
  for (const std::int32_t code : {0, 1, 201, 404, -200}) {
    EXPECT_EQ(Decode(With(0, code), 1000).error().code(), Code::kDataCorrupt);
  }
}

}  // namespace
}  // namespace pixii::wire
