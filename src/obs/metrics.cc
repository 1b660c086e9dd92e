#include "obs/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <variant>

#include "base/assert.h"
#include "obs/histogram_bounds.h"

namespace pixii::obs {

namespace {

enum class Kind : std::uint8_t { kCounter, kGauge, kHistogram };
enum class Group : std::uint8_t {
  kFrontend,
  kRouter,
  kComponent,
  kIndexer,
  kKvbm,
  kTrtllm,
  kRequestPlane,
  kPlanner,
  kEpp,
  kPixii
};

constexpr double kLatencySeconds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                      1,     2.5,    5,     10,   30,    60,   120, 300,  600};
constexpr double kTokenSeconds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02,
                                    0.03,   0.05,    0.075,  0.1,   0.2,    0.5,   1,    5};
constexpr double kTokenCounts[] = {1,    4,    16,   64,    128,   256,   512,    1024,
                                   2048, 4096, 8192, 16384, 32768, 65536, 131072, 1048576};
constexpr double kOverheadMs[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                  1,     2.5,    5,     10,   25,    50,   100, 1000};
constexpr double kTransferSeconds[] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1,
                                       0.25,  0.5,   1,    2.5,   5,    10};
constexpr double kTransferBytes[] = {1e5, 5e5, 1e6, 5e6, 1e7, 5e7, 1e8, 5e8, 1e9, 5e9};
constexpr double kTransferSpeed[] = {0.1, 0.5, 1, 5, 10, 25, 50, 100, 250, 500};
constexpr double kRequestSeconds[] = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                      30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
constexpr double kFirstTokenSeconds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                         0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10,
                                         20,    40,    80,   160,  640,  2560};
constexpr double kOutputTokenSeconds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                          0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
constexpr double kPrefillSeconds[] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                      2.5,   5,     10,   20,    40,   80,  160,  640, 2560};
constexpr double kCachedTokenCounts[] = {0, 64, 128, 256, 512, 1024, 2048, 4096, 8192};
constexpr double kStageSeconds[] = {0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005,
                                    0.001,   0.0025,   0.005,   0.01,   0.025,   0.05,
                                    0.1,     0.25,     0.5,     1,      2.5,     10};
constexpr double kTokenizerMs[] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,   2.5,
                                   5,    10,    25,   50,  100,  250, 1000};
constexpr double kTokenMicroseconds[] = {0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000};
constexpr double kFractions[] = {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0};

struct Row {
  Kind kind;
  Group group;
  std::string_view name;
  std::string_view labels;
  std::string_view help;
  std::span<const double> bounds;
};

constexpr Row kRows[] = {
#define PX_COUNTER(id, group, name, labels, help) \
  {Kind::kCounter, Group::group, name, labels, help, {}},
#define PX_GAUGE(id, group, name, labels, help) \
  {Kind::kGauge, Group::group, name, labels, help, {}},
#define PX_HISTOGRAM(id, group, name, labels, buckets, help) \
  {Kind::kHistogram, Group::group, name, labels, help, buckets},
#include "obs/metrics.def"
#undef PX_COUNTER
#undef PX_GAUGE
#undef PX_HISTOGRAM
};

// In place of those of rows, by their numbers. Set before the first Registry, read by all.
std::map<std::size_t, std::vector<double>>& OtherBounds() {
  static std::map<std::size_t, std::vector<double>> bounds;
  return bounds;
}

std::span<const double> BoundsOf(std::size_t row) {
  const auto other = OtherBounds().find(row);
  return other != OtherBounds().end() ? std::span<const double>(other->second) : kRows[row].bounds;
}

// What a histogram is called in variables.
std::string VariableName(std::string_view name) {
  if (name == "time_to_first_token_seconds") {
    return "TTFT";
  }
  if (name == "inter_token_latency_seconds") {
    return "ITL";
  }
  std::string out(name.substr(0, name.rfind('_')));
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return std::toupper(c); });
  return out;
}

Result<std::optional<double>> ReadBound(const VariableLookup& lookup, const std::string& name,
                                        double min, double max) {
  const std::optional<std::string> text = lookup(name);
  if (!text || text->empty()) {
    return std::optional<double>();
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() ||
      !(value >= min && value <= max)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: \"{}\" is not {} .. {}", name, *text, min, max), name);
  }
  return std::optional(value);
}

