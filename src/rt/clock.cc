#include "rt/clock.h"

#include <ctime>

namespace pixii::rt {

Time SteadyNow() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);  // cannot fail
  return Time(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
}

}  // namespace pixii::rt
