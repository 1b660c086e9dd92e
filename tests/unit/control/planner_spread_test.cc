// Bursts, as a planner remembers them.
#include "control/planner_spread.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "rt/random.h"

namespace pixii::control {
namespace {

// A count of independent arrivals.
double Arrivals(double mean, rt::Random& random) {
  double count = 0;
  for (double at = random.Exponential(1); at < mean; at += random.Exponential(1)) {
    ++count;
  }
  return count;
}

double Deviation(const std::vector<double>& ratios) {
  double square = 0;
  for (const double one : ratios) {
    square += (one - 1) * (one - 1) / static_cast<double>(ratios.size());
  }
  return std::sqrt(square);
}

TEST(LoadSpread, IndependentArrivalsHaveNoBurstsOfTheirOwn) {
  rt::Random random(1);
  LoadSpread spread(5);
  for (int i = 0; i < 240; ++i) {
    spread.Observe(Arrivals(100, random));
  }
  EXPECT_LT(Deviation(spread.Ratios(1)), 0.06);
  EXPECT_LT(spread.Roughness(), 0.003);
}

TEST(LoadSpread, BurstsAreKeptAsTheyWere) {
  rt::Random random(2);
  LoadSpread spread(5);
  for (int i = 0; i < 240; ++i) {
    spread.Observe(Arrivals(i % 6 == 0 ? 350 : 50, random));
  }
  const std::vector<double> ratios = spread.Ratios(1);
  EXPECT_GT(std::ranges::max(ratios), 2.5);
  EXPECT_NEAR(
      std::accumulate(ratios.begin(), ratios.end(), 0.0) / static_cast<double>(ratios.size()), 1,
      0.25);
  EXPECT_GT(spread.Roughness(), 0.2);
  // Over as long as a request lasts, there is less of a burst.
  EXPECT_LT(std::ranges::max(spread.Ratios(3)), 2.5);
}

TEST(LoadSpread, AStepIsNoBurst) {
  LoadSpread spread(5);
  for (int i = 0; i < 100; ++i) {
    spread.Observe(i < 50 ? 100 : 600);
  }
  EXPECT_LT(Deviation(spread.Ratios(1)), 0.05);
}

TEST(LoadSpread, NothingAndAlmostNothingAreValues) {
  LoadSpread spread(5);
  EXPECT_EQ(spread.Ratios(1), std::vector<double>{1});
  for (int i = 0; i < 100; ++i) {
    spread.Observe(i == 50 ? 1 : 0);
  }
  for (const double ratio : spread.Ratios(1)) {
    EXPECT_TRUE(std::isfinite(ratio));
  }
}

}  // namespace
}  // namespace pixii::control