double TwoDigits(double value) {
  const std::string text = fmt::format("{:.1e}", value);
  double out = value;
  std::from_chars(text.data(), text.data() + text.size(), out);
  return out;
}

// Of a group's names; `frontend`: kFrontend's.
std::string_view PrefixOf(Group group, std::string_view frontend) {
  switch (group) {
    case Group::kFrontend:
      return frontend;
    case Group::kRouter:
      return "dynamo_router";
    case Group::kComponent:
      return "dynamo_component";
    case Group::kIndexer:
      return "dynamo_kvindexer";
    case Group::kTrtllm:
      return "trtllm";
    case Group::kKvbm:
      return "kvbm";
    case Group::kRequestPlane:
      return "dynamo_request_plane";
    case Group::kPlanner:
      return "dynamo_planner";
    case Group::kEpp:
      return "dynamo_epp";
    case Group::kPixii:
      break;
  }
  return "pixii";
}

std::vector<std::string_view> SplitLabels(std::string_view labels) {
  std::vector<std::string_view> names;
  while (!labels.empty()) {
    std::size_t comma = std::min(labels.find(','), labels.size());
    names.push_back(labels.substr(0, comma));
    labels.remove_prefix(std::min(comma + 1, labels.size()));
  }
  return names;
}

void AppendEscaped(std::string& out, std::string_view value) {
  for (char c : value) {
    if (c == '\\' || c == '"') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
}

// OpenMetrics wants a bound to be seen as no integer.
std::string BoundText(std::string number, Exposition exposition) {
  const bool whole = number.find_first_not_of("0123456789-") == std::string::npos;
  return exposition == Exposition::kOpenMetrics && whole ? number + ".0" : number;
}

constexpr std::string_view kTotal = "_total";

std::string NumberText(double value) {
  if (std::isnan(value)) {
    return "NaN";
  }
  if (std::isinf(value)) {
    return value > 0 ? "+Inf" : "-Inf";
  }
  return fmt::format("{}", value);
}

std::string_view KindName(Kind kind) {
  return kind == Kind::kCounter ? "counter" : kind == Kind::kGauge ? "gauge" : "histogram";
}

// {a="b",le="0.5"}, or nothing.
std::string LabelText(const std::vector<std::string_view>& names,
                      const std::vector<std::string>& values, std::string_view le = {}) {
  if (names.empty() && le.empty()) {
    return {};
  }
  std::string out = "{";
  for (std::size_t i = 0; i < names.size(); ++i) {
    out += fmt::format("{}{}=\"", i == 0 ? "" : ",", names[i]);
    AppendEscaped(out, values[i]);
    out += '"';
  }
  if (!le.empty()) {
    out += fmt::format("{}le=\"{}\"", names.empty() ? "" : ",", le);
  }
  return out + "}";
}

}  // namespace

struct Registry::Series {
  std::vector<std::string> label_values;
  std::variant<std::unique_ptr<Counter>, std::unique_ptr<Gauge>, std::unique_ptr<Histogram>> value;
};

struct Registry::Family {
  std::map<std::vector<std::string>, std::unique_ptr<Series>> series;
};

std::size_t Histogram::BucketOf(double value) const {
  return static_cast<std::size_t>(std::ranges::lower_bound(bounds_, value) - bounds_.begin());
}

void Histogram::Observe(double value, std::uint64_t count) {
  buckets_[BucketOf(value)].fetch_add(count, std::memory_order_relaxed);
  sum_.fetch_add(value * static_cast<double>(count), std::memory_order_relaxed);
}

void Histogram::Observe(double value, Exemplar exemplar) {
  Observe(value, 1);
  if (exemplar.trace_id.size() != kTraceIdSize) {
    return;
  }
  rt::MutexLock lock(shown_mutex_);
  shown_.resize(bounds_.size() + 1);
  Shown& shown = shown_[BucketOf(value)];
  std::ranges::copy(exemplar.trace_id, shown.trace_id.begin());
  shown.value = value;
  shown.set = true;
}

Histogram::Shown Histogram::ShownAt(std::size_t bucket) const {
  rt::MutexLock lock(shown_mutex_);
  return bucket < shown_.size() ? shown_[bucket] : Shown();
}

std::uint64_t Histogram::count() const {
  std::uint64_t total = 0;
  for (const auto& bucket : buckets_) {
    total += bucket.load(std::memory_order_relaxed);
  }
  return total;
}

