#include "frontend/model_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::frontend {

namespace {

control::ReadinessOptions ReadinessOf(const FrontendOptions& options) {
  return {.canary_interval = options.canary_interval,
          .canary_timeout = options.canary_timeout,
          .stall_limit = options.stall_limit};
}

}  // namespace

ModelService::ModelService(ServiceHost& host, ServiceId id, ServedModel model,
                           std::shared_ptr<control::WorkerLink> link, obs::Registry& registry)
    : host_(host),
      id_(id),
      model_(std::make_shared<const ServedModel>(std::move(model))),
      link_(std::move(link)),
      metrics_(registry, model_->name(), link_->card()),
      watch_(host.loop(), *link_, ReadinessOf(host.options()), [this] { return NextRequestId(); }) {
  if (model_->text) {
    using obs::MetricId;
    model_->text->Meter(
        {.tokenize_ms = &registry.GetHistogram(MetricId::kTokenizerLatencyMs, {"tokenize"}),
         .detokenize_ms = &registry.GetHistogram(MetricId::kTokenizerLatencyMs, {"detokenize"}),
         .tokenize_seconds = &registry.GetHistogram(MetricId::kTokenizeSeconds),
         .template_seconds = &registry.GetHistogram(MetricId::kTemplateSeconds),
         .detokenize_per_token_us = &registry.GetHistogram(MetricId::kDetokenizePerTokenUs)});
  }
}

bool ModelService::Serves(std::string_view wanted) const {
  return model_->Serves(wanted) ||
         std::ranges::find(card().adapters, wanted, &wire::AdapterCard::name) !=
             card().adapters.end();
}

Result<void> ModelService::SetBusyThresholds(const control::BusyThresholds& thresholds) {
  const auto set = [&thresholds](control::BusyThresholds& all) {
    all.decode_blocks = thresholds.decode_blocks ? thresholds.decode_blocks : all.decode_blocks;
    all.prefill_tokens = thresholds.prefill_tokens ? thresholds.prefill_tokens : all.prefill_tokens;
    all.prefill_tokens_frac =
        thresholds.prefill_tokens_frac ? thresholds.prefill_tokens_frac : all.prefill_tokens_frac;
  };
  if (link_->routes()) {
    control::BusyThresholds all = link_->busy_thresholds();
    set(all);
    return link_->SetBusyThresholds(all);
  }
  if (thresholds.prefill_tokens || thresholds.prefill_tokens_frac) {
    return Fail(Code::kUnsupported,
                "active_prefill_tokens_threshold: this server has one worker, and no router that "
                "would choose",
                "active_prefill_tokens_threshold");
  }
  set(busy_);
  return {};
}

Result<void> ModelService::AdmitByLoad() const {
  if (!busy_.decode_blocks) {
    return {};
  }
  const control::WorkerLoad load = link_->load();
  if (load.blocks_total == 0 ||
      load.blocks_used <= *busy_.decode_blocks * static_cast<double>(load.blocks_total)) {
    return {};
  }
  return Fail(Code::kResourceExhausted,
              fmt::format("{} of {} blocks of the KV cache are in use, past the busy threshold {}",
                          load.blocks_used, load.blocks_total, *busy_.decode_blocks));
}

void ModelService::OnTokens(const GenerationRecord& record, std::uint64_t count) {
  watch_.OnToken();
  if (!record.ahead) {
    metrics_.OnTokens(record, count, Now());
  }
}

void ModelService::OnAnswered(const GenerationRecord& record) {
  if (record.ahead) {
    return;  // what clients asked is counted, and nothing else
  }
  metrics_.OnRequest(record.surface, record.stream,
                     record.error ? ClientStatus(*record.error) : 200,
                     record.error ? MetricClass(*record.error) : std::string_view());
  metrics_.OnGeneration(record, Now());
}

}  // namespace pixii::frontend
