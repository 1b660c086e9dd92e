// What a planner asks its model about: a sample of lengths, errors of forecasts, a curve by rate.
//
// Thread: functions and a value. Pure. docs/planner.md
#pragma once

#include <cstddef>
#include <deque>
#include <unordered_map>
#include <vector>

#include "control/planner_model.h"

namespace pixii::control {

/// Few that stand for all: of each part by input lengths, some by output lengths. The longest
/// decide, and whether a random sample has one of them is chance.
std::vector<RequestSize> SampleOf(const std::deque<RequestSize>& all);

/// Of what came over what was forecast: equally likely values, less noise of this variance.
/// `prior`: their deviation before any is known.
std::vector<double> PlacesOf(const std::deque<double>& errors, double noise, double prior);

/// What the model says of a pool at any rate, from what it says at some.
class Curve final {
 public:
  /// `engine` and the load's sizes outlive it.
  Curve(const EngineModel& engine, PoolLoad load, LatencyGoal goal, double workers);

  struct Point {
    double attainment = 1;
    double busy = 0;
  };

  /// Requests per second.
  Point At(double rate);

 private:
  Point Known(std::size_t index);

  const EngineModel& engine_;
  PoolLoad load_;
  LatencyGoal goal_;
  double workers_;
  std::unordered_map<std::size_t, Point> known_;
};

}  // namespace pixii::control
