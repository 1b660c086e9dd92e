#include "apps/handover_unit.h"

#include <fmt/format.h>

#include <array>

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
  if (engine.kv_transfer_legacy_ucx && engine.kv_transfer == "default") {
    obs::Event(log, obs::EventId::kTransferVariable).kv("kv_transfer", engine.kv_transfer);
  }
  return std::unique_ptr<HandoverUnit>(
      new HandoverUnit(loop, log, std::move(flags), engine));  // tidy: new private constructor
}

Result<std::unique_ptr<kv::Connector>> HandoverUnit::Make(const kv::BlockGeometry& geometry) {
  if (engine_.kv_transfer == "shm" && geometry.memory == nullptr) {
    return Fail(Code::kUnsupported,
                "kv-transfer: shm does not go with this engine, whose KV blocks no other process "
                "can map; default takes tcp for them",
                "kv-transfer");
  }
  kv::HandoverOptions own;
  own.key = flags_.cluster_key;
  own.geometry = geometry;
  own.timeout = std::chrono::milliseconds(engine_.kv_transfer_timeout_ms);
  own.chunk_tokens = static_cast<std::uint32_t>(engine_.kv_transfer_buffer_tokens);
  own.pipelined = engine_.kv_transfer_pipelined;
  own.log = &log_;
  PX_TRY(std::unique_ptr<kv::HandoverConnector> made,
         kv::HandoverConnector::Create(std::move(own), MakerOf({.host = flags_.host,
                                                                .key = flags_.cluster_key,
                                                                .flags = engine_,
                                                                .log = &log_})));
  std::string transports;
  for (const transport::TransportCounters& each : made->transfers().transports) {
    transports += fmt::format("{}{}", transports.empty() ? "" : ",", each.transport);
  }
  obs::Event(log_, obs::EventId::kTransferOpened)
      .kv("role", flags_.role)
      .kv("kv_transfer", engine_.kv_transfer)
      .kv("transports", transports)
      .kv("host", flags_.host);
  connectors_.push_back(made.get());
  return std::unique_ptr<kv::Connector>(std::move(made));
}

worker::HandoverKeeper& HandoverUnit::keeper() {
  if (!keeper_) {
    std::vector<std::unique_ptr<worker::HandoverKeeper>> ranks;
    for (kv::HandoverConnector* const connector : connectors_) {
      ranks.push_back(std::make_unique<worker::ConnectorKeeper>(loop_, *connector));
    }
    keeper_.emplace(std::move(ranks));
  }
  return *keeper_;
}

void HandoverUnit::AddFigures(std::vector<AgentFigures>& out) const {
  for (const kv::HandoverConnector* connector : connectors_) {
    out.push_back({.counters = connector->transfers(), .peers = connector->peers()});
  }
}

