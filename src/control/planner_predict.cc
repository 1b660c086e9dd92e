#include "control/planner_predict.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace pixii::control {

namespace {

constexpr std::size_t kHistory = 400;       // points kept
constexpr std::size_t kFitPoints = 60;      // that an ARIMA is fitted to
constexpr std::size_t kFitPointsMin = 10;   // fewer: the last value
constexpr double kErrorMemory = 0.9;        // of the mean square of errors, an interval later
constexpr double kJump = 3;                 // deviations that an error counts as at most
constexpr double kGrowthMax = 3;            // of a forecast, over the largest value seen
constexpr double kSeasonCorrelation = 0.6;  // below: there is no season

/// Least squares with a little damping: rows of `width` terms each. Nothing if it has no solution.
std::optional<std::vector<double>> Solve(const std::vector<std::vector<double>>& rows,
                                         const std::vector<double>& wanted, std::size_t width) {
  std::vector<std::vector<double>> a(width, std::vector<double>(width + 1));
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (std::size_t i = 0; i < width; ++i) {
      for (std::size_t j = 0; j < width; ++j) {
        a[i][j] += rows[row][i] * rows[row][j];
      }
      a[i][width] += rows[row][i] * wanted[row];
    }
  }
  for (std::size_t i = 0; i < width; ++i) {
    a[i][i] = a[i][i] * (1 + 1e-6) + 1e-9;
  }
  for (std::size_t i = 0; i < width; ++i) {
    std::size_t pivot = i;
    for (std::size_t j = i + 1; j < width; ++j) {
      pivot = std::abs(a[j][i]) > std::abs(a[pivot][i]) ? j : pivot;
    }
    std::swap(a[i], a[pivot]);
    if (std::abs(a[i][i]) < 1e-12) {
      return std::nullopt;
    }
    for (std::size_t j = 0; j < width; ++j) {
      if (j == i) {
        continue;
      }
      const double factor = a[j][i] / a[i][i];
      for (std::size_t k = i; k <= width; ++k) {
        a[j][k] -= factor * a[i][k];
      }
    }
  }
  std::vector<double> out(width);
  for (std::size_t i = 0; i < width; ++i) {
    out[i] = a[i][width] / a[i][i];
  }
  return out;
}

/// What a predictor knows of the past, without its errors.
class Series {
 public:
  virtual ~Series() = default;
  virtual void Add(double value) = 0;
  virtual double Ahead(std::size_t steps) const = 0;
};

class LastValue final : public Series {
 public:
  void Add(double value) override { last_ = value; }

  double Ahead(std::size_t) const override { return last_; }

 private:
  double last_ = 0;
};

/// ARIMA(2, d, 0), d = 0 or 1, or the last value: whichever missed the last points by least.
class Arima final : public Series {
 public:
  void Add(double value) override {
    values_.push_back(value);
    if (values_.size() > kFitPoints) {
      values_.pop_front();
    }
    Fit();
  }

  double Ahead(std::size_t steps) const override {
    if (values_.empty()) {
      return 0;
    }
    if (terms_.empty()) {
      return values_.back();
    }
    std::vector<double> series(values_.begin(), values_.end());
    for (std::size_t i = 0; i < steps; ++i) {
      series.push_back(Next(series, terms_, differenced_));
    }
    return series.back();
  }

 private:
  static constexpr std::size_t kOrder = 2;

  static std::vector<double> RowOf(std::span<const double> series, bool differenced) {
    const std::size_t n = series.size();
    return differenced
               ? std::vector<double>{series[n - 1] - series[n - 2], series[n - 2] - series[n - 3]}
               : std::vector<double>{1, series[n - 1], series[n - 2]};
  }

