#include "transport/frame.h"

#include <gtest/gtest.h>

#include "transport/window.h"

namespace pixii::transport {
namespace {

const FrameHeader kSample{.payload_bytes = 1000,
                          .kind = FrameKind::kData,
                          .checked = true,
                          .transfer = 77,
                          .checksum = 0x0123456789ABCDEF};

TEST(Frame, HeadersComeBackAsTheyWere) {
  const HashKey key = FrameKey(Mac{});
  const Result<FrameHeader> back = UnpackFrameHeader(PackFrameHeader(kSample, key, 5), key, 5);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->payload_bytes, kSample.payload_bytes);
  EXPECT_EQ(back->kind, kSample.kind);
  EXPECT_EQ(back->checked, kSample.checked);
  EXPECT_EQ(back->transfer, kSample.transfer);
  EXPECT_EQ(back->checksum, kSample.checksum);
}

TEST(Frame, NoBitOfAHeaderCanChangeAndNoFrameComeTwiceOrOfAnotherSession) {
  Mac other_key{};
  other_key[0] = std::byte{1};
  const HashKey key = FrameKey(Mac{});
  const FrameHeaderBytes bytes = PackFrameHeader(kSample, key, 5);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    FrameHeaderBytes changed = bytes;
    changed[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    const Result<FrameHeader> back = UnpackFrameHeader(changed, key, 5);
    ASSERT_FALSE(back) << bit;
    EXPECT_EQ(back.error().code(), Code::kDataCorrupt);
  }
  EXPECT_FALSE(UnpackFrameHeader(bytes, key, 6));
  EXPECT_FALSE(UnpackFrameHeader(bytes, FrameKey(other_key), 5));
}

TEST(Frame, WhatAPeerWithTheKeyMayNotSayIsRefused) {
  const HashKey key = FrameKey(Mac{});
  const auto refused = [&](FrameHeader header) {
    return !UnpackFrameHeader(PackFrameHeader(header, key, 0), key, 0);
  };
  EXPECT_TRUE(refused({.payload_bytes = kChunkBytesMax + 1, .kind = FrameKind::kData}));
  EXPECT_FALSE(refused({.payload_bytes = kChunkBytesMax, .kind = FrameKind::kData}));
  EXPECT_TRUE(refused({.payload_bytes = kControlBytesMax + 1, .kind = FrameKind::kRead}));
  EXPECT_TRUE(refused({.payload_bytes = 0, .kind = FrameKind{0}}));
  EXPECT_TRUE(refused({.payload_bytes = 0, .kind = FrameKind{16}}));
}

TEST(Frame, DescriptorsComeBackAsTheyWereAndNonsenseIsRefused) {
  const std::vector<Descriptor> sent = {
      {.region = RegionKey{9}, .offset = 1, .size_bytes = 2, .generation = 3},
      {.region = RegionKey{8}, .offset = 4, .size_bytes = 5, .generation = kGenerationMax}};
  const std::string bytes = EncodeDescriptors(sent);
  EXPECT_EQ(*DecodeDescriptors(bytes), sent);
  EXPECT_FALSE(DecodeDescriptors(bytes + "x"));
  EXPECT_FALSE(DecodeDescriptors(bytes.substr(0, bytes.size() - 1)));
  EXPECT_FALSE(DecodeDescriptors(""));
  EXPECT_FALSE(DecodeDescriptors(std::string(4, '\0')));
  EXPECT_FALSE(DecodeDescriptors(EncodeDescriptors({{{.size_bytes = 0}}})));
  EXPECT_FALSE(DecodeDescriptors(
      EncodeDescriptors({{{.size_bytes = ~std::uint64_t{0}}, {.size_bytes = 2}}})));
  EXPECT_FALSE(DecodeDescriptors(
      EncodeDescriptors({{{.size_bytes = 1, .generation = kGenerationMax + 1}}})));
}

}  // namespace
}  // namespace pixii::transport
