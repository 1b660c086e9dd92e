#include "model/check_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace pixii::model {

CheckLine CompareValues(std::string name, std::span<const float> ours,
                        std::span<const float> golden, double tolerance) {
  PX_ASSERT(ours.size() == golden.size());
  CheckLine line{.name = std::move(name), .limit = tolerance, .count = golden.size()};
  double difference_max = 0.0;
  double golden_max = 0.0;
  for (std::size_t i = 0; i < golden.size(); ++i) {
    const double difference =
        std::abs(static_cast<double>(ours[i]) - static_cast<double>(golden[i]));
    difference_max = std::isfinite(difference) ? std::max(difference_max, difference) : HUGE_VAL;
    golden_max = std::max(golden_max, std::abs(static_cast<double>(golden[i])));
  }
  line.error_max = golden_max > 0.0 ? difference_max / golden_max : difference_max;
  line.passed = line.error_max <= tolerance;
  if (!line.passed) {
    line.detail = fmt::format("largest difference {:.3g}, largest golden value {:.3g}",
                              difference_max, golden_max);
  }
  return line;
}

CheckLine CompareBits(std::string name, std::span<const float> ours, std::span<const float> whole) {
  CheckLine line{.name = std::move(name), .count = whole.size()};
  std::size_t different = ours.size() == whole.size() ? 0 : whole.size();
  for (std::size_t i = 0; different == 0 && i < whole.size(); ++i) {
    different += static_cast<std::size_t>(std::memcmp(&ours[i], &whole[i], sizeof(float)) != 0);
  }
  line.error_max = static_cast<double>(different);
  line.passed = different == 0;
  if (!line.passed) {
    line.detail = "bits differ from the run in one piece";
  }
  return line;
}

CheckLine CompareIntegers(std::string name, std::span<const std::int32_t> ours,
                          std::span<const std::int32_t> golden) {
  CheckLine line{.name = std::move(name), .count = golden.size()};
  std::size_t different = ours.size() == golden.size() ? 0 : golden.size();
  for (std::size_t i = 0; different == 0 && i < golden.size(); ++i) {
    different += ours[i] == golden[i] ? 0 : 1;
  }
  line.error_max = static_cast<double>(different);
  line.passed = different == 0;
  line.detail = line.passed ? "" : "integers differ";
  return line;
}

}  // namespace pixii::model
