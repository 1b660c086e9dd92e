#include "bench/load_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

namespace pixii::bench {

namespace {

// Distinct without hue as well: the order of their lightness is that of the loads.
constexpr std::string_view kColors[] = {"#0b6e99", "#c4501b", "#2e7d32", "#8e24aa",
                                        "#b28704", "#455a64", "#d81b60", "#00897b"};
constexpr double kWidth = 520;  // of a plot, in its own units
constexpr double kHeight = 260;
constexpr double kMargin = 46;
constexpr std::size_t kPointsMax = 2000;  // of a curve

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
  }
  return out;
}

using Point = std::pair<double, double>;

struct Curve {
  std::string name;
  std::vector<Point> points;
  bool dots = false;  // not joined
};

struct Axes {
  std::string title;
  std::string x;
  std::string y;
};

// The least of 1, 2, 5 times a power of ten that is not below.
double RoundUp(double value) {
  if (!(value > 0)) {
    return 1;
  }
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (value <= step * power) {
      return step * power;
    }
  }
  return 10 * power;
}

std::string Plot(const Axes& axes, const std::vector<Curve>& curves) {
  double right = 0;
  double top = 0;
  for (const Curve& curve : curves) {
    for (const auto& [x, y] : curve.points) {
      right = std::max(right, x);
      top = std::max(top, y);
    }
  }
  right = RoundUp(right);
  top = RoundUp(top);
  const auto place = [&](const Point& point) {
    return fmt::format("{:.1f},{:.1f}", kMargin + point.first / right * (kWidth - 2 * kMargin),
                       kHeight - kMargin - point.second / top * (kHeight - 2 * kMargin));
  };
  std::string out = fmt::format(
      "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {} {}\" role=\"img\" "
      "aria-label=\"{}\">",
      Escaped(axes.title), kWidth, kHeight, Escaped(axes.title));
  out += fmt::format("<polyline class=\"axis\" points=\"{} {} {}\"/>", place({0, top}),
                     place({0, 0}), place({right, 0}));
  for (int part = 0; part <= 4; ++part) {
    const double share = part / 4.0;
    out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" class=\"mid\">{:g}</text>",
                       kMargin + share * (kWidth - 2 * kMargin), kHeight - kMargin + 14,
                       share * right);
    out += fmt::format("<text x=\"{}\" y=\"{:.1f}\" class=\"end\">{:g}</text>", kMargin - 5,
                       kHeight - kMargin - share * (kHeight - 2 * kMargin) + 4, share * top);
  }
  out += fmt::format("<text x=\"{}\" y=\"{}\" class=\"mid\">{}</text>", kWidth / 2, kHeight - 8,
                     Escaped(axes.x));
  out += fmt::format("<text x=\"12\" y=\"24\">{}</text>", Escaped(axes.y));
  for (std::size_t i = 0; i < curves.size(); ++i) {
    const std::string_view color = kColors[i % std::size(kColors)];
    std::string points;
    for (const Point& point : curves[i].points) {
      const std::string at = place(point);
      if (curves[i].dots) {
        out += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"2.5\" fill=\"{}\"/>",
                           at.substr(0, at.find(',')), at.substr(at.find(',') + 1), color);
      } else {
        points += at + " ";
      }
    }
    if (!points.empty()) {
      out += fmt::format("<polyline points=\"{}\" stroke=\"{}\"><title>{}</title></polyline>",
                         points, color, Escaped(curves[i].name));
    }
  }
  return out + "</svg></figure>\n";
}

double Number(const wire::Json& json, std::string_view key) {
  const wire::Json* value = json.Find(key);
  return value == nullptr ? -1 : value->AsDouble().value_or(-1);
}

std::vector<double> Sorted(const wire::Json::Array& rows, std::string_view key) {
  std::vector<double> out;
  for (const wire::Json& row : rows) {
    if (const double value = Number(row, key); value >= 0) {
      out.push_back(value);
    }
  }
  std::ranges::sort(out);
  return out;
}

Curve Distribution(const std::string& name, const std::vector<double>& sorted) {
  Curve curve{.name = name, .points = {}};
  const std::size_t step = std::max<std::size_t>(1, sorted.size() / kPointsMax);
  for (std::size_t i = 0; i < sorted.size(); i += step) {
    curve.points.emplace_back(sorted[i],
                              static_cast<double>(i + 1) / static_cast<double>(sorted.size()));
  }
  if (!sorted.empty()) {
    curve.points.emplace_back(sorted.back(), 1);
  }
  return curve;
}