double Histogram::sum() const { return sum_.load(std::memory_order_relaxed); }

Result<void> SetHistogramBounds(const VariableLookup& lookup) {
  constexpr double kBoundMin = 1e-9;
  constexpr double kBoundMax = 1e12;
  OtherBounds().clear();
  for (std::size_t i = 0; i < std::size(kRows); ++i) {
    const Row& row = kRows[i];
    if (row.kind != Kind::kHistogram || row.group != Group::kFrontend) {
      continue;
    }
    const std::string prefix = "DYN_HISTOGRAM_" + VariableName(row.name);
    PX_TRY(const auto min, ReadBound(lookup, prefix + "_MIN", kBoundMin, kBoundMax));
    PX_TRY(const auto max, ReadBound(lookup, prefix + "_MAX", kBoundMin, kBoundMax));
    PX_TRY(const auto count, ReadBound(lookup, prefix + "_COUNT", 2, Histogram::kBucketsMax));
    if (!min && !max && !count) {
      continue;
    }
    // Some begin with 0, from where no factor leads on.
    const double first = min.value_or(row.bounds[row.bounds.front() > 0 ? 0 : 1]);
    const double last = max.value_or(row.bounds.back());
    const auto number =
        static_cast<std::size_t>(count.value_or(static_cast<double>(row.bounds.size())));
    if (first >= last) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}_MIN: {} is not below {}_MAX: {}", prefix, first, prefix, last),
                  prefix + "_MIN");
    }
    std::vector<double>& bounds = OtherBounds()[i];
    for (std::size_t step = 0; step < number; ++step) {
      const double share = static_cast<double>(step) / static_cast<double>(number - 1);
      bounds.push_back(TwoDigits(first * std::pow(last / first, share)));
    }
    bounds.erase(std::unique(bounds.begin(), bounds.end()), bounds.end());
  }
  return {};
}

Registry::Registry(std::string frontend_prefix) : frontend_prefix_(std::move(frontend_prefix)) {
  for (std::size_t i = 0; i < std::size(kRows); ++i) {
    families_.push_back(std::make_unique<Family>());
  }
}

Registry::~Registry() = default;

Registry::Series& Registry::Get(MetricId id, std::initializer_list<std::string_view> label_values) {
  auto index = static_cast<std::size_t>(id);
  const Row& row = kRows[index];
  std::vector<std::string> values(label_values.begin(), label_values.end());
  PX_ASSERT(values.size() == SplitLabels(row.labels).size());
  rt::MutexLock lock(mutex_);
  Family& family = *families_[index];
  auto found = family.series.find(values);
  if (found != family.series.end()) {
    return *found->second;
  }
  if (family.series.size() >= kSeriesMax) {
    std::ranges::fill(values, "other");
  }
  std::unique_ptr<Series>& series = family.series[values];
  if (!series) {
    series = std::make_unique<Series>();
    series->label_values = std::move(values);
    switch (row.kind) {
      case Kind::kCounter:
        series->value = std::make_unique<Counter>();
        break;
      case Kind::kGauge:
        series->value = std::make_unique<Gauge>();
        break;
      case Kind::kHistogram:
        series->value = std::make_unique<Histogram>(BoundsOf(index));
        break;
    }
  }
  return *series;
}

void Registry::Drop(MetricId id, std::initializer_list<std::string_view> label_values) {
  const std::vector<std::string> values(label_values.begin(), label_values.end());
  rt::MutexLock lock(mutex_);
  families_[static_cast<std::size_t>(id)]->series.erase(values);
}

void Registry::HoldModel(const std::string& model) {
  rt::MutexLock lock(mutex_);
  ++models_[model];
}

void Registry::LetModelGo(const std::string& model) {
  rt::MutexLock lock(mutex_);
  const auto holds = models_.find(model);
  if (--holds->second > 0) {
    return;
  }
  models_.erase(holds);
  for (std::size_t i = 0; i < std::size(kRows); ++i) {
    const std::vector<std::string_view> labels = SplitLabels(kRows[i].labels);
    const auto label = std::ranges::find(labels, "model");
    if (kRows[i].kind == Kind::kGauge && label != labels.end()) {
      const auto at = static_cast<std::size_t>(label - labels.begin());
      std::erase_if(families_[i]->series,
                    [&](const auto& series) { return series.first[at] == model; });
    }
  }
}

