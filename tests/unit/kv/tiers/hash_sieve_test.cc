#include "kv/tiers/hash_sieve.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace pixii::kv {
namespace {

TEST(HashSieve, WhatWasPutInIsNeverMissedAndFewOthersAreTakenForIt) {
  std::mt19937_64 random(7);
  const auto draw = [&] { return Hash128{.low = random(), .high = random()}; };
  HashSieve sieve;
  EXPECT_FALSE(sieve.contains(draw()));
  std::vector<Hash128> in;
  for (int i = 0; i < 200'000; ++i) {
    in.push_back(draw());
    sieve.Insert(in.back());
  }
  for (const Hash128& hash : in) {
    ASSERT_TRUE(sieve.contains(hash));
  }
  int wrong = 0;
  for (int i = 0; i < 200'000; ++i) {
    wrong += sieve.contains(draw()) ? 1 : 0;
  }
  EXPECT_LT(wrong, 100);  // 14 are to be expected
}

}  // namespace
}  // namespace pixii::kv
