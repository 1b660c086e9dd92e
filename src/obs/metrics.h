// Counters, gauges and histograms by table, written as Prometheus text.
//
// Thread: Get and Expose take a lock; the handles they give are atomic and may be used from any
// thread. Hot paths keep the handle. Handles live as long as the registry, but for those of series
// that are dropped.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rt/thread.h"

namespace pixii::obs {

enum class MetricId : std::uint16_t {
#define PX_COUNTER(id, group, name, labels, help) id,
#define PX_GAUGE(id, group, name, labels, help) id,
#define PX_HISTOGRAM(id, group, name, labels, buckets, help) id,
#include "obs/metrics.def"
#undef PX_COUNTER
#undef PX_GAUGE
#undef PX_HISTOGRAM
};

class Counter final {
 public:
  void Add(std::uint64_t count = 1) { value_.fetch_add(count, std::memory_order_relaxed); }

  /// For a count kept elsewhere: moves to `total`. Pre: totals never fall.
  void SetTotal(std::uint64_t total) { value_.store(total, std::memory_order_relaxed); }

  std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class Gauge final {
 public:
  void Set(double value) { value_.store(value, std::memory_order_relaxed); }

  void Add(double change) { value_.fetch_add(change, std::memory_order_relaxed); }

  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

/// What one observation was of: a request's trace, 32 hexadecimal digits; empty: of none.
struct Exemplar {
  std::string_view trace_id;
};

class Histogram final {
 public:
  static constexpr std::size_t kBucketsMax = 24;
  static constexpr std::size_t kTraceIdSize = 32;

  /// `bounds` ascending, at most kBucketsMax; +Inf is implied.
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds) {}

  void Observe(double value) { Observe(value, 1); }

  /// `count` observations of the same value.
  void Observe(double value, std::uint64_t count);

  /// One observation whose trace OpenMetrics shows beside its bucket until the next one there that
  /// has one. Without a trace, or with none of kTraceIdSize characters: as Observe(value).
  void Observe(double value, Exemplar exemplar);

  std::uint64_t count() const;
  double sum() const;

 private:
  friend class Registry;

  struct Shown {
    std::array<char, kTraceIdSize> trace_id{};
    double value = 0;
    bool set = false;
  };

  std::size_t BucketOf(double value) const;
  Shown ShownAt(std::size_t bucket) const;

  std::span<const double> bounds_;
  std::array<std::atomic<std::uint64_t>, kBucketsMax + 1> buckets_{};
  std::atomic<double> sum_{0};
  mutable rt::Mutex shown_mutex_;
  std::vector<Shown> shown_ PX_GUARDED_BY(shown_mutex_);  // [buckets], or empty: nothing yet
};

/// What Registry::Expose writes.
enum class Exposition : std::uint8_t {
  kText,         // Prometheus text format 0.0.4
  kOpenMetrics,  // OpenMetrics 1.0.0
};

/// Of the two, what a client wants that sent `accept`: OpenMetrics only if it is named.
Exposition ExpositionFor(std::string_view accept);

std::string_view ContentTypeOf(Exposition exposition);

/// Label values must come from closed sets; past `kSeriesMax` series of one family the rest share
/// one whose values are all "other", so that no client can grow memory.
class Registry final {
 public:
  static constexpr std::size_t kSeriesMax = 512;

  explicit Registry(std::string frontend_prefix = "dynamo_frontend");
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;
  ~Registry();

  /// The series of `id` with these label values, in the table's order; made at the first call.
  /// Pre: `id` is of that kind and the number of values is right.
  Counter& GetCounter(MetricId id, std::initializer_list<std::string_view> label_values = {});
  Gauge& GetGauge(MetricId id, std::initializer_list<std::string_view> label_values = {});
  Histogram& GetHistogram(MetricId id, std::initializer_list<std::string_view> label_values = {});

  /// Takes the series back, if it is there; what was got of it is void.
  void Drop(MetricId id, std::initializer_list<std::string_view> label_values);

  /// Called at the start of each Expose, on its thread: where figures are copied that somebody else
  /// counts. To be set before the first Expose.
  void OnExpose(std::function<void()> collect) { collect_ = std::move(collect); }

  /// Families without series are left out.
  std::string Expose(Exposition exposition = Exposition::kText) const;

 private:
  friend class ModelHold;

  struct Series;
  struct Family;

  void HoldModel(const std::string& model);
  void LetModelGo(const std::string& model);

  Series& Get(MetricId id, std::initializer_list<std::string_view> label_values);

  std::string frontend_prefix_;
  std::function<void()> collect_;
  mutable rt::Mutex mutex_;
  std::vector<std::unique_ptr<Family>> families_ PX_GUARDED_BY(mutex_);
  std::map<std::string, std::uint32_t> models_ PX_GUARDED_BY(mutex_);  // holds of each
};

/// Somebody counts for a model. With the last hold of it all gauges go whose label `model` is this
/// one, and what was got of them is void: to be destroyed after whoever keeps a handle of one.
/// Counters and histograms stay: they tell what was, and go on if the model comes back.
class ModelHold final {
 public:
  /// `registry` outlives it.
  ModelHold(Registry& registry, std::string model) : registry_(registry), model_(std::move(model)) {
    registry_.HoldModel(model_);
  }

  ModelHold(const ModelHold&) = delete;
  ModelHold& operator=(const ModelHold&) = delete;

  ~ModelHold() { registry_.LetModelGo(model_); }

 private:
  Registry& registry_;
  std::string model_;
};

/// docs/reference/metrics.md.
std::string MetricsReference();

}  // namespace pixii::obs
