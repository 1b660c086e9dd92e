#include "frontend/frontend_metrics.h"

#include <utility>

namespace pixii::frontend {

namespace {

using obs::MetricId;

double Seconds(rt::Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string_view EndpointName(Surface surface) {
  switch (surface) {
    case Surface::kChat:
      return "chat_completions";
    case Surface::kEmbeddings:
      return "embeddings";
    case Surface::kScore:
      return "score";
    case Surface::kRerank:
      return "rerank";
    case Surface::kClassify:
      return "classify";
    case Surface::kMessages:
      return "anthropic_messages";
    case Surface::kResponses:
      return "responses";
    case Surface::kKserve:
      return "kserve";
    case Surface::kTokens:
      return "generate";
    default:
      return "completions";
  }
}

std::string_view TypeName(bool stream) { return stream ? "stream" : "unary"; }

}  // namespace

obs::Histogram& StageHistogram(obs::Registry& registry, Stage stage) {
  constexpr std::string_view kNames[] = {"preprocess", "route", "transport_roundtrip",
                                         "postprocess"};
  return registry.GetHistogram(MetricId::kStageDurationSeconds,
                               {kNames[static_cast<std::size_t>(stage)]});
}

FrontendMetrics::FrontendMetrics(obs::Registry& registry, std::string model,
                                 const wire::ModelCard& card)
    : registry_(registry),
      model_(std::move(model)),
      hold_(registry, model_),
      output_tokens_(registry.GetCounter(MetricId::kOutputTokensTotal, {model_})),
      recomputed_(registry.GetCounter(MetricId::kAnswersRecomputedTotal, {model_})),
      duration_(registry.GetHistogram(MetricId::kRequestDurationSeconds, {model_})),
      first_token_(registry.GetHistogram(MetricId::kTimeToFirstTokenSeconds, {model_})),
      between_tokens_(registry.GetHistogram(MetricId::kInterTokenLatencySeconds, {model_})),
      input_(registry.GetHistogram(MetricId::kInputSequenceTokens, {model_})),
      output_(registry.GetHistogram(MetricId::kOutputSequenceTokens, {model_})),
      cached_(registry.GetHistogram(MetricId::kCachedTokens, {model_})),
      hit_rate_(registry.GetHistogram(MetricId::kKvHitRate, {model_})),
      preprocess_(StageHistogram(registry, Stage::kPreprocess)),
      transport_(StageHistogram(registry, Stage::kTransport)),
      postprocess_(StageHistogram(registry, Stage::kPostprocess)),
      started_(registry.GetCounter(MetricId::kRequestsStartedTotal, {model_})),
      preparing_(registry.GetGauge(MetricId::kStageRequests, {"preprocess", ""})),
      dispatched_(registry.GetGauge(MetricId::kStageRequests, {"dispatch", ""})),
      disconnected_(registry.GetGauge(MetricId::kDisconnectedClients, {model_})),
      active_(registry.GetGauge(MetricId::kActiveRequests, {model_})),
      inflight_(registry.GetGauge(MetricId::kInflightRequests, {model_})),
      queued_(registry.GetGauge(MetricId::kQueuedRequests, {model_})) {
  auto set = [&](MetricId id, double value) { registry.GetGauge(id, {model_}).Set(value); };
  set(MetricId::kModelTotalKvBlocks, card.block_count);
  set(MetricId::kModelMaxNumSeqs, card.batch_sequences_max);
  set(MetricId::kModelMaxNumBatchedTokens, card.batch_tokens_max);
  set(MetricId::kModelContextLength, card.context_tokens_max);
  set(MetricId::kModelKvCacheBlockSize, card.block_tokens);
  set(MetricId::kModelMigrationLimit, 0);
  for (const std::string_view gate : {"quota", "busy", "requests"}) {
    registry.GetCounter(MetricId::kAdmissionRejectionTotal, {gate, model_});
  }
  StageHistogram(registry, Stage::kRoute);
  registry.GetGauge(MetricId::kStageRequests, {"route", ""});
  // Series of few values stand at zero from the start, so that rates have a first point.
  for (Surface surface : {Surface::kChat, Surface::kCompletions, Surface::kEmbeddings,
                          Surface::kScore, Surface::kRerank, Surface::kClassify, Surface::kMessages,
                          Surface::kResponses, Surface::kKserve, Surface::kTokens}) {
    for (const bool stream : {false, true}) {
      registry.GetCounter(MetricId::kModelCancellationTotal,
                          {model_, EndpointName(surface), TypeName(stream)});
    }
    registry.GetCounter(MetricId::kModelRejectionTotal, {model_, EndpointName(surface)});
  }
}

void FrontendMetrics::OnRequest(Surface surface, bool stream, int status,
                                std::string_view error_class) {
  CountRequest(registry_, model_, surface, stream, status, error_class);
}

void FrontendMetrics::CountRequest(obs::Registry& registry, std::string_view model, Surface surface,
                                   bool stream, int status, std::string_view error_class) {
  registry
      .GetCounter(MetricId::kRequestsTotal, {model, EndpointName(surface), TypeName(stream),
                                             status == 200 ? "success" : "error", error_class})
      .Add();
}

void FrontendMetrics::ExportCanaries(obs::Registry& registry, const std::string& model,
                                     const control::CanaryCounts& counts) {
  const auto total = [&](std::string_view result, std::uint64_t count) {
    registry.GetCounter(MetricId::kCanariesTotal, {model, result}).SetTotal(count);
  };
  total("ok", counts.ok);
  total("failed", counts.failed);
  total("busy", counts.busy);
}

void FrontendMetrics::OnAdmitted() {
  started_.Add();
  active_.Add(1);
  inflight_.Add(1);
  dispatched_.Add(1);
}

void FrontendMetrics::OnGeneration(const GenerationRecord& record, rt::Time now) {
  active_.Add(-1);
  inflight_.Add(-1);
  dispatched_.Add(-1);
  postprocess_.Observe(Seconds(record.postprocess));
  if (record.first_frame != rt::kNever) {
    transport_.Observe(Seconds(record.first_frame - record.started));
  }
  recomputed_.Add(record.recomputed ? 1 : 0);
  duration_.Observe(Seconds(now - record.started), obs::Exemplar{record.trace_id});
  input_.Observe(static_cast<double>(record.prompt_tokens));
  output_.Observe(static_cast<double>(record.output_tokens));
  cached_.Observe(static_cast<double>(record.cached_tokens));
  if (record.prompt_tokens > 0 && record.first_token != rt::kNever) {
    hit_rate_.Observe(static_cast<double>(record.cached_tokens) /
                      static_cast<double>(record.prompt_tokens));
  }
  if (record.error && record.error->code() == Code::kResourceExhausted) {
    OnRejected(record.surface);
  }
  if (record.error && record.error->code() == Code::kCancelled) {
    ++cancelled_count_;
    disconnected_.Add(1);
    registry_
        .GetCounter(MetricId::kModelCancellationTotal,
                    {model_, EndpointName(record.surface), TypeName(record.stream)})
        .Add();
  }
}

void FrontendMetrics::OnTokens(const GenerationRecord& record, std::uint64_t count, rt::Time now) {
  output_tokens_.Add(count);
  if (record.last_token == rt::kNever) {
    first_token_.Observe(Seconds(now - record.started), obs::Exemplar{record.trace_id});
    return;
  }
  between_tokens_.Observe(Seconds(now - record.last_token) / static_cast<double>(count), count);
}

void FrontendMetrics::OnPrepared(rt::Duration took) {
  preparing_.Add(-1);
  preprocess_.Observe(Seconds(took));
}

void FrontendMetrics::OnRejected(Surface surface) {
  registry_.GetCounter(MetricId::kModelRejectionTotal, {model_, EndpointName(surface)}).Add();
}

}  // namespace pixii::frontend
