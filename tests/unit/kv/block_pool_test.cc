#include "kv/block_pool.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace pixii::kv {
namespace {

std::unique_ptr<BlockPool> MakePool(std::uint32_t count) {
  auto pool = BlockPool::Create({.block_count_max = count});
  EXPECT_TRUE(pool);
  return std::move(*pool);
}

TEST(BlockPool, RefusesASizeOutOfRangeAndNamesIt) {
  for (std::uint32_t count : {0U, (1U << 24) + 1}) {
    auto pool = BlockPool::Create({.block_count_max = count});
    ASSERT_FALSE(pool);
    EXPECT_EQ(pool.error().code(), Code::kInvalidArgument);
    EXPECT_EQ(pool.error().param(), "block_count_max");
    EXPECT_NE(pool.error().detail().find(std::to_string(count)), std::string::npos);
  }
}

TEST(BlockPool, HandsOutEachBlockOnceAndThenNothing) {
  auto pool = MakePool(3);
  std::vector<BlockPin> pins;
  std::vector<bool> seen(3);
  for (int i = 0; i < 3; ++i) {
    auto acquired = pool->Acquire();
    ASSERT_TRUE(acquired);
    EXPECT_FALSE(acquired->evicted);
    EXPECT_FALSE(seen[Raw(acquired->pin.id())]);
    seen[Raw(acquired->pin.id())] = true;
    pins.push_back(std::move(acquired->pin));
  }
  EXPECT_FALSE(pool->Acquire());
  pins.pop_back();
  EXPECT_TRUE(pool->Acquire());
}

TEST(BlockPool, ABlockThatIsNotRetainedBecomesFree) {
  auto pool = MakePool(2);
  pool->Acquire()->pin.Release();
  EXPECT_EQ(pool->free_count(), 2U);
  EXPECT_EQ(pool->cached_count(), 0U);
}

TEST(BlockPool, CachedBlocksAreEvictedInTheOrderInWhichTheirLastPinWent) {
  auto pool = MakePool(3);
  std::vector<BlockPin> pins;
  for (int i = 0; i < 3; ++i) {
    pins.push_back(std::move(pool->Acquire()->pin));
    pool->Retain(pins.back().id());
  }
  std::vector<BlockId> ids = {pins[0].id(), pins[1].id(), pins[2].id()};
  pins[1].Release();
  pins[2].Release();
  pins[0].Release();
  EXPECT_EQ(pool->cached_count(), 3U);
  BlockPin touched = pool->Pin(ids[1]);  // used again: now the youngest
  touched.Release();
  for (BlockId expected : {ids[2], ids[0], ids[1]}) {
    auto acquired = pool->Acquire();
    ASSERT_TRUE(acquired && acquired->evicted);
    EXPECT_EQ(acquired->pin.id(), expected);
    pins.push_back(std::move(acquired->pin));
  }
}

TEST(BlockPool, AFreeBlockIsTakenBeforeACachedOneIsEvicted) {
  auto pool = MakePool(2);
  BlockPin pin = std::move(pool->Acquire()->pin);
  pool->Retain(pin.id());
  BlockId cached = pin.id();
  pin.Release();
  auto acquired = pool->Acquire();
  EXPECT_FALSE(acquired->evicted);
  EXPECT_NE(acquired->pin.id(), cached);
}

TEST(BlockPool, ReuseRaisesTheGenerationAndMakesOldReferencesStale) {
  auto pool = MakePool(1);
  BlockPin pin = std::move(pool->Acquire()->pin);
  BlockRef old = pin.ref();
  EXPECT_TRUE(pool->IsCurrent(old));
  pin.Release();
  pin = std::move(pool->Acquire()->pin);
  EXPECT_EQ(pin.id(), old.id);
  EXPECT_FALSE(pool->IsCurrent(old));
}

TEST(BlockPool, PinningACachedBlockKeepsItsGeneration) {
  auto pool = MakePool(1);
  BlockPin pin = std::move(pool->Acquire()->pin);
  BlockRef ref = pin.ref();
  pool->Retain(ref.id);
  pin.Release();
  pin = pool->Pin(ref.id);
  EXPECT_TRUE(pool->IsCurrent(ref));
  EXPECT_EQ(pool->pinned_count(), 1U);
}

TEST(BlockPool, ADroppedBlockIsFreeAtOnceOrWithItsLastPin) {
  auto pool = MakePool(2);
  BlockPin a = std::move(pool->Acquire()->pin);
  BlockPin b = std::move(pool->Acquire()->pin);
  pool->Retain(a.id());
  pool->Retain(b.id());
  BlockId cached = a.id();
  a.Release();
  pool->Drop(cached);
  EXPECT_EQ(pool->free_count(), 1U);
  pool->Drop(b.id());
  EXPECT_EQ(pool->pinned_count(), 1U);
  b.Release();
  EXPECT_EQ(pool->free_count(), 2U);
}

TEST(BlockPoolDeathTest, ALostPinAsserts) {
  EXPECT_DEATH(
      {
        auto pool = MakePool(1);
        auto lost = std::make_unique<BlockPin>(std::move(pool->Acquire()->pin));
        [[maybe_unused]] BlockPin* leaked = lost.release();
        pool.reset();
      },
      "pinned_count");
}

TEST(BlockPoolDeathTest, PinningAFreeBlockAsserts) {
  EXPECT_DEATH({ MakePool(1)->Pin(BlockId{0}); }, "kFree");
}

}  // namespace
}  // namespace pixii::kv
