#include "apps/handover_unit.h"

#include <fmt/format.h>

#include <array>
#include "apps/transfer_agent_maker.h"

namespace pixii::apps {

Result<std::unique_ptr<HandoverUnit>> HandoverUnit::Open(rt::Loop& loop, obs::Log& log,
                                                         HandoverFlags flags,
                                                         const EngineFlags& engine) {
  if (!engine.prefix_cache) {
    return Fail(Code::kInvalidArgument,
                fmt::format("role: {} does not go with --no-prefix-cache: blocks are handed over "
                            "by the cache",
                            flags.role),
                "role");
  }
  if (engine.enable_attention_dp && engine.tensor_parallel_size > 1) {
    return Fail(Code::kUnsupported,
                fmt::format("role: {} does not go with --enable-attention-dp yet; its ranks can "
                            "be workers of their own",
                            flags.role),
                "role");
  }
  if (engine.kv_transfer_legacy_ucx && engine.kv_transfer == "default") {
    obs::Event(log, obs::EventId::kTransferVariable).kv("kv_transfer", engine.kv_transfer);
  }
  return std::unique_ptr<HandoverUnit>(
      new HandoverUnit(loop, log, std::move(flags), engine));  // tidy: new private constructor
}

Result<std::unique_ptr<kv::Connector>> HandoverUnit::Make(const kv::BlockGeometry& geometry) {
  kv::HandoverOptions own;
  own.key = flags_.cluster_key;
  own.geometry = geometry;
  own.timeout = std::chrono::milliseconds(engine_.kv_transfer_timeout_ms);
  own.chunk_tokens = static_cast<std::uint32_t>(engine_.kv_transfer_buffer_tokens);
  own.log = &log_;
  PX_TRY(std::unique_ptr<kv::HandoverConnector> made,
         kv::HandoverConnector::Create(std::move(own),
                                       MakerOf({.host = flags_.host, .key = flags_.cluster_key})));
  obs::Event(log_, obs::EventId::kTransferOpened)
      .kv("role", flags_.role)
      .kv("kv_transfer", engine_.kv_transfer)
      .kv("transports", "tcp")
      .kv("host", flags_.host);
  connector_ = made.get();
  keeper_.emplace(loop_, *made);
  return std::unique_ptr<kv::Connector>(std::move(made));
}

void HandoverUnit::Export(const std::string& model, obs::Registry& registry) const {
  using kv::HandoverState;
  using obs::MetricId;
  const kv::HandoverCounters& counters = connector_->counters();
  const auto now = [&](MetricId id, std::uint64_t value) {
    registry.GetGauge(id, {model}).Set(static_cast<double>(value));
  };
  const auto total = [&](MetricId id, std::uint64_t value) {
    registry.GetCounter(id, {model}).SetTotal(value);
  };
  const auto ends = [&](const char* side, const kv::HandoverCounters::Ends& of_side) {
    for (std::size_t i = 0; i < kv::kHandoverStateCount; ++i) {
      const auto state = static_cast<HandoverState>(i);
      if (kv::IsEnd(state)) {
        registry.GetCounter(MetricId::kHandoverEndsTotal, {model, side, kv::NameOf(state)})
            .SetTotal(of_side[i]);
      }
    }
  };
  if (flags_.role == "prefill") {
    ends("offer", counters.offer_ends);
    now(MetricId::kHandoverOffers, counters.offers);
    now(MetricId::kHandoverBlocks, counters.offered_blocks);
    return;
  }
  ends("load", counters.load_ends);
  if (const std::string transport = connector_->transport(); !transport.empty()) {
    registry.GetGauge(MetricId::kHandoverTransport, {model, transport}).Set(1);
  }
  now(MetricId::kHandoverLoads, counters.loads_running);
  total(MetricId::kHandoverBytesTotal, counters.loaded_bytes);
  total(MetricId::kHandoverChunksTotal, counters.chunks);
  total(MetricId::kHandoverCorruptTotal, counters.corrupt_blocks);
  total(MetricId::kHandoverRefusedTotal, counters.refused_records);
  const std::initializer_list<std::string_view> labels = {model, "decode", "trtllm"};
  registry.GetCounter(MetricId::kKvTransferSuccessTotal, labels)
      .SetTotal(counters.load_ends[static_cast<std::size_t>(HandoverState::kDone)]);
  for (const kv::HandoverSample& sample : connector_->TakeSamples()) {
    const double seconds = std::chrono::duration<double>(sample.took).count();
    const auto bytes = static_cast<double>(sample.bytes);
    registry.GetHistogram(MetricId::kKvTransferLatencySeconds, labels).Observe(seconds);
    registry.GetHistogram(MetricId::kKvTransferBytes, labels).Observe(bytes);
    registry.GetHistogram(MetricId::kKvTransferSpeed, labels)
        .Observe(seconds > 0 ? bytes / seconds / 1e9 : 0);
  }
}

}  // namespace pixii::apps
