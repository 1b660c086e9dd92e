// Monotonic time as the program sees it: real or virtual. Wall time is for labels and dates only.
#pragma once

#include <chrono>
#include <cstdint>

namespace pixii::rt {

using Duration = std::chrono::nanoseconds;

struct Monotonic {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<Monotonic>;
  static constexpr bool is_steady = true;
};

using Time = std::chrono::time_point<Monotonic, Duration>;
inline constexpr Time kNever = Time::max();

using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): durations read as
                                       // 20ms

/// Seconds since 1970, UTC.
struct WallTime {
  std::int64_t unix_seconds = 0;
  std::int32_t nanoseconds = 0;
};

}  // namespace pixii::rt
