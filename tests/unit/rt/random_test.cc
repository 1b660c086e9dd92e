#include "rt/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>
#include <vector>

namespace pixii::rt {
namespace {

TEST(Random, SameSeedSameSequenceAndOtherSeedAnother) {
  Random a(7);
  Random b(7);
  Random c(8);
  int same_as_c = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t next = a.Next();
    EXPECT_EQ(next, b.Next());
    same_as_c += next == c.Next() ? 1 : 0;
  }
  EXPECT_EQ(same_as_c, 0);
}

TEST(Random, SequenceIsTheSameOnEveryMachine) {
  Random random(1);
  EXPECT_EQ(random.Next(), 0xcfc5d07f6f03c29bU);
}

TEST(Random, BelowIsUniformAndReachesBothEnds) {
  Random random(2);
  std::array<int, 7> counts{};
  constexpr int kDraws = 70'000;
  for (int i = 0; i < kDraws; ++i) {
    ++counts.at(random.Below(counts.size()));
  }
  for (const int count : counts) {
    EXPECT_NEAR(count, kDraws / 7, 5 * std::sqrt(kDraws / 7.0));
  }
  EXPECT_EQ(random.Below(1), 0U);
}

TEST(Random, BetweenCoversTheWholeRangeOfItsType) {
  Random random(3);
  std::set<std::int64_t> seen;
  for (int i = 0; i < 200; ++i) {
    seen.insert(random.Between(-2, 2));
  }
  EXPECT_EQ(seen, (std::set<std::int64_t>{-2, -1, 0, 1, 2}));
  random.Between(INT64_MIN, INT64_MAX);
  EXPECT_EQ(random.Between(INT64_MAX, INT64_MAX), INT64_MAX);
}

TEST(Random, ExponentialHasItsMean) {
  Random random(4);
  double sum = 0;
  constexpr int kDraws = 100'000;
  for (int i = 0; i < kDraws; ++i) {
    sum += random.Exponential(3.0);
  }
  EXPECT_NEAR(sum / kDraws, 3.0, 0.1);
}

TEST(Random, ForksAreIndependent) {
  Random random(5);
  Random fork = random.Fork();
  EXPECT_NE(fork.Next(), random.Next());
}

TEST(Random, SystemBytesDiffer) {
  std::array<std::byte, 64> a{};
  std::array<std::byte, 64> b{};
  FillFromSystem(a);
  FillFromSystem(b);
  EXPECT_NE(a, b);
  EXPECT_NE(Random::FromSystem().Next(), Random::FromSystem().Next());
}

}  // namespace
}  // namespace pixii::rt
