// What a planner asks its model about.
#include "control/planner_demand.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <numeric>
#include <vector>

#include "rt/random.h"
#include "unit/control/planner_engine.h"

namespace pixii::control {
namespace {

TEST(PlannerDemand, ASampleHasTheMeanOfAllThoughFewAreLong) {
  rt::Random random(1);
  std::deque<RequestSize> all;
  double mean = 0;
  for (int i = 0; i < 2000; ++i) {
    const double input = std::exp(
        6 + 1.3 * (random.Unit() + random.Unit() + random.Unit() + random.Unit() - 2) * 1.7);
    all.push_back({.input = input, .output = random.Exponential(200)});
    mean += input / 2000;
  }
  const std::vector<RequestSize> sample = SampleOf(all);
  ASSERT_LE(sample.size(), 200U);
  double input = 0;
  double output = 0;
  for (const RequestSize& one : sample) {
    input += one.input / static_cast<double>(sample.size());
    output += one.output / static_cast<double>(sample.size());
  }
  EXPECT_NEAR(input, mean, 0.05 * mean);
  EXPECT_NEAR(output, 200, 20);
  EXPECT_EQ(SampleOf({all.begin(), all.begin() + 10}).size(), 10U);
}

TEST(PlannerDemand, NoiseIsNoErrorOfAForecast) {
  std::deque<double> errors;
  for (int i = 0; i < 20; ++i) {
    errors.push_back(1.1);
    errors.push_back(0.9);
  }
  const std::vector<double> wide = PlacesOf(errors, 0, 0.05);
  EXPECT_NEAR(wide.back(), 1.1, 0.02);
  EXPECT_NEAR(wide.front(), 0.9, 0.02);
  const std::vector<double> none = PlacesOf(errors, 0.01, 0.05);
  EXPECT_NEAR(none.back(), 1, 0.02);
  // A forecast that is always too low is one, however much noise there is.
  const std::vector<double> low = PlacesOf(std::deque<double>(40, 1.1), 0.01, 0.05);
  EXPECT_NEAR(low.front(), 1.09, 0.02);
}

TEST(PlannerDemand, ACurveIsTheModelBetweenItsPoints) {
  const std::vector<RequestSize> sizes(20, {.input = 2000, .output = 100});
  const EngineModel engine = MakeEngine();
  const LatencyGoal goal{.ttft_ms = 500, .itl_ms = 60};
  Curve curve(engine, {.sizes = sizes}, goal, 4);
  EXPECT_EQ(curve.At(0).attainment, 1);
  for (double rate = 1; rate < 40; rate *= 1.3) {
    const PoolOutlook exact = Predict(engine, {.rate = rate, .sizes = sizes}, goal, 4);
    EXPECT_NEAR(curve.At(rate).attainment, exact.attainment, 0.25) << rate;
    EXPECT_NEAR(curve.At(rate).busy, exact.busy, 0.05 * exact.busy + 0.05) << rate;
  }
}

}  // namespace
}  // namespace pixii::control
