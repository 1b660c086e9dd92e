// What a bench samples in each of its rounds, and the figures that come of it.
//
// Thread: a value.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/report.h"

namespace pixii::bench {

class Columns final {
 public:
  void Put(std::string_view name, std::string_view unit, double value);

  /// The figures, in the order they first came; `limits`: figure, and the one measured beside it,
  /// of which the ratios of the rounds are a figure too.
  std::vector<Figure> Figures(
      std::span<const std::pair<std::string_view, std::string_view>> limits = {}) const;

 private:
  struct Column {
    std::string name;
    std::string unit;
    std::vector<double> values;
  };

  Column& At(std::string_view name);
  std::optional<Figure> RatioTo(const Column& column, std::string_view beside) const;

  std::vector<Column> columns_;
};

}  // namespace pixii::bench
