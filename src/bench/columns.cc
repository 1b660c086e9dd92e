#include "bench/columns.h"

#include <fmt/format.h>

namespace pixii::bench {

void Columns::Put(std::string_view name, std::string_view unit, double value) {
  Column& column = At(name);
  column.unit = unit;
  column.values.push_back(value);
}

std::vector<Figure> Columns::Figures(
    std::span<const std::pair<std::string_view, std::string_view>> limits) const {
  std::vector<Figure> out;
  for (const Column& column : columns_) {
    Figure figure = MakeFigure(column.name, column.unit, column.values);
    std::optional<Figure> ratio;
    for (const auto& [name, beside] : limits) {
      if (column.name == name) {
        ratio = RatioTo(column, beside);
      }
    }
    if (ratio) {
      figure.limit = figure.value / ratio->value;
      figure.limit_name = ratio->limit_name;
    }
    out.push_back(std::move(figure));
    if (ratio) {
      ratio->limit_name.clear();
      out.push_back(std::move(*ratio));
    }
  }
  return out;
}

Columns::Column& Columns::At(std::string_view name) {
  for (Column& column : columns_) {
    if (column.name == name) {
      return column;
    }
  }
  columns_.push_back({.name = std::string(name), .unit = {}, .values = {}});
  return columns_.back();
}

// Of the rounds' own ratios.
std::optional<Figure> Columns::RatioTo(const Column& column, std::string_view beside) const {
  for (const Column& limit : columns_) {
    if (limit.name != beside || limit.values.size() != column.values.size()) {
      continue;
    }
    std::vector<double> ratios;
    for (std::size_t i = 0; i < column.values.size(); ++i) {
      ratios.push_back(column.values[i] / limit.values[i]);
    }
    Figure out =
        MakeFigure(fmt::format("{}_of_{}", column.name, limit.name), "ratio", std::move(ratios));
    out.limit_name = limit.name;
    return out;
  }
  return std::nullopt;
}

}  // namespace pixii::bench