  static double Next(std::span<const double> series, const std::vector<double>& terms,
                     bool differenced) {
    const std::vector<double> row = RowOf(series, differenced);
    double next = differenced ? series.back() : 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      next += terms[i] * row[i];
    }
    return next;
  }

  void Fit() {
    terms_.clear();
    if (values_.size() < kFitPointsMin) {
      return;
    }
    const std::vector<double> all(values_.begin(), values_.end());
    // A fit must beat the last value by its number of terms: short series fit anything.
    double best = 0;
    for (std::size_t i = kOrder + 1; i < all.size(); ++i) {
      best += (all[i] - all[i - 1]) * (all[i] - all[i - 1]);
    }
    for (const bool differenced : {false, true}) {
      std::vector<std::vector<double>> rows;
      std::vector<double> wanted;
      for (std::size_t i = kOrder + 1; i < all.size(); ++i) {
        rows.push_back(RowOf(std::span(all).first(i), differenced));
        wanted.push_back(differenced ? all[i] - all[i - 1] : all[i]);
      }
      const std::size_t width = rows.front().size();
      const std::optional<std::vector<double>> terms = Solve(rows, wanted, width);
      if (!terms) {
        continue;
      }
      double missed = 0;
      for (std::size_t i = kOrder + 1; i < all.size(); ++i) {
        const double error = Next(std::span(all).first(i), *terms, differenced) - all[i];
        missed += error * error;
      }
      const auto count = static_cast<double>(rows.size());
      missed *= 1 + 4 * static_cast<double>(width) / count;
      if (missed < best) {
        best = missed;
        terms_ = *terms;
        differenced_ = differenced;
      }
    }
  }

  std::deque<double> values_;
  std::vector<double> terms_;  // empty: the last value
  bool differenced_ = false;
};

/// A level and its trend, each with noise, seen through noise.
class Kalman final : public Series {
 public:
  explicit Kalman(const PredictorOptions& options)
      : q_level_(options.kalman_q_level),
        q_trend_(options.kalman_q_trend),
        r_(options.kalman_r),
        points_min_(options.kalman_min_points) {}

  void Add(double value) override {
    last_ = value;
    if (points_++ == 0) {
      level_ = value;
      p_ = {r_, 0, 0, r_};
      return;
    }
    // A step on, then what the value says against it.
    level_ += trend_;
    const double p00 = p_[0] + p_[1] + p_[2] + p_[3] + q_level_;
    const double p01 = p_[1] + p_[3];
    const double p10 = p_[2] + p_[3];
    const double p11 = p_[3] + q_trend_;
    const double s = p00 + r_;
    const double k0 = s > 0 ? p00 / s : 1;
    const double k1 = s > 0 ? p10 / s : 0;
    const double error = value - level_;
    level_ += k0 * error;
    trend_ += k1 * error;
    p_ = {(1 - k0) * p00, (1 - k0) * p01, p10 - k1 * p00, p11 - k1 * p01};
  }

  double Ahead(std::size_t steps) const override {
    return points_ < points_min_ ? last_ : level_ + trend_ * static_cast<double>(steps);
  }

 private:
  double q_level_;
  double q_trend_;
  double r_;
  std::size_t points_min_;
  std::size_t points_ = 0;
  double last_ = 0;
  double level_ = 0;
  double trend_ = 0;
  std::array<double, 4> p_{};  // covariance
};

/// What was a season ago, moved to the level of now; without a season a straight line.
class Seasonal final : public Series {
 public:
  explicit Seasonal(std::size_t window) : window_(std::max<std::size_t>(window, 4)) {}

  void Add(double value) override {
    values_.push_back(value);
    if (values_.size() > kHistory) {
      values_.pop_front();
    }
    season_ = FindSeason();
  }

  double Ahead(std::size_t steps) const override {
    const std::size_t n = values_.size();
    if (n == 0) {
      return 0;
    }
    if (season_ == 0) {
      return Line(steps);
    }
    double now = 0;
    double before = 0;
    for (std::size_t i = 0; i < season_; ++i) {
      now += values_[n - 1 - i];
      before += values_[n - 1 - season_ - i];
    }
    return values_[n - season_ + (steps - 1) % season_] +
           (now - before) / static_cast<double>(season_);
  }

