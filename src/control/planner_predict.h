// What comes next in a series of numbers taken at equal intervals, and how far off that may be.
//
// Thread: values. Pure. docs/planner.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/result.h"

namespace pixii::control {

/// Never NaN, never below 0.
struct Forecast {
  double mean = 0;
  double deviation = 0;  // standard, of what will be from the mean
};

struct PredictorOptions {
  std::string_view kind = "arima";  // constant, arima, kalman, prophet (seasonal), adaptive
  bool log1p = false;               // predicts logarithms
  std::size_t season_window = 50;   // points: no season is longer
  double kalman_q_level = 1.0;
  double kalman_q_trend = 0.1;
  double kalman_r = 10.0;
  std::size_t kalman_min_points = 5;  // below: the last value
};

class Predictor {
 public:
  virtual ~Predictor() = default;

  /// The next value; one that is no finite number of 0 or more is left out.
  virtual void Observe(double value) = 0;

  /// Of the value `steps` intervals ahead, 1 and more.
  virtual Forecast Ahead(std::size_t steps) const = 0;
};

/// Errors: kInvalidArgument for another kind.
Result<std::unique_ptr<Predictor>> MakePredictor(const PredictorOptions& options);

}  // namespace pixii::control
