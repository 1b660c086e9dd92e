#include "bench/load_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <utility>

#include "bench/report.h"
#include "rt/random.h"

namespace pixii::bench {

namespace {

constexpr std::size_t kResamples = 2000;

wire::Json Scalar(const char* unit, double value) {
  wire::Json json(wire::Json::Object{});
  json.Set("unit", unit);
  json.Set("avg", value);
  return json;
}

// AIPerf's statistics of what was measured once a request or token. Pre: at least one value.
wire::Json Statistics(const char* unit, std::vector<double> values) {
  std::ranges::sort(values);
  const double count = static_cast<double>(values.size());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  double squares = 0;
  for (const double value : values) {
    squares += (value - sum / count) * (value - sum / count);
  }
  wire::Json json = Scalar(unit, sum / count);
  json.Set("min", values.front());
  json.Set("max", values.back());
  for (const auto& [name, q] :
       {std::pair{"p1", 0.01}, std::pair{"p5", 0.05}, std::pair{"p10", 0.1}, std::pair{"p25", 0.25},
        std::pair{"p50", 0.5}, std::pair{"p75", 0.75}, std::pair{"p90", 0.9},
        std::pair{"p95", 0.95}, std::pair{"p99", 0.99}}) {
    json.Set(name, Quantile(values, q));
  }
  json.Set("std", values.size() > 1 ? std::sqrt(squares / (count - 1)) : 0.0);
  json.Set("count", static_cast<std::int64_t>(values.size()));
  return json;
}

void SetStatistics(wire::Json& out, const char* name, const char* unit,
                   std::vector<double> values) {
  if (!values.empty()) {
    out.Set(name, Statistics(unit, std::move(values)));
  }
}

Result<std::vector<double>> Column(const wire::Json& load, std::string_view key,
                                   std::string_view which) {
  const wire::Json* rows = load.Find("pixii_requests");
  std::vector<double> out;
  if (rows != nullptr && rows->is_array()) {
    for (const wire::Json& row : rows->array()) {
      const wire::Json* value = row.Find(key);
      const std::optional<double> number = value == nullptr ? std::nullopt : value->AsDouble();
      if (number) {
        out.push_back(*number);
      }
    }
  }
  if (out.empty()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the {} file has no pixii_requests with {}; pixii bench serve "
                            "--profile-export writes them",
                            which, key));
  }
  return out;
}

double Mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double Resampled(const std::vector<double>& values, double q, rt::Random& random,
                 std::vector<double>& room) {
  room.clear();
  for (std::size_t i = 0; i < values.size(); ++i) {
    room.push_back(values[random.Below(values.size())]);
  }
  return q < 0 ? Mean(room) : Quantile(room, q);
}

}  // namespace

Result<LoadGoals> ParseGoals(std::string_view text) {
  LoadGoals goals;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    const std::size_t colon = part.find(':');
    const std::string_view name = part.substr(0, colon);
    double* goal = name == "ttft"  ? &goals.ttft_ms
                   : name == "itl" ? &goals.itl_ms
                   : name == "e2e" ? &goals.e2e_ms
                                   : nullptr;
    const std::string_view number = colon == part.npos ? "" : part.substr(colon + 1);
    double value = 0;
    const auto [end, failed] = std::from_chars(number.data(), number.data() + number.size(), value);
    if (goal == nullptr || failed != std::errc() || end != number.data() + number.size() ||
        !(value > 0) || std::isfinite(*goal)) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("slo: \"{}\" is not one of ttft:MS, itl:MS, e2e:MS, each at most "
                              "once and above 0",
                              part),
                  "slo");
    }
    *goal = value;
  }
  return goals;
}

double TokenGapMs(const RequestSample& sample) {
  return sample.output_tokens < 2 ? 0
                                  : (sample.total_ms - sample.first_token_ms) /
                                        (static_cast<double>(sample.output_tokens) - 1);
}

bool IsGood(const RequestSample& sample, const LoadGoals& goals) {
  return sample.error.empty() && sample.first_token_ms <= goals.ttft_ms &&
         TokenGapMs(sample) <= goals.itl_ms && sample.total_ms <= goals.e2e_ms;
}