 private:
  double Line(std::size_t steps) const {
    const std::size_t n = std::min(values_.size(), window_);
    if (n < 3) {
      return values_.back();
    }
    const double middle = static_cast<double>(n - 1) / 2;
    double mean = 0;
    double slope = 0;
    double square = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double x = static_cast<double>(i) - middle;
      const double value = values_[values_.size() - n + i];
      mean += value / static_cast<double>(n);
      slope += x * value;
      square += x * x;
    }
    return mean + slope / square * (middle + static_cast<double>(steps));
  }

  // Two whole seasons must have been seen.
  std::size_t FindSeason() const {
    const std::size_t n = values_.size();
    std::size_t best = 0;
    double best_share = kSeasonCorrelation;
    bool falling = false;  // the correlation with the nearest points says nothing of a season
    double last = 1;
    for (std::size_t lag = 2; lag <= window_ && 2 * lag <= n; ++lag) {
      double mean = 0;
      for (const double value : values_) {
        mean += value / static_cast<double>(n);
      }
      double own = 0;
      double both = 0;
      for (std::size_t i = 0; i < n; ++i) {
        own += (values_[i] - mean) * (values_[i] - mean);
        both += i < lag ? 0 : (values_[i] - mean) * (values_[i - lag] - mean);
      }
      const double share =
          own > 0 ? both / own * static_cast<double>(n) / static_cast<double>(n - lag) : 0;
      falling = falling || share < 0.5 * last || share < 0;
      last = std::max(last, share);
      if (falling && share > best_share) {
        best_share = share;
        best = lag;
      }
    }
    return best;
  }

  std::size_t window_;
  std::deque<double> values_;
  std::size_t season_ = 0;  // points; 0: none
};

/// The longest average that the latest points do not contradict; a straight line where they lie on
/// one. What contradicts is said by how much points differ from their neighbours.
/// Source: the intersection of confidence intervals, Goldenshluger and Nemirovski, "On spatially
/// adaptive estimation of nonparametric regression", 1997.
class Adaptive final : public Series {
 public:
  void Add(double value) override {
    if (!values_.empty()) {
      // A step is one large difference: it counts as a few of the usual ones.
      const double middle = std::max((value + values_.back()) / 2, 1.0);
      const double square = (value - values_.back()) * (value - values_.back()) / (2 * middle);
      const double most = kJump * kJump * std::max(dispersion_, 1.0);
      dispersion_ += (std::min(square, most) - dispersion_) / std::min(++differences_, kMemory);
    }
    values_.push_back(value);
    if (values_.size() > kLongest) {
      values_.pop_front();
    }
  }

  double Ahead(std::size_t steps) const override {
    if (values_.empty()) {
      return 0;
    }
    for (std::size_t length = kLongest; length >= kShortestLine; length /= 2) {
      if (const std::optional<double> line = Line(length, steps)) {
        return *line;
      }
    }
    return Level();
  }

 private:
  static constexpr std::size_t kLongest = 64;  // points
  static constexpr std::size_t kShortestLine = 16;
  static constexpr double kMemory = 40;  // differences
  static constexpr double kSure = 2.5;  // deviations of an average, beyond which it is contradicted
  static constexpr double kSureSlope = 4;
  static constexpr double kRough = 1.5;  // of the points' own noise, that a line may miss them by

  double Noise(double level) const { return std::max(dispersion_, 1.0) * std::max(level, 1.0); }

  double Level() const {
    double low = 0;
    double high = std::numeric_limits<double>::infinity();
    double level = values_.back();
    double sum = 0;
    std::size_t next = 1;
    for (std::size_t i = 1; i <= values_.size(); ++i) {
      sum += values_[values_.size() - i];
      if (i != next && i != values_.size()) {
        continue;
      }
      next = i + std::max<std::size_t>(i / 2, 1);
      const double mean = sum / static_cast<double>(i);
      const double off = kSure * std::sqrt(Noise(mean) / static_cast<double>(i));
      low = std::max(low, mean - off);
      high = std::min(high, mean + off);
      if (low > high) {
        break;
      }
      level = mean;
    }
    return level;
  }