double Statistic(const wire::Json& load, std::string_view metric, std::string_view key) {
  const wire::Json* found = load.Find(metric);
  return found == nullptr ? -1 : Number(*found, key);
}

std::string Table(std::span<const ReportedLoad> loads) {
  constexpr std::pair<const char*, const char*> kColumns[] = {{"time_to_first_token", "p50"},
                                                              {"time_to_first_token", "p99"},
                                                              {"inter_token_latency", "p50"},
                                                              {"inter_token_latency", "p99"},
                                                              {"request_latency", "p50"},
                                                              {"request_latency", "p99"},
                                                              {"output_token_throughput", "avg"},
                                                              {"request_throughput", "avg"},
                                                              {"goodput", "avg"},
                                                              {"error_request_count", "avg"}};
  std::string out = "<table><tr><th>run</th>";
  for (const auto& [metric, key] : kColumns) {
    out += fmt::format("<th>{} {}</th>", metric, key);
  }
  out += "</tr>\n";
  for (std::size_t i = 0; i < loads.size(); ++i) {
    out += fmt::format("<tr><td style=\"color:{}\">{}</td>", kColors[i % std::size(kColors)],
                       Escaped(loads[i].name));
    for (const auto& [metric, key] : kColumns) {
      const double value = Statistic(loads[i].load, metric, key);
      out += value < 0 ? "<td></td>" : fmt::format("<td>{:.2f}</td>", value);
    }
    out += "</tr>\n";
  }
  return out + "</table>\n";
}

}  // namespace

Result<std::string> LoadReportHtml(std::span<const ReportedLoad> loads) {
  constexpr std::pair<const char*, const char*> kTimes[] = {
      {"time_to_first_token", "Time to first token"},
      {"inter_token_latency", "Time of a further token"},
      {"request_latency", "Time of a request"}};
  std::vector<std::vector<Curve>> distributions(std::size(kTimes));
  std::vector<Curve> timeline;
  Curve tradeoff{.name = "runs", .points = {}};
  for (const ReportedLoad& one : loads) {
    const wire::Json* rows = one.load.Find("pixii_requests");
    if (rows == nullptr || !rows->is_array() || rows->array().empty()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{} has no pixii_requests; pixii bench serve --profile-export writes "
                              "them",
                              one.name));
    }
    for (std::size_t i = 0; i < std::size(kTimes); ++i) {
      distributions[i].push_back(Distribution(one.name, Sorted(rows->array(), kTimes[i].first)));
    }
    Curve& dots = timeline.emplace_back();
    dots.name = one.name;
    dots.dots = true;
    const std::size_t step = std::max<std::size_t>(1, rows->array().size() / kPointsMax);
    for (std::size_t i = 0; i < rows->array().size(); i += step) {
      const wire::Json& row = rows->array()[i];
      dots.points.emplace_back(std::max(0.0, Number(row, "at_ms")) / 1000,
                               Number(row, "time_to_first_token"));
    }
    tradeoff.points.emplace_back(
        std::max(0.0, Statistic(one.load, "output_token_throughput", "avg")),
        std::max(0.0, Statistic(one.load, "request_latency", "p50")));
  }
  std::string out =
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width\"><title>pixii bench serve</title>"
      "<style>:root{color-scheme:light dark}body{font:14px system-ui,sans-serif;margin:2em}"
      "figure{display:inline-block;width:32em;max-width:100%;margin:1em}svg{width:100%}"
      "svg text{font-size:10px;fill:currentColor}.mid{text-anchor:middle}.end{text-anchor:end}"
      "polyline{fill:none;stroke-width:1.5}.axis{stroke:currentColor}"
      "table{border-collapse:collapse}td,th{border:1px solid #8888;padding:.3em .6em;"
      "text-align:right}</style></head><body><h1>pixii bench serve</h1>\n";
  out += Table(loads);
  for (std::size_t i = 0; i < std::size(kTimes); ++i) {
    out += Plot({.title = kTimes[i].second, .x = "ms", .y = "share of requests"}, distributions[i]);
  }
  out += Plot({.title = "Time to first token over the run", .x = "planned arrival, s", .y = "ms"},
              timeline);
  if (loads.size() > 1) {
    std::ranges::sort(tradeoff.points);
    out += Plot({.title = "Latency against throughput",
                 .x = "output tokens/s",
                 .y = "median time of a request, ms"},
                {tradeoff});
  }
  return out + "</body></html>\n";
}

}  // namespace pixii::bench
