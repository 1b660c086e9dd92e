#include "control/planner_demand.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>

namespace pixii::control {

namespace {

constexpr std::size_t kSampleSide = 14;  // its square: of them, that the model looks at
constexpr std::array<double, 5> kErrorsPrior = {-1.28, -0.52, 0, 0.52,
                                                1.28};  // before any is known
constexpr std::size_t kPlaces = 13;
constexpr double kGrid = 1.04;      // between rates that the model is asked about
constexpr double kGridFrom = 1e-4;  // requests per second

}  // namespace

std::vector<RequestSize> SampleOf(const std::deque<RequestSize>& all) {
  std::vector<RequestSize> sorted(all.begin(), all.end());
  if (sorted.size() <= kSampleSide * kSampleSide) {
    return sorted;
  }
  std::ranges::sort(sorted, {},
                    [](const RequestSize& one) { return std::pair(one.input, one.output); });
  std::vector<RequestSize> out;
  for (std::size_t part = 0; part < kSampleSide; ++part) {
    const auto place = [&](std::size_t at) {
      return static_cast<std::ptrdiff_t>(at * sorted.size() / kSampleSide);
    };
    const std::span<RequestSize> row(sorted.begin() + place(part),
                                     sorted.begin() + place(part + 1));
    std::ranges::sort(row, {}, &RequestSize::output);
    for (std::size_t i = 0; i < kSampleSide; ++i) {
      out.push_back(row[(2 * i + 1) * row.size() / (2 * kSampleSide)]);
    }
  }
  return out;
}

std::vector<double> PlacesOf(const std::deque<double>& errors, double noise, double prior) {
  std::vector<double> sorted(errors.begin(), errors.end());
  for (const double one : kErrorsPrior) {
    sorted.push_back(1 + prior * one);
  }
  std::ranges::sort(sorted);
  const auto count = static_cast<double>(sorted.size());
  const double mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) / count;
  double square = 0;
  for (const double one : sorted) {
    square += (one - mean) * (one - mean) / count;
  }
  const double own = square > 0 ? std::sqrt(std::max(1 - noise / square, 0.0)) : 0;
  std::vector<double> out;
  for (std::size_t i = 0; i < kPlaces; ++i) {
    out.push_back(mean + own * (sorted[(2 * i + 1) * sorted.size() / (2 * kPlaces)] - mean));
  }
  return out;
}

Curve::Curve(const EngineModel& engine, PoolLoad load, LatencyGoal goal, double workers)
    : engine_(engine), load_(load), goal_(goal), workers_(workers) {}

Curve::Point Curve::At(double rate) {
  if (rate <= kGridFrom) {
    return {};
  }
  const double place = std::log(rate / kGridFrom) / std::log(kGrid);
  const auto below = static_cast<std::size_t>(place);
  const Point low = Known(below);
  const Point high = Known(below + 1);
  const double part = place - static_cast<double>(below);
  return {.attainment = low.attainment + part * (high.attainment - low.attainment),
          .busy = low.busy + part * (high.busy - low.busy)};
}

Curve::Point Curve::Known(std::size_t index) {
  const auto found = known_.find(index);
  if (found != known_.end()) {
    return found->second;
  }
  load_.rate = kGridFrom * std::pow(kGrid, static_cast<double>(index));
  const PoolOutlook outlook = Predict(engine_, load_, goal_, workers_);
  return known_[index] = {.attainment = outlook.attainment, .busy = outlook.busy};
}

}  // namespace pixii::control
