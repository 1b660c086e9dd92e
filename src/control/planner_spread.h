// How much more or less comes in an interval than on average around it: the shape of bursts, as
// they were, in their order.
//
// Thread: a value. Pure. docs/planner.md
#pragma once

#include <cstddef>
#include <deque>
#include <vector>

namespace pixii::control {

class LoadSpread final {
 public:
  /// `reach`: intervals to either side that an average around one is taken over; 1 and more.
  explicit LoadSpread(std::size_t reach) : reach_(reach) {}

  /// What came in the next interval, 0 and more.
  void Observe(double count);

  /// Of past intervals, in their order, what came over the average around it, averaged over
  /// `length` of them in a row; around 1. What independent arrivals scatter by is taken out: the
  /// queueing model has it in already. Never empty.
  std::vector<double> Ratios(std::size_t length) const;

  /// By how much the variance of the ratio grows where intervals are half as long: of long bursts
  /// little, of short ones much. Independent arrivals are not in it.
  double Roughness() const;

  /// Of the ratios of single intervals; independent arrivals are in it.
  double Variance() const;

 private:
  struct Point {
    double ratio = 1;
    double noise = 0;  // variance of the ratio if arrivals know nothing of each other
  };

  std::size_t reach_;
  std::deque<double> counts_;  // of the last 2 x reach + 1 intervals
  std::deque<Point> points_;
};

}  // namespace pixii::control
