#include "bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace pixii::bench {

std::optional<double> Figure::fraction() const {
  if (!limit || *limit == 0) {
    return std::nullopt;
  }
  return value / *limit;
}

wire::Json Report::ToJson() const {
  wire::Json::Array results;
  for (const Figure& figure : figures) {
    wire::Json row(wire::Json::Object{});
    row.Set("name", figure.name);
    row.Set("value", figure.value);
    row.Set("unit", figure.unit);
    row.Set("low", figure.low);
    row.Set("quartile_low", figure.quartile_low);
    row.Set("quartile_high", figure.quartile_high);
    row.Set("high", figure.high);
    row.Set("limit", figure.limit ? wire::Json(*figure.limit) : wire::Json());
    row.Set("limit_name", figure.limit_name.empty() ? wire::Json() : wire::Json(figure.limit_name));
    row.Set("fraction", figure.fraction() ? wire::Json(*figure.fraction()) : wire::Json());
    results.push_back(std::move(row));
  }
  wire::Json out(wire::Json::Object{});
  out.Set("machine", machine);
  out.Set("commit", commit);
  out.Set("flags", flags);
  out.Set("results", std::move(results));
  return out;
}

std::string Report::ToText() const {
  std::string out;
  for (const Figure& figure : figures) {
    out += fmt::format("{:<28} {:>12.4g} {:<12} ({:.4g} .. {:.4g})", figure.name, figure.value,
                       figure.unit, figure.low, figure.high);
    if (figure.fraction()) {
      out += fmt::format("  {:.1f} % of {} {:.4g}", 100 * *figure.fraction(), figure.limit_name,
                         *figure.limit);
    }
    out += '\n';
  }
  return out;
}

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) {
    return 0;
  }
  std::ranges::sort(values);
  double rank = std::ceil(q * static_cast<double>(values.size()));
  auto index = static_cast<std::size_t>(std::max(1.0, rank)) - 1;
  return values[std::min(index, values.size() - 1)];
}

Figure MakeFigure(std::string name, std::string unit, std::vector<double> repeats) {
  PX_ASSERT(!repeats.empty());
  Figure figure;
  figure.name = std::move(name);
  figure.unit = std::move(unit);
  figure.value = Quantile(repeats, 0.5);
  figure.low = std::ranges::min(repeats);
  figure.high = std::ranges::max(repeats);
  figure.quartile_low = Quantile(repeats, 0.25);
  figure.quartile_high = Quantile(std::move(repeats), 0.75);
  return figure;
}

}  // namespace pixii::bench
