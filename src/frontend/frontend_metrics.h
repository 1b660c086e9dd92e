// What the frontend counts, under Dynamo's names, in the process's
// registry.
//
// Thread: the frontend's loop; frontends on several loops may share a registry.
// Label values come from closed sets: no client can make a new series.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "control/engine_watch.h"
#include "control/worker_link.h"
#include "frontend/generation.h"
#include "obs/metrics.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// Stands for the model of requests that name none that is served.
inline constexpr std::string_view kUnknownModel = "unknown";

/// What a request goes through at a frontend.
enum class Stage : std::uint8_t { kPreprocess, kRoute, kTransport, kPostprocess };

/// Of the series of stage_duration_seconds.
obs::Histogram& StageHistogram(obs::Registry& registry, Stage stage);

class FrontendMetrics final {
 public:
  /// `registry` outlives it.
  FrontendMetrics(obs::Registry& registry, std::string model, const wire::ModelCard& card);

  /// A generation request was answered, or refused with `status`. `error_class`: of MetricClass.
  void OnRequest(Surface surface, bool stream, int status, std::string_view error_class);
  /// The same of any model. `model`: one that is served, or kUnknownModel.
  static void CountRequest(obs::Registry& registry, std::string_view model, Surface surface,
                           bool stream, int status, std::string_view error_class);
  /// A generation was admitted; OnGeneration follows when its client was answered.
  void OnAdmitted();
  void OnGeneration(const GenerationRecord& record, rt::Time now);
  void OnTokens(const GenerationRecord& record, std::uint64_t count, rt::Time now);
  void OnRejected(Surface surface);

  /// Its body is read, and its prompt made; OnPrepared follows, with what that took.
  void OnPreparing() { preparing_.Add(1); }

  void OnPrepared(rt::Duration took);

  /// Before the registry is read.
  void Observe(const control::WorkerLoad& load) { queued_.Set(load.queued); }

  /// The same; to any registry.
  static void ExportCanaries(obs::Registry& registry, const std::string& model,
                             const control::CanaryCounts& counts);

  std::uint64_t cancelled() const { return cancelled_count_; }

 private:
  obs::Registry& registry_;
  std::string model_;
  obs::ModelHold hold_;
  std::uint64_t cancelled_count_ = 0;
  obs::Counter& output_tokens_;
  obs::Counter& recomputed_;
  obs::Histogram& duration_;
  obs::Histogram& first_token_;
  obs::Histogram& between_tokens_;
  obs::Histogram& input_;
  obs::Histogram& output_;
  obs::Histogram& cached_;
  obs::Histogram& hit_rate_;
  obs::Histogram& preprocess_;
  obs::Histogram& transport_;
  obs::Histogram& postprocess_;
  obs::Counter& started_;
  obs::Gauge& preparing_;
  obs::Gauge& dispatched_;
  obs::Gauge& disconnected_;
  obs::Gauge& active_;
  obs::Gauge& inflight_;
  obs::Gauge& queued_;
};

}  // namespace pixii::frontend
