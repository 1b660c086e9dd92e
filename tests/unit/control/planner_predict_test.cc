// Predictors against the last value, on series of which one knows who should win.
#include "control/planner_predict.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numbers>
#include <string_view>

namespace pixii::control {
namespace {

std::unique_ptr<Predictor> Make(std::string_view kind, bool log1p = false) {
  PredictorOptions options;
  options.kind = kind;
  options.log1p = log1p;
  Result<std::unique_ptr<Predictor>> made = MakePredictor(options);
  EXPECT_TRUE(made);
  return std::move(*made);
}

// Mean square of errors of forecasts of the next value, once two seasons of a sine were seen.
double Missed(std::string_view kind, const std::function<double(int)>& series) {
  const std::unique_ptr<Predictor> predictor = Make(kind);
  double sum = 0;
  for (int i = 0; i < 200; ++i) {
    if (i >= 60) {
      const double error = predictor->Ahead(1).mean - series(i);
      sum += error * error;
    }
    predictor->Observe(series(i));
  }
  return sum / 140;
}

double Sine(int i) { return 100 + 50 * std::sin(2 * std::numbers::pi * i / 24); }

double Ramp(int i) { return 10 + 3 * i; }

// A slow change under what differs from interval to interval by itself.
double NoisyLevel(int i) {
  const auto draw = static_cast<unsigned>(i) * 2654435761U >> 16U;
  return (i < 100 ? 60 : 120) + static_cast<double>(draw % 41) - 20;
}

TEST(PlannerPredict, ArimaAndSeasonsMissASineByLessThanTheLastValueDoes) {
  const double naive = Missed("constant", Sine);
  EXPECT_LT(Missed("arima", Sine), 0.1 * naive);
  EXPECT_LT(Missed("prophet", Sine), 0.3 * naive);
}

TEST(PlannerPredict, TrendsAreFollowedByAllButTheLastValue) {
  const double naive = Missed("constant", Ramp);
  EXPECT_LT(Missed("kalman", Ramp), 0.1 * naive);
  EXPECT_LT(Missed("arima", Ramp), 0.1 * naive);
  EXPECT_LT(Missed("prophet", Ramp), 0.1 * naive);
  EXPECT_LT(Missed("adaptive", Ramp), 0.1 * naive);
}

TEST(PlannerPredict, KalmanMissesANoisyStepByLessThanTheLastValueDoes) {
  EXPECT_LT(Missed("kalman", NoisyLevel), Missed("constant", NoisyLevel));
  EXPECT_LT(Missed("adaptive", NoisyLevel), Missed("constant", NoisyLevel));
}

TEST(PlannerPredict, ZeroIsAValueAndWhatIsNoNumberIsNot) {
  for (const std::string_view kind : {"constant", "arima", "kalman", "prophet", "adaptive"}) {
    for (const bool log1p : {false, true}) {
      const std::unique_ptr<Predictor> predictor = Make(kind, log1p);
      EXPECT_EQ(predictor->Ahead(1).mean, 0) << kind;
      for (int i = 0; i < 30; ++i) {
        predictor->Observe(50);
      }
      for (int i = 0; i < 60; ++i) {
        predictor->Observe(0);
        predictor->Observe(std::numeric_limits<double>::quiet_NaN());
        predictor->Observe(-std::numeric_limits<double>::infinity());
      }
      const Forecast next = predictor->Ahead(3);
      EXPECT_TRUE(std::isfinite(next.mean) && std::isfinite(next.deviation)) << kind;
      EXPECT_GE(next.mean, 0) << kind;
      EXPECT_LT(next.mean, 2) << kind;
    }
  }
}

TEST(PlannerPredict, TheDeviationIsThatOfPastErrors) {
  const std::unique_ptr<Predictor> steady = Make("constant");
  const std::unique_ptr<Predictor> shaky = Make("constant");
  for (int i = 0; i < 100; ++i) {
    steady->Observe(100);
    shaky->Observe(i % 2 == 0 ? 90 : 110);
  }
  EXPECT_NEAR(steady->Ahead(1).deviation, 0, 1e-6);
  EXPECT_NEAR(shaky->Ahead(1).deviation, 20, 1);
}

TEST(PlannerPredict, AnotherKindIsRefused) {
  PredictorOptions options;
  options.kind = "oracle";
  const Result<std::unique_ptr<Predictor>> made = MakePredictor(options);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().param(), "load_predictor");
}

}  // namespace
}  // namespace pixii::control