Counter& Registry::GetCounter(MetricId id, std::initializer_list<std::string_view> label_values) {
  return *std::get<std::unique_ptr<Counter>>(Get(id, label_values).value);
}

Gauge& Registry::GetGauge(MetricId id, std::initializer_list<std::string_view> label_values) {
  return *std::get<std::unique_ptr<Gauge>>(Get(id, label_values).value);
}

Histogram& Registry::GetHistogram(MetricId id,
                                  std::initializer_list<std::string_view> label_values) {
  return *std::get<std::unique_ptr<Histogram>>(Get(id, label_values).value);
}

std::string Registry::Expose(Exposition exposition) const {
  if (collect_) {
    collect_();
  }
  const bool open = exposition == Exposition::kOpenMetrics;
  std::string out;
  rt::MutexLock lock(mutex_);
  for (std::size_t i = 0; i < std::size(kRows); ++i) {
    const Row& row = kRows[i];
    if (families_[i]->series.empty()) {
      continue;
    }
    const std::string name = fmt::format("{}_{}", PrefixOf(row.group, frontend_prefix_), row.name);
    std::string_view family = name;
    std::string_view kind = KindName(row.kind);
    if (open && row.kind == Kind::kCounter) {
      // There a counter's samples end in _total and its family does not; others' names that lack it
      // stay as they are, and are of no type.
      const bool total = family.ends_with(kTotal);
      family.remove_suffix(total ? kTotal.size() : 0);
      kind = total ? kind : "unknown";
    }
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", family, row.help, family, kind);
    std::vector<std::string_view> labels = SplitLabels(row.labels);
    for (const auto& [values, series] : families_[i]->series) {
      if (const auto* counter = std::get_if<std::unique_ptr<Counter>>(&series->value)) {
        out += fmt::format("{}{} {}\n", name, LabelText(labels, values), (*counter)->value());
      } else if (const auto* gauge = std::get_if<std::unique_ptr<Gauge>>(&series->value)) {
        out += fmt::format("{}{} {}\n", name, LabelText(labels, values),
                           NumberText((*gauge)->value()));
      } else {
        const Histogram& histogram = *std::get<std::unique_ptr<Histogram>>(series->value);
        std::uint64_t running = 0;
        const std::span<const double> bounds = histogram.bounds_;
        for (std::size_t b = 0; b <= bounds.size(); ++b) {
          running += histogram.buckets_[b].load(std::memory_order_relaxed);
          const std::string le =
              b < bounds.size() ? BoundText(NumberText(bounds[b]), exposition) : "+Inf";
          out += fmt::format("{}_bucket{} {}", name, LabelText(labels, values, le), running);
          if (const Histogram::Shown shown = open ? histogram.ShownAt(b) : Histogram::Shown();
              shown.set) {
            out += fmt::format(" # {{trace_id=\"{}\"}} {}",
                               std::string_view(shown.trace_id.data(), shown.trace_id.size()),
                               NumberText(shown.value));
          }
          out += '\n';
        }
        out += fmt::format("{}_sum{} {}\n{}_count{} {}\n", name, LabelText(labels, values),
                           NumberText(histogram.sum()), name, LabelText(labels, values), running);
      }
    }
  }
  if (open) {
    out += "# EOF\n";
  }
  return out;
}

Exposition ExpositionFor(std::string_view accept) {
  return accept.find("application/openmetrics-text") != std::string_view::npos
             ? Exposition::kOpenMetrics
             : Exposition::kText;
}

std::string_view ContentTypeOf(Exposition exposition) {
  return exposition == Exposition::kOpenMetrics
             ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
             : "text/plain; version=0.0.4; charset=utf-8";
}

std::string MetricsReference() {
  std::string out =
      "# Metrics\n\nGenerated from `src/obs/metrics.def`. The prefix `dynamo_frontend` is changed "
      "by `--metrics-prefix`.\n\n"
      "| name | type | labels | meaning |\n|---|---|---|---|\n";
  for (const Row& row : kRows) {
    out += fmt::format("| `{}_{}` | {} | {} | {} |\n", PrefixOf(row.group, "dynamo_frontend"),
                       row.name, KindName(row.kind), row.labels.empty() ? "none" : row.labels,
                       row.help);
  }
  return out;
}

}  // namespace pixii::obs
