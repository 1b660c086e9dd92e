#include "transport/region_table.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "transport/window.h"

namespace pixii::transport {
namespace {

struct Table {
  std::vector<std::byte> memory = std::vector<std::byte>(1000);
  RegionTable table{rt::Random(1)};
  RegionKey key = *table.Register(memory, {.window_bytes = 100, .file = nullptr});
  std::shared_ptr<const Region> region = table.Find(key);

  bool Opened(std::uint64_t offset, std::uint64_t size, std::uint64_t generation,
              Access access) const {
    return IsOpen(region->view(),
                  {.region = key, .offset = offset, .size_bytes = size, .generation = generation},
                  access);
  }
};

TEST(RegionTable, AWindowIsOpenForItsGenerationAndAccessAlone) {
  Table t;
  EXPECT_FALSE(t.Opened(0, 1, 0, Access::kRead)) << "a new region is closed";
  ASSERT_TRUE(t.table.Open(t.key, {.first = 2, .count = 2}, 7, Access::kRead));
  EXPECT_TRUE(t.Opened(200, 200, 7, Access::kRead));
  EXPECT_FALSE(t.Opened(200, 200, 7, Access::kWrite));
  EXPECT_FALSE(t.Opened(200, 200, 8, Access::kRead));
  EXPECT_FALSE(t.Opened(199, 2, 7, Access::kRead));
  EXPECT_FALSE(t.Opened(399, 2, 7, Access::kRead));
  ASSERT_TRUE(t.table.Close(t.key, {.first = 3, .count = 1}));
  EXPECT_TRUE(t.Opened(200, 100, 7, Access::kRead));
  EXPECT_FALSE(t.Opened(200, 101, 7, Access::kRead));
  ASSERT_TRUE(t.table.Open(t.key, {.first = 2, .count = 1}, 0, Access::kReadWrite));
  EXPECT_TRUE(t.Opened(200, 100, 0, Access::kReadWrite));
}

TEST(RegionTable, WhatLiesOutsideIsNeverOpen) {
  Table t;
  ASSERT_TRUE(t.table.Open(t.key, {.first = 0, .count = 10}, 1, Access::kReadWrite));
  EXPECT_TRUE(t.Opened(0, 1000, 1, Access::kRead));
  EXPECT_FALSE(t.Opened(0, 1001, 1, Access::kRead));
  EXPECT_FALSE(t.Opened(1000, 1, 1, Access::kRead));
  EXPECT_FALSE(t.Opened(~std::uint64_t{0}, 2, 1, Access::kRead));
  EXPECT_FALSE(t.Opened(1, ~std::uint64_t{0}, 1, Access::kRead));
  EXPECT_FALSE(t.Opened(0, 1, ~std::uint64_t{0}, Access::kRead));
}

TEST(RegionTable, WindowsThatAreNotThereAreNamed) {
  Table t;
  const Result<void> open = t.table.Open(t.key, {.first = 9, .count = 2}, 1, Access::kRead);
  ASSERT_FALSE(open);
  EXPECT_EQ(open.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(open.error().param(), "windows");
  EXPECT_EQ(t.table.Open(RegionKey{1}, {}, 1, Access::kRead).error().code(), Code::kNotFound);
  EXPECT_EQ(t.table.Open(t.key, {}, kGenerationMax + 1, Access::kRead).error().param(),
            "generation");
  EXPECT_EQ(t.table.Register({}, {}).error().param(), "memory");
}

TEST(RegionTable, CloseWaitsForWhoWritesAndSaysSoIfThatDoesNotEnd) {
  Table t;
  auto lane = std::make_shared<WriteLane>();
  t.table.AddLane(lane);
  ASSERT_TRUE(t.table.Open(t.key, {.first = 0, .count = 10}, 1, Access::kWrite));
  {
    const LaneTurn turn(*lane, t.key);
    const Result<void> closed = t.table.Close(t.key, {.first = 0, .count = 1});
    ASSERT_FALSE(closed);
    EXPECT_EQ(closed.error().code(), Code::kUnavailable);
    EXPECT_FALSE(t.Opened(0, 1, 1, Access::kWrite)) << "closed all the same: nobody comes later";
    EXPECT_EQ(t.table.Deregister(t.key).error().code(), Code::kUnavailable);
  }
  EXPECT_TRUE(t.table.Close(t.key, {.first = 0, .count = 1}));
  {
    const LaneTurn turn(*lane, RegionKey{99});
    EXPECT_TRUE(t.table.Close(t.key, {.first = 0, .count = 1})) << "another region's";
  }
  const LaneTurn turn(*lane, t.key);
  t.table.RemoveLane(lane.get());
  EXPECT_TRUE(t.table.Deregister(t.key)) << "its process is gone";
}

TEST(RegionTable, NothingIsWrittenAfterCloseHasSucceeded) {
  Table t;
  auto lane = std::make_shared<WriteLane>();
  t.table.AddLane(lane);
  std::atomic<bool> end{false};
  // Writes 1 under odd generations, 2 under even ones, all the time.
  std::vector<std::byte> ones(100, std::byte{1});
  std::vector<std::byte> twos(100, std::byte{2});
  std::atomic<std::uint64_t> generation{1};
  std::thread writer([&] {
    while (!end) {
      const std::uint64_t now = generation;
      CopyTo(t.region->view(), {.region = t.key, .offset = 0, .size_bytes = 100, .generation = now},
             now % 2 == 1 ? ones.data() : twos.data(), *lane);
    }
  });
  for (std::uint64_t round = 1; round <= 20'000; ++round) {
    generation = round;
    ASSERT_TRUE(t.table.Open(t.key, {.first = 0, .count = 1}, round, Access::kWrite));
    if (round % 64 == 0) {
      std::this_thread::yield();
    }
    while (!t.table.Close(t.key, {.first = 0, .count = 1})) {
    }
    // Ours now: nobody else touches it.
    std::fill_n(t.memory.begin(), 100, std::byte{9});
    for (int look = 0; look < 3; ++look) {
      ASSERT_EQ(std::count(t.memory.begin(), t.memory.begin() + 100, std::byte{9}), 100) << round;
    }
  }
  end = true;
  writer.join();
}

TEST(RegionTable, MemoryOfATransferIsNotForgotten) {
  Table t;
  t.region->uses() = 1;
  EXPECT_EQ(t.table.Deregister(t.key).error().code(), Code::kUnavailable);
  t.region->uses() = 0;
  EXPECT_TRUE(t.table.Deregister(t.key));
  EXPECT_EQ(t.table.Deregister(t.key).error().code(), Code::kNotFound);
  EXPECT_EQ(t.table.Find(t.key), nullptr);
}

}  // namespace
}  // namespace pixii::transport
