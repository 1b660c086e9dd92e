#include "engine/host_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace pixii::engine {
namespace {

constexpr std::size_t kBlockBytes = 96;

HostBlocks Make(std::uint32_t slots) {
  auto bytes = std::make_shared<std::vector<std::byte>>(slots * kBlockBytes);
  return {kernels::Buffer(bytes->data(), bytes->size(), [bytes](void*) {}), slots, kBlockBytes};
}

std::vector<std::byte> Block(int seed) {
  std::vector<std::byte> block(kBlockBytes);
  std::ranges::generate(block, [&] { return static_cast<std::byte>(seed++ * 7); });
  return block;
}

TEST(HostBlocks, WhatComesBackIsWhatLeft) {
  HostBlocks host = Make(3);
  for (std::uint32_t slot = 0; slot < 3; ++slot) {
    host.Put(slot, 10 + slot, Block(static_cast<int>(slot)));
  }
  for (std::uint32_t slot = 0; slot < 3; ++slot) {
    std::vector<std::byte> back(kBlockBytes);
    ASSERT_TRUE(host.Get(slot, 10 + slot, back));
    EXPECT_EQ(back, Block(static_cast<int>(slot)));
  }
}

TEST(HostBlocks, AnyFlippedBitIsSeen) {
  HostBlocks host = Make(1);
  host.Put(0, 1, Block(1));
  std::vector<std::byte> back(kBlockBytes);
  for (std::size_t bit = 0; bit < kBlockBytes * 8; ++bit) {
    std::byte mask{static_cast<unsigned char>(1U << (bit % 8))};
    host.bytes(0)[bit / 8] ^= mask;
    Result<void> got = host.Get(0, 1, back);
    ASSERT_FALSE(got) << bit;
    EXPECT_EQ(got.error().code(), Code::kDataCorrupt);
    host.bytes(0)[bit / 8] ^= mask;
  }
  EXPECT_TRUE(host.Get(0, 1, back));
}

TEST(HostBlocks, AnotherOwnersBytesAreRefusedWhateverTheyAre) {
  HostBlocks host = Make(1);
  std::vector<std::byte> back(kBlockBytes);
  EXPECT_FALSE(host.Get(0, 1, back));  // never written
  host.Put(0, 1, Block(1));
  host.Put(0, 2, Block(1));
  EXPECT_FALSE(host.Get(0, 1, back));
  EXPECT_TRUE(host.Get(0, 2, back));
}

}  // namespace
}  // namespace pixii::engine
