#include "kv/tiers/host_store.h"

#include <gtest/gtest.h>

#include "unit/kv/tiers/stored_blocks.h"

namespace pixii::kv {
namespace {

const std::vector<TokenId> kTokens{1, 2, 3, 4};

TEST(HostStoreTest, ABlockComesBackWithSumsOfItsCopy) {
  HostStore store(SmallShape(), 3);
  const StoredBlock block = MakeStored(MakeTestRoot(), kTokens, 0);
  const auto payload = RandomBytes(SmallShape().payload_bytes(), 4);
  ASSERT_TRUE(store.Write(2, block, payload));
  StoredBlock read;
  std::span<const std::byte> bytes;
  ASSERT_EQ(store.Read(2, block.hash, read, bytes), BlockFault::kNone);
  EXPECT_EQ(CompareHeader(read, WantedOf(block), SmallShape()), BlockFault::kNone);
  EXPECT_EQ(CheckPayload(read, bytes), BlockFault::kNone);
  EXPECT_TRUE(std::ranges::equal(bytes, payload));
}

TEST(HostStoreTest, ABitThatFlipsInMemoryIsSeen) {
  HostStore store(SmallShape(), 1);
  const StoredBlock block = MakeStored(MakeTestRoot(), kTokens, 0);
  ASSERT_TRUE(store.Write(0, block, RandomBytes(SmallShape().payload_bytes(), 4)));
  store.bytes(0)[500] ^= std::byte{1};
  StoredBlock read;
  std::span<const std::byte> bytes;
  ASSERT_EQ(store.Read(0, block.hash, read, bytes), BlockFault::kNone);
  EXPECT_EQ(CheckPayload(read, bytes), BlockFault::kChecksum);
}

TEST(HostStoreTest, AnEmptySlotHasNothing) {
  HostStore store(SmallShape(), 1);
  StoredBlock read;
  std::span<const std::byte> bytes;
  EXPECT_EQ(store.Read(0, {}, read, bytes), BlockFault::kMissing);
}

}  // namespace
}  // namespace pixii::kv
