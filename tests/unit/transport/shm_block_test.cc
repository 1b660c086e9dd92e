#include "transport/shm_block.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <thread>

#include "rt/random.h"

namespace pixii::transport {
namespace {

TEST(ShmBlock, NotificationsOfEverySizeComeInOrderThroughAFullRing) {
  auto block = std::make_unique<ShmBlock>();
  RingWriter writer(*block);
  RingReader reader(*block);
  rt::Random random(1);
  std::uint64_t pushed = 0;
  std::uint64_t popped = 0;
  const auto text = [](std::uint64_t number) {
    return std::string((number * 37) % (kNotificationBytesMax + 1), static_cast<char>(number));
  };
  while (popped < 3000) {
    if (random.Chance(0.5)) {
      pushed += writer.Push(text(pushed)) ? 1 : 0;
    } else {
      const Result<std::optional<std::string_view>> next = reader.Pop();
      ASSERT_TRUE(next);
      EXPECT_EQ(next->has_value(), popped < pushed);
      if (*next) {
        ASSERT_EQ(**next, text(popped)) << popped;
        ++popped;
      }
    }
  }
}

TEST(ShmBlock, AFullRingSaysSoAndTakesMoreOnceThereIsRoom) {
  auto block = std::make_unique<ShmBlock>();
  RingWriter writer(*block);
  RingReader reader(*block);
  std::uint32_t count = 0;
  while (writer.Push("12345678")) {
    ++count;
  }
  EXPECT_EQ(count, kRingLines);
  EXPECT_FALSE(writer.Fits(0));
  ASSERT_TRUE(*reader.Pop());
  EXPECT_TRUE(writer.Push("x"));
  EXPECT_FALSE(writer.Push("y"));
}

TEST(ShmBlock, WhoSleepsIsWokenOnce) {
  auto block = std::make_unique<ShmBlock>();
  RingWriter writer(*block);
  RingReader reader(*block);
  EXPECT_FALSE(writer.WantsWake());
  EXPECT_TRUE(reader.Sleep());
  ASSERT_TRUE(writer.Push("x"));
  EXPECT_TRUE(writer.WantsWake());
  EXPECT_FALSE(writer.WantsWake());
  EXPECT_FALSE(reader.Sleep()) << "something came: look first";
}

TEST(ShmBlock, AClientThatSaysNonsenseIsFoundOut) {
  auto block = std::make_unique<ShmBlock>();
  RingReader reader(*block);
  block->ring[0].tag = std::uint64_t{1} << 16U | 5000;
  EXPECT_EQ(reader.Pop().error().code(), Code::kDataCorrupt);
  // Parts whose sizes do not fit one another never grow past the bound.
  auto other = std::make_unique<ShmBlock>();
  RingReader second(*other);
  for (std::uint64_t i = 0; i < kRingLines; ++i) {
    other->ring[i].tag = (i + 1) << 16U | 4000;
  }
  EXPECT_EQ(second.Pop().error().code(), Code::kDataCorrupt);
  // A server that claims to have taken what was not written gains the client no room.
  auto third = std::make_unique<ShmBlock>();
  RingWriter writer(*third);
  third->taken = ~std::uint64_t{0};
  for (std::uint32_t i = 0; i < 3 * kRingLines; ++i) {
    writer.Push("x");
  }
  SUCCEED();
}

TEST(ShmBlock, TwoThreadsAgree) {
  auto block = std::make_unique<ShmBlock>();
  constexpr std::uint64_t kCount = 200'000;
  std::thread sender([&] {
    RingWriter writer(*block);
    for (std::uint64_t i = 0; i < kCount; ++i) {
      while (!writer.Push({reinterpret_cast<const char*>(&i), sizeof(i)})) {
        std::this_thread::yield();
      }
    }
  });
  RingReader reader(*block);
  for (std::uint64_t i = 0; i < kCount; ++i) {
    Result<std::optional<std::string_view>> next = reader.Pop();
    while (next && !*next) {
      std::this_thread::yield();
      next = reader.Pop();
    }
    ASSERT_TRUE(next);
    std::uint64_t got = 0;
    ASSERT_EQ((*next)->size(), sizeof(got));
    std::memcpy(&got, (*next)->data(), sizeof(got));
    ASSERT_EQ(got, i);
  }
  sender.join();
}

}  // namespace
}  // namespace pixii::transport
