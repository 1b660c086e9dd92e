#include "router/opaque_hashes.h"

#include <gtest/gtest.h>

#include <string_view>
#include <unordered_map>

#include "rt/random.h"

namespace pixii::router {
namespace {

std::uint32_t IdOf(std::uint64_t hash) { return static_cast<std::uint32_t>(hash * 7 + hash / 11); }

OpaqueHashes::Block BlockOf(std::uint64_t hash) {
  return {IdOf(hash), static_cast<std::uint8_t>(hash % 251)};
}

// Hashes whose homes all lie at the end of the table: the last values of the mix, turned back.
std::uint64_t LastHash(std::uint64_t i) {
  const std::uint64_t mixed = (~std::uint64_t{0} - i) * 0xf1de83e19937733dU;
  return mixed ^ mixed >> 32;
}

TEST(OpaqueHashes, FindsWhatAMapFinds) {
  for (const std::string_view kind : {"random", "counting", "last"}) {
    SCOPED_TRACE(kind);
    rt::Random random(3);
    OpaqueHashes table;
    std::unordered_map<std::uint64_t, std::uint32_t> model;
    const auto any = [&] {
      const std::uint64_t i = random.Below(3000);
      return kind == "counting" ? i : kind == "last" ? LastHash(i) : i * 0x9e3779b97f4a7c15U ^ 99;
    };
    for (int i = 0; i < 100'000; ++i) {
      const std::uint64_t hash = any();
      if (random.Chance(i / 10'000 % 2 == 0 ? 0.8 : 0.3)) {
        const auto pushed_out = table.Insert(hash, BlockOf(hash), true);
        model[hash] = IdOf(hash);
        if (pushed_out) {
          // Only where no growth would help.
          EXPECT_EQ(kind, "last");
          EXPECT_EQ(pushed_out->block.id, IdOf(pushed_out->hash));
          EXPECT_NE(pushed_out->hash, hash);
          ASSERT_EQ(model.erase(pushed_out->hash), 1U);
        }
      } else {
        table.Erase(hash);
        model.erase(hash);
      }
      const std::uint64_t other = any();
      const auto found = table.Find(other);
      ASSERT_EQ(found.has_value(), model.contains(other));
      if (found) {
        ASSERT_EQ(found->id, IdOf(other));
        ASSERT_EQ(found->check, BlockOf(other).check);
      }
      ASSERT_EQ(table.size(), model.size());
    }
    std::size_t seen = 0;
    table.ForEach([&](std::uint64_t hash, OpaqueHashes::Block block) {
      ++seen;
      ASSERT_TRUE(model.contains(hash));
      ASSERT_EQ(block.id, IdOf(hash));
    });
    EXPECT_EQ(seen, model.size());
    EXPECT_LT(table.bytes(), 100'000U);  // also with homes that growth does not spread
  }
}

TEST(OpaqueHashes, AnEntryMakesRoomWhereNoneMayCome) {
  rt::Random random(4);
  OpaqueHashes table;
  std::unordered_map<std::uint64_t, std::uint32_t> model;
  for (int i = 0; i < 5'000; ++i) {
    const std::uint64_t hash = random.Next();
    const std::size_t bytes = table.bytes();
    const auto pushed_out = table.Insert(hash, BlockOf(hash), i < 1'000);
    model[hash] = IdOf(hash);
    if (i >= 1'000) {
      ASSERT_EQ(table.bytes(), bytes);
    }
    if (pushed_out) {
      ASSERT_EQ(model.erase(pushed_out->hash), 1U);
    }
    ASSERT_EQ(table.size(), model.size());
  }
  EXPECT_GE(table.size(), 1'000U);
  for (const auto& [hash, id] : model) {
    const auto found = table.Find(hash);
    ASSERT_TRUE(found.has_value());
    ASSERT_EQ(found->id, id);
  }
}

TEST(OpaqueHashes, AnEntryCostsLessThanFifteenBytes) {
  rt::Random random(5);
  OpaqueHashes table;
  std::size_t growths = 0;
  double bytes_each = 0;
  for (int i = 0; i < 200'000; ++i) {
    const std::size_t before = table.bytes();
    const std::size_t promised = table.growth_bytes();
    const std::uint64_t hash = random.Next();
    table.Insert(hash, BlockOf(hash), true);
    if (before > 0 && table.bytes() != before) {
      ASSERT_EQ(table.bytes(), before + promised);
      ++growths;
    }
    if (i >= 10'000) {
      ASSERT_LE(table.bytes(), table.size() * 31 / 2);
      bytes_each += static_cast<double>(table.bytes()) / static_cast<double>(table.size());
    }
  }
  EXPECT_LT(bytes_each / 190'000, 14.75);
  EXPECT_LT(growths, 200U);
}

}  // namespace
}  // namespace pixii::router
