#include "apps/encode_unit.h"

#include <fmt/format.h>

#include <utility>

#include "apps/model_host.h"
#include "apps/model_source.h"
#include "apps/transfer_agent_maker.h"
#include "apps/version.h"
#include "model/checkpoint_folder.h"
#include "model/inspect.h"
#include "model/vision_processor.h"
#include "model/vision_tower.h"

namespace pixii::apps {

Result<void> EncodeUnit::Prepare(const std::string& model) {
  const EngineFlags& flags = options_.engine;
  PX_CHECK_OK(CheckTransfer(flags));
  PX_TRY(const std::string asked, WithRevision(model, options_.model.revision));
  PX_TRY(const ModelSource source, ResolveModel(asked, options_.offline));
  folder_ = text_folder_ = source.folder;
  name_ = options_.model.served_model_name.empty() ? source.name : options_.model.served_model_name;
  obs::Event(log_, obs::EventId::kServeStarting)
      .kv("model", source.folder)
      .kv("version", kVersion)
      .kv("commit", kCommit);
  if (!options_.model.tokenizer.empty()) {
    PX_TRY(const ModelSource texts, ResolveModel(options_.model.tokenizer, options_.offline));
    text_folder_ = texts.folder;
  }
  PX_TRY(model::InspectReport report, model::InspectFolder(folder_));
  spec_ = std::move(report.spec);
  if (!spec_.vision) {
    return Fail(Code::kUnsupported,
                fmt::format("role: encode is for models that see, and {} ({}) reads text alone",
                            name_, spec_.architecture),
                "role");
  }
  PX_TRY(operators_, MakeOperators(flags));
  PX_TRY(const auto make_encoder, EncodersOf(folder_, *spec_.vision, operators_.get(), flags));
  encoder_ = make_encoder();
  numerics_id_ = TowerNumerics(flags, *operators_);
  return {};
}

Result<void> EncodeUnit::Connect() {
  const EngineFlags& flags = options_.engine;
  const wire::VisionCard vision = encoder_->card();
  PX_TRY(const std::uint64_t cache_bytes, MediaCacheBytes(flags));
  const kv::AgentMaker make =
      MakerOf({.host = options_.host, .key = options_.cluster_key, .flags = flags, .log = &log_});
  PX_TRY(std::shared_ptr<transport::Agent> agent, make(loop_, [] {}));  // it posts nothing itself
  auto store = std::make_unique<worker::FeatureStore>(
      worker::FeatureStoreOptions{.own = {.model_fingerprint = spec_.fingerprint,
                                          .numerics_id = numerics_id_,
                                          .row_size = vision.row_size},
                                  .key = options_.cluster_key,
                                  .bytes_max = cache_bytes,
                                  .shares_memory = SharesMemory(flags)},
      std::move(agent));
  worker::EncoderLinkOptions options;
  options.requests_max = static_cast<std::uint32_t>(flags.queue_length);
  options.lease = std::chrono::milliseconds(flags.kv_transfer_timeout_ms);
  wire::ModelCard& card = options.card;
  card.name = name_;
  card.fingerprint = spec_.fingerprint;
  card.numerics_id = numerics_id_;
  card.vocab_size = static_cast<std::uint32_t>(spec_.vocab_size);
  card.context_tokens_max = static_cast<std::uint32_t>(spec_.context_tokens_max);
  card.block_tokens = static_cast<std::uint32_t>(flags.block_size);
  card.batch_sequences_max = options.requests_max;
  card.batch_tokens_max = card.context_tokens_max;
  card.eos_token_ids = spec_.eos_token_ids;
  card.bos_token_id = spec_.bos_token_id;
  card.vision = vision;
  link_ = std::make_unique<worker::EncoderLink>(loop_, std::move(options), std::move(encoder_),
                                                std::move(store));
  obs::Event(log_, obs::EventId::kModelLoaded)
      .kv("architecture", spec_.architecture)
      .kv("numerics_id", numerics_id_)
      .kv("role", "encode");
  return {};
}

void EncodeUnit::Export(obs::Registry& registry) const {
  using obs::MetricId;
  const worker::EncoderCounters& counters = link_->counters();
  const auto total = [&](MetricId id, std::uint64_t value) {
    registry.GetCounter(id, {name_}).SetTotal(value);
  };
  const auto now = [&](MetricId id, std::uint64_t value) {
    registry.GetGauge(id, {name_}).Set(static_cast<double>(value));
  };
  total(MetricId::kMediaEncodedTotal, counters.encoded);
  total(MetricId::kMediaCacheHitsTotal, counters.cache_hits);
  total(MetricId::kMediaEncodeFailedTotal, counters.failed);
  total(MetricId::kMediaEncodeCancelledTotal, counters.cancelled);
  now(MetricId::kMediaFeaturesBytes, link_->store().size_bytes());
  now(MetricId::kMediaFeaturesPinnedBytes, link_->store().pinned_bytes());
  now(MetricId::kMediaFeaturesKept, link_->outstanding_count());
}

void EncodeUnit::DumpState(std::size_t requests) const {
  const control::WorkerLoad load = link_->load();
  obs::Event(log_, obs::EventId::kStateDump)
      .kv("requests", requests)
      .kv("running", load.running)
      .kv("waiting", load.queued)
      .kv("features", link_->store().count())
      .kv("features_bytes", link_->store().size_bytes())
      .kv("features_pinned_bytes", link_->store().pinned_bytes());
}

void EncodeUnit::AddFigures(std::vector<AgentFigures>& out) const {
  const transport::Agent& agent = link_->store().agent();
  out.push_back({.counters = agent.counters(), .peers = agent.peers()});
}

}  // namespace pixii::apps
