#include "router/use_counts.h"

#include <gtest/gtest.h>

#include <map>

#include "rt/random.h"

namespace pixii::router {
namespace {

TEST(UseCounts, CountsAsAMapDoes) {
  rt::Random random(5);
  UseCounts counts;
  std::map<std::uint64_t, std::uint32_t> model;
  std::size_t most = 0;
  for (int i = 0; i < 200'000; ++i) {
    // Waves: the table grows, empties and fills again; many keys have one home.
    const bool adds = random.Chance(i / 20'000 % 2 == 0 ? 0.8 : 0.3);
    const std::uint64_t key = random.Below(3000) << random.Below(2) * 40;
    if (adds) {
      ASSERT_EQ(counts.Add(key), ++model[key]);
    } else {
      const auto found = model.find(key);
      const std::uint32_t left = found == model.end() ? 0 : --found->second;
      if (found != model.end() && left == 0) {
        model.erase(found);
      }
      ASSERT_EQ(counts.Remove(key), left);
    }
    ASSERT_EQ(counts.size(), model.size());
    most = std::max(most, model.size());
    const std::uint64_t other = random.Below(3000);
    const auto found = model.find(other);
    ASSERT_EQ(counts.count(other), found == model.end() ? 0 : found->second);
  }
  EXPECT_GT(most, 1000U);
  for (const auto& [key, count] : model) {
    ASSERT_EQ(counts.count(key), count);
  }
}

TEST(UseCounts, NothingIsUsedAtFirst) {
  UseCounts counts;
  counts.Prefetch(1);
  EXPECT_EQ(counts.count(1), 0U);
  EXPECT_EQ(counts.Remove(1), 0U);
}

}  // namespace
}  // namespace pixii::router
