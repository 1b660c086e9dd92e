#include "kv/tiers/tier_health.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace pixii::kv {
namespace {

using std::chrono::seconds;

constexpr rt::Time kStart{seconds(100)};

TEST(TierHealth, FailuresOfWhatWasOnItsWayDoNotLengthenTheRest) {
  TierHealth health;
  for (int i = 0; i < 100; ++i) {
    health.Failed(kStart, false, "broken");
  }
  EXPECT_TRUE(health.rests(kStart));
  EXPECT_FALSE(health.rests(kStart + TierHealth::kRestMin));
  EXPECT_TRUE(health.failing());
}

TEST(TierHealth, EachTrialThatFailsDoublesTheRestUpToItsLimit) {
  TierHealth health;
  health.Failed(kStart, true);
  rt::Time now = kStart;
  rt::Duration rest = TierHealth::kRestMin;
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(health.rests(now + rest - seconds(1)));
    EXPECT_FALSE(health.rests(now + rest));
    now += rest;
    health.Failed(now, false);
    rest = std::min(2 * rest, TierHealth::kRestMax);
  }
  EXPECT_EQ(rest, TierHealth::kRestMax);
}

TEST(TierHealth, OneSuccessForgetsAll) {
  TierHealth health;
  health.Failed(kStart, true);
  health.Failed(kStart + TierHealth::kRestMin, true);
  health.Succeeded();
  EXPECT_FALSE(health.failing());
  health.Failed(kStart, false);
  health.Failed(kStart, false);
  EXPECT_FALSE(health.rests(kStart)) << "too few in a row";
  health.Failed(kStart, false);
  EXPECT_FALSE(health.rests(kStart + TierHealth::kRestMin)) << "a rest as short as the first";
}

}  // namespace
}  // namespace pixii::kv
