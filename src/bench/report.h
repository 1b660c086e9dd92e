// What a measurement says of itself: the machine, the commit, the flags, and each figure beside its
// limit.
//
// Thread: values. Format: docs/formats/bench_json.md
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "wire/json.h"

namespace pixii::bench {

struct Figure {
  std::string name;
  double value = 0;  // median
  std::string unit;
  double low = 0;               // smallest of the repeats
  double quartile_low = 0;      // a quarter of them is not above it
  double quartile_high = 0;     // nor three quarters above this
  double high = 0;              // largest
  std::optional<double> limit;  // measured in the same run
  std::string limit_name;

  /// value / limit.
  std::optional<double> fraction() const;
};

struct Report {
  std::string commit;
  wire::Json machine;  // object
  wire::Json flags;    // object
  std::vector<Figure> figures;

  wire::Json ToJson() const;
  /// A table for people, one line a figure.
  std::string ToText() const;
};

/// The q-quantile, 0 .. 1, by nearest rank; 0 of nothing. Sorts a copy.
double Quantile(std::vector<double> values, double q);

/// Median with smallest, quartiles and largest. Pre: at least one value.
Figure MakeFigure(std::string name, std::string unit, std::vector<double> repeats);

}  // namespace pixii::bench
