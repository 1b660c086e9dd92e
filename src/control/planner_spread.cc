#include "control/planner_spread.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pixii::control {

namespace {

constexpr std::size_t kPointsMax = 240;  // intervals remembered
constexpr double kStep = 2.5;            // between what is before and after
constexpr std::size_t kPointsMin = 8;    // fewer say nothing

}  // namespace

void LoadSpread::Observe(double count) {
  counts_.push_back(count);
  if (counts_.size() < 2 * reach_ + 1) {
    return;
  }
  const auto mean = [&](std::size_t from, std::size_t to) {
    const auto begin = counts_.begin();
    return std::accumulate(begin + static_cast<std::ptrdiff_t>(from),
                           begin + static_cast<std::ptrdiff_t>(to), 0.0) /
           static_cast<double>(to - from);
  };
  // A step is no burst: of what lies before and after it, the interval belongs to the nearer.
  const double here = counts_[reach_];
  const double before = mean(0, reach_);
  const double after = mean(reach_ + 1, counts_.size());
  const bool step = std::max(before, after) > kStep * std::min(before, after);
  const bool early = std::abs(here - before) < std::abs(here - after);
  const std::size_t from = step && !early ? reach_ : 0;
  const std::size_t to = step && early ? reach_ + 1 : counts_.size();
  const auto width = static_cast<double>(to - from);
  const double around = mean(from, to);
  if (around > 0) {
    // An average that the interval itself is part of is nearer to it than another one.
    const double stretch = std::sqrt(width / (width - 1));
    points_.push_back(
        {.ratio = std::max(1 + stretch * (here / around - 1), 0.0), .noise = 1 / around});
  }
  counts_.pop_front();
  if (points_.size() > kPointsMax) {
    points_.pop_front();
  }
}

std::vector<double> LoadSpread::Ratios(std::size_t length) const {
  length = std::max<std::size_t>(length, 1);
  if (points_.size() < kPointsMin + length) {
    return {1};
  }
  std::vector<double> out;
  double square = 0;
  double noise = 0;
  for (std::size_t i = length; i <= points_.size(); ++i) {
    double sum = 0;
    for (std::size_t j = i - length; j < i; ++j) {
      sum += points_[j].ratio / static_cast<double>(length);
      noise += points_[j].noise / static_cast<double>(length * length);
    }
    square += (sum - 1) * (sum - 1);
    out.push_back(sum);
  }
  const double own = square > 0 ? std::sqrt(std::max(1 - noise / square, 0.0)) : 0;
  for (double& one : out) {
    one = 1 + own * (one - 1);
  }
  return out;
}

double LoadSpread::Roughness() const {
  if (points_.size() < kPointsMin) {
    return 0;
  }
  double out = 0;
  for (std::size_t i = 1; i < points_.size(); ++i) {
    // The variance of one less that of two: a quarter of the mean square of their difference.
    const double apart = points_[i].ratio - points_[i - 1].ratio;
    out += (apart * apart - points_[i].noise - points_[i - 1].noise) / 4;
  }
  return std::max(out / static_cast<double>(points_.size() - 1), 0.0);
}

double LoadSpread::Variance() const {
  double out = 0;
  for (const Point& point : points_) {
    out += (point.ratio - 1) * (point.ratio - 1) / static_cast<double>(points_.size());
  }
  return out;
}

}  // namespace pixii::control