// Over all ranks.
void HandoverUnit::Export(const std::string& model, obs::Registry& registry) {
  using kv::HandoverCounters;
  using kv::HandoverState;
  using obs::MetricId;
  const auto sum = [&](const auto& of) {
    std::uint64_t all = 0;
    for (const kv::HandoverConnector* connector : connectors_) {
      all += of(connector->counters());
    }
    return all;
  };
  using Count = std::atomic<std::uint64_t> HandoverCounters::*;
  const auto now = [&](MetricId id, Count count) {
    registry.GetGauge(id, {model}).Set(static_cast<double>(sum([&](const HandoverCounters& one) {
      return (one.*count).load();
    })));
  };
  const auto total = [&](MetricId id, Count count) {
    registry.GetCounter(id, {model}).SetTotal(sum([&](const HandoverCounters& one) {
      return (one.*count).load();
    }));
  };
  const auto ended = [&](HandoverCounters::Ends HandoverCounters::* side, HandoverState state) {
    return sum([&](const HandoverCounters& one) {
      return (one.*side)[static_cast<std::size_t>(state)].load();
    });
  };
  const auto ends = [&](const char* name, HandoverCounters::Ends HandoverCounters::* side) {
    for (std::size_t i = 0; i < kv::kHandoverStateCount; ++i) {
      const auto state = static_cast<HandoverState>(i);
      if (kv::IsEnd(state)) {
        registry.GetCounter(MetricId::kHandoverEndsTotal, {model, name, kv::NameOf(state)})
            .SetTotal(ended(side, state));
      }
    }
  };
  if (flags_.role == "prefill") {
    ends("offer", &HandoverCounters::offer_ends);
    now(MetricId::kHandoverOffers, &HandoverCounters::offers);
    now(MetricId::kHandoverBlocks, &HandoverCounters::offered_blocks);
    registry.GetGauge(MetricId::kTrtBlocksPinned, {model, "prefill", "trtllm", "transfer"})
        .Set(static_cast<double>(
            sum([](const HandoverCounters& one) { return one.offered_blocks.load(); })));
    total(MetricId::kHandoverEarlyOffersTotal, &HandoverCounters::early_offers);
    return;
  }
  ends("load", &HandoverCounters::load_ends);
  now(MetricId::kHandoverLoads, &HandoverCounters::loads_running);
  total(MetricId::kHandoverBytesTotal, &HandoverCounters::loaded_bytes);
  total(MetricId::kHandoverChunksTotal, &HandoverCounters::chunks);
  total(MetricId::kHandoverEarlyBlocksTotal, &HandoverCounters::early_blocks);
  total(MetricId::kHandoverCorruptTotal, &HandoverCounters::corrupt_blocks);
  total(MetricId::kHandoverRefusedTotal, &HandoverCounters::refused_records);
  const std::initializer_list<std::string_view> labels = {model, "decode", "trtllm"};
  for (const auto& [reason, state] :
       {std::pair<std::string_view, HandoverState>("failed", HandoverState::kFailed),
        {"expired", HandoverState::kExpired},
        {"cancelled", HandoverState::kCancelled}}) {
    registry.GetCounter(MetricId::kTrtTransferFailure, {model, "decode", "trtllm", reason})
        .SetTotal(ended(&HandoverCounters::load_ends, state));
  }
  registry.GetCounter(MetricId::kTrtTransferFailure, {model, "decode", "trtllm", "corrupt_blocks"})
      .SetTotal(sum([](const HandoverCounters& one) { return one.corrupt_blocks.load(); }));
  registry.GetCounter(MetricId::kTrtTransferFailure, {model, "decode", "trtllm", "refused_record"})
      .SetTotal(sum([](const HandoverCounters& one) { return one.refused_records.load(); }));
  registry.GetGauge(MetricId::kTrtTransferInflight, labels)
      .Set(static_cast<double>(
          sum([](const HandoverCounters& one) { return one.loads_running.load(); })));
  registry.GetHistogram(MetricId::kKvTransferLatencySeconds, labels);
  registry.GetHistogram(MetricId::kKvTransferBytes, labels);
  registry.GetHistogram(MetricId::kKvTransferSpeed, labels);
  registry.GetCounter(MetricId::kKvTransferSuccessTotal, labels)
      .SetTotal(ended(&HandoverCounters::load_ends, HandoverState::kDone));
  for (kv::HandoverConnector* connector : connectors_) {
    if (const std::string transport = connector->transport(); !transport.empty()) {
      registry.GetGauge(MetricId::kHandoverTransport, {model, transport}).Set(1);
    }
    for (const kv::HandoverSample& sample : connector->TakeSamples()) {
      const double seconds = std::chrono::duration<double>(sample.took).count();
      const auto bytes = static_cast<double>(sample.bytes);
      registry.GetHistogram(MetricId::kKvTransferLatencySeconds, labels).Observe(seconds);
      registry.GetHistogram(MetricId::kKvTransferBytes, labels).Observe(bytes);
      registry.GetHistogram(MetricId::kKvTransferSpeed, labels)
          .Observe(seconds > 0 ? bytes / seconds / 1e9 : 0);
    }
  }
}

}  // namespace pixii::apps