  // Nothing if there are too few points, they are not on a line, or it is level.
  std::optional<double> Line(std::size_t length, std::size_t steps) const {
    if (values_.size() < length) {
      return std::nullopt;
    }
    const auto count = static_cast<double>(length);
    const double middle = (count - 1) / 2;
    double mean = 0;
    double both = 0;
    double square = 0;
    const auto value = [&](std::size_t i) { return values_[values_.size() - length + i]; };
    for (std::size_t i = 0; i < length; ++i) {
      const double x = static_cast<double>(i) - middle;
      mean += value(i) / count;
      both += x * value(i);
      square += x * x;
    }
    const double slope = both / square;
    double missed = 0;
    for (std::size_t i = 0; i < length; ++i) {
      const double error = value(i) - mean - slope * (static_cast<double>(i) - middle);
      missed += error * error / (count - 2);
    }
    const double noise = Noise(mean);
    if (missed > kRough * noise || std::abs(slope) < kSureSlope * std::sqrt(noise / square)) {
      return std::nullopt;
    }
    return mean + slope * (middle + static_cast<double>(steps));
  }

  std::deque<double> values_;
  double differences_ = 0;
  double dispersion_ = 1;  // of neighbours: variance over mean
};

class Tracked final : public Predictor {
 public:
  Tracked(std::unique_ptr<Series> series, bool log1p) : series_(std::move(series)), log_(log1p) {}

  void Observe(double value) override {
    if (!std::isfinite(value) || value < 0) {
      return;
    }
    if (seen_ > 0) {
      // One jump is no reason to think that all is jumping: it counts as a few deviations.
      const double error = value - Value(1);
      const double square = std::min(error * error, kJump * kJump * std::max(square_, value));
      square_ = seen_ == 1 ? square : kErrorMemory * square_ + (1 - kErrorMemory) * square;
    }
    largest_ = std::max(largest_, value);
    ++seen_;
    series_->Add(log_ ? std::log1p(value) : value);
  }

  Forecast Ahead(std::size_t steps) const override {
    // Errors of several steps add up, though less than a random walk's: values come back.
    const double far = 1 + 0.25 * static_cast<double>(steps - 1);
    return {.mean = Value(steps), .deviation = std::sqrt(square_ * far)};
  }

 private:
  double Value(std::size_t steps) const {
    double value = series_->Ahead(steps);
    value = log_ ? std::expm1(std::min(value, 700.0)) : value;
    return std::isfinite(value) ? std::clamp(value, 0.0, kGrowthMax * largest_) : largest_;
  }

  std::unique_ptr<Series> series_;
  bool log_;
  std::uint64_t seen_ = 0;
  double largest_ = 0;
  double square_ = 0;  // mean, of errors of one step
};

}  // namespace

Result<std::unique_ptr<Predictor>> MakePredictor(const PredictorOptions& options) {
  std::unique_ptr<Series> series;
  if (options.kind == "constant") {
    series = std::make_unique<LastValue>();
  } else if (options.kind == "arima") {
    series = std::make_unique<Arima>();
  } else if (options.kind == "kalman") {
    series = std::make_unique<Kalman>(options);
  } else if (options.kind == "adaptive") {
    series = std::make_unique<Adaptive>();
  } else if (options.kind == "prophet") {
    series = std::make_unique<Seasonal>(options.season_window);
  } else {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("load_predictor: {} is none of constant, arima, kalman, prophet and adaptive",
                    options.kind),
        "load_predictor");
  }
  return std::unique_ptr<Predictor>(std::make_unique<Tracked>(std::move(series), options.log1p));
}

}  // namespace pixii::control
