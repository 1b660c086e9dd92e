// What the frontend counts, under Dynamo's names (spec/trtllm-backend.md 10.6), in Prometheus' text
// format.
//
// Thread: the frontend's loop.
// Label values come from closed sets: no client can make a new series.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "control/worker_link.h"
#include "frontend/generation.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// Counts of values up to each bound, and their sum.
class Histogram final {
 public:
  explicit Histogram(std::span<const double> bounds);

  void Add(double value, std::uint64_t times = 1);
  /// Appends buckets, sum and count.
  void Render(std::string& out, std::string_view name, std::string_view labels) const;

  std::uint64_t count() const { return count_; }

 private:
  std::span<const double> bounds_;
  std::vector<std::uint64_t> counts_;  // [bounds + 1], not cumulative
  double sum_ = 0;
  std::uint64_t count_ = 0;
};

/// What is read at the time of a scrape.
struct FrontendGauges {
  std::uint64_t active_requests = 0;
  std::uint64_t connections = 0;
  bool ready = false;
  control::WorkerLoad load;
  const wire::ModelCard* card = nullptr;
};

class FrontendMetrics final {
 public:
  explicit FrontendMetrics(std::string model);

  /// A generation request was answered, or refused with `status`.
  void OnRequest(Surface surface, bool stream, int status, std::string_view error_class);
  void OnGeneration(const GenerationRecord& record, rt::Time now);
  void OnTokens(const GenerationRecord& record, std::uint64_t count, rt::Time now);
  void OnTokenized(std::uint64_t nanoseconds, bool encode);
  void OnRejected(Surface surface);

  std::string Render(const FrontendGauges& gauges) const;

  std::uint64_t requests() const { return requests_count_; }

  std::uint64_t cancelled() const { return cancelled_count_; }

  std::uint64_t output_tokens() const { return output_tokens_; }

 private:
  using RequestKey = std::tuple<Surface, bool, int, std::string_view>;  // a closed set

  std::string model_;  // as a label value
  std::map<RequestKey, std::uint64_t> requests_;
  std::map<std::pair<Surface, bool>, std::uint64_t> cancellations_;
  std::map<Surface, std::uint64_t> rejections_;
  std::uint64_t requests_count_ = 0;
  std::uint64_t cancelled_count_ = 0;
  std::uint64_t output_tokens_ = 0;
  Histogram duration_;
  Histogram ttft_;
  Histogram itl_;
  Histogram input_;
  Histogram output_;
  Histogram cached_;
};

}  // namespace pixii::frontend