wire::Json AiperfExport(const LoadResult& load, const LoadGoals& goals) {
  std::vector<double> first;
  std::vector<double> gaps;
  std::vector<double> chunk_gaps;
  std::vector<double> total;
  std::vector<double> inputs;
  std::vector<double> outputs;
  std::vector<double> per_user;
  wire::Json::Array rows;
  std::int64_t good = 0;
  std::int64_t failed = 0;
  for (const RequestSample& sample : load.samples) {
    if (!sample.error.empty()) {
      ++failed;
      continue;
    }
    good += IsGood(sample, goals) ? 1 : 0;
    first.push_back(sample.first_token_ms);
    total.push_back(sample.total_ms);
    inputs.push_back(sample.input_tokens);
    outputs.push_back(sample.output_tokens);
    chunk_gaps.insert(chunk_gaps.end(), sample.gaps_ms.begin(), sample.gaps_ms.end());
    wire::Json row(wire::Json::Object{});
    row.Set("at_ms", sample.arrival_ms);
    row.Set("send_delay_ms", sample.send_delay_ms);
    row.Set("time_to_first_token", sample.first_token_ms);
    row.Set("request_latency", sample.total_ms);
    if (sample.output_tokens > 1) {
      gaps.push_back(TokenGapMs(sample));
      row.Set("inter_token_latency", gaps.back());
      if (gaps.back() > 0) {
        per_user.push_back(1000 / gaps.back());
      }
    }
    row.Set("input_sequence_length", static_cast<std::int64_t>(sample.input_tokens));
    row.Set("output_sequence_length", static_cast<std::int64_t>(sample.output_tokens));
    rows.push_back(std::move(row));
  }
  const double tokens = std::accumulate(outputs.begin(), outputs.end(), 0.0);
  const double count = static_cast<double>(total.size());
  wire::Json out(wire::Json::Object{});
  SetStatistics(out, "time_to_first_token", "ms", std::move(first));
  SetStatistics(out, "inter_token_latency", "ms", std::move(gaps));
  SetStatistics(out, "inter_chunk_latency", "ms", std::move(chunk_gaps));
  SetStatistics(out, "request_latency", "ms", std::move(total));
  SetStatistics(out, "input_sequence_length", "tokens", std::move(inputs));
  SetStatistics(out, "output_sequence_length", "tokens", std::move(outputs));
  SetStatistics(out, "output_token_throughput_per_user", "tokens/sec/user", std::move(per_user));
  out.Set("output_token_throughput", Scalar("tokens/sec", tokens / load.elapsed_s));
  out.Set("request_throughput", Scalar("requests/sec", count / load.elapsed_s));
  out.Set("request_count", Scalar("requests", count));
  out.Set("error_request_count", Scalar("requests", static_cast<double>(failed)));
  out.Set("good_request_count", Scalar("requests", static_cast<double>(good)));
  out.Set("goodput", Scalar("requests/sec", static_cast<double>(good) / load.elapsed_s));
  out.Set("benchmark_duration", Scalar("sec", load.elapsed_s));
  out.Set("pixii_requests", std::move(rows));
  return out;
}

std::string_view LoadComparison::verdict() const {
  return ratio_high < 1 ? "better" : ratio_low > 1 ? "worse" : "not told apart";
}

Result<std::vector<LoadComparison>> CompareLoads(const wire::Json& first,
                                                 const wire::Json& second) {
  constexpr std::pair<const char*, double> kMeasures[] = {
      {"mean", -1}, {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}};
  std::vector<LoadComparison> out;
  rt::Random random(1);
  for (const char* key : {"time_to_first_token", "inter_token_latency", "request_latency"}) {
    const Result<std::vector<double>> a = Column(first, key, "first");
    const Result<std::vector<double>> b = Column(second, key, "second");
    const bool optional = std::string_view(key) == "inter_token_latency";  // answers of one token
    if (!a || !b) {
      if (optional) {
        continue;
      }
      return Fail(a ? b.error() : a.error());
    }
    for (const auto& [name, q] : kMeasures) {
      std::vector<double> room;
      std::vector<double> ratios;
      for (std::size_t i = 0; i < kResamples; ++i) {
        const double base = Resampled(*a, q, random, room);
        const double other = Resampled(*b, q, random, room);
        ratios.push_back(base > 0 ? other / base : 1);
      }
      LoadComparison& row = out.emplace_back();
      row.name = fmt::format("{} {}", key, name);
      row.first = q < 0 ? Mean(*a) : Quantile(*a, q);
      row.second = q < 0 ? Mean(*b) : Quantile(*b, q);
      row.ratio_low = Quantile(ratios, 0.025);
      row.ratio_high = Quantile(ratios, 0.975);
    }
  }
  return out;
}

}  // namespace pixii::bench
