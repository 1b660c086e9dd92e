#include "apps/kv_connector.h"

#include <utility>

#include <fmt/format.h>

#include "apps/kv_tiers.h"
#include "kv/connector_plugin.h"
#include "kv/tiers/block_record.h"
#include "rt/time.h"
#include "wire/json.h"

namespace pixii::apps {

namespace {

constexpr std::string_view kFlag = "kv-connector";
constexpr std::string_view kLabel = "connector";  // in the place of a tier

Error AtFlag(const std::string& flag, const Error& error) {
  return Error(error.code(),
               fmt::format("{}: \"{}\": {}", kFlag, flag.substr(0, 200), error.detail()),
               std::string(kFlag));
}

}  // namespace

Result<std::unique_ptr<kv::Connector>> KvConnector::Make(const kv::BlockGeometry& geometry,
                                                         std::uint32_t rank) {
  const std::string& flag = flags_.kv_connector;
  if (flag.empty() || flags_.connector == "none") {
    return std::unique_ptr<kv::Connector>();
  }
  if (geometry.block_size_bytes == 0) {
    return Fail(Code::kUnsupported,
                "kv-connector: this engine's KV blocks have no bytes that could be kept elsewhere",
                std::string(kFlag));
  }
  if (!flags_.prefix_cache) {
    return Fail(Code::kInvalidArgument,
                "prefix-cache: a connector keeps blocks of earlier requests, which false forbids",
                "prefix-cache");
  }
  const std::size_t equals = std::min(flag.find('='), flag.size());
  const std::string path = flag.substr(0, equals);
  const std::string config = equals < flag.size() ? flag.substr(equals + 1) : "{}";
  if (const Result<wire::Json> parsed = wire::ParseJson(config); !parsed || !parsed->is_object()) {
    return Fail(AtFlag(
        flag, Error(Code::kInvalidArgument,
                    parsed ? "the configuration must be a JSON object" : parsed.error().detail())));
  }
  PX_TRY(const std::shared_ptr<const kv::BlockSealer> sealer, ReadSealKey(flags_.kv_seal_key_file));
  const kv::BlockRecord record(kv::BlockShape(geometry.block_tokens, geometry.slices),
                               {.model_fingerprint = geometry.model_fingerprint,
                                .numerics_id = geometry.numerics_id,
                                .kv_dtype = geometry.kv_dtype},
                               sealer);
  auto plugin = kv::ConnectorPlugin::Load(path, config, geometry, rank, record.size_bytes());
  if (!plugin) {
    return Fail(AtFlag(flag, plugin.error()));
  }
  obs::Event(log_, obs::EventId::kKvTierReady)
      .kv("tier", kLabel)
      .kv("rank", rank)
      .kv("plugin", (*plugin)->name())
      .kv("block_bytes", geometry.block_size_bytes);
  kv::PluginConnectorOptions options;
  options.bytes_in_flight_max = static_cast<std::uint64_t>(flags_.kv_transfer_bytes);
  options.load_time_max = rt::Duration(flags_.kv_load_time);
  options.rank = rank;
  options.log = &log_;
  counters_.push_back(std::make_shared<kv::PluginCounters>());
  return std::make_unique<kv::PluginConnector>(options, std::move(*plugin), record,
                                               counters_.back());
}

void KvConnector::Export(obs::Registry& registry, const std::string& model) const {
  using obs::MetricId;
  if (counters_.empty()) {
    return;
  }
  const auto sum = [&](auto&& of) {
    std::uint64_t total = 0;
    for (const std::shared_ptr<kv::PluginCounters>& counters : counters_) {
      total += of(*counters).load(std::memory_order_relaxed);
    }
    return total;
  };
  const auto field = [&](kv::TierCounters::Count kv::PluginCounters::* member) {
    return sum([&](const kv::PluginCounters& counters) -> const kv::TierCounters::Count& {
      return counters.*member;
    });
  };
  const auto total = [&](MetricId id, std::initializer_list<std::string_view> labels,
                         std::uint64_t value) { registry.GetCounter(id, labels).SetTotal(value); };
  total(MetricId::kKvConnectorBlocksTotal, {model, "offered"}, field(&kv::PluginCounters::offered));
  total(MetricId::kKvConnectorBlocksTotal, {model, "brought"}, field(&kv::PluginCounters::brought));
  total(MetricId::kKvTierRefusedTotal, {model, kLabel}, field(&kv::PluginCounters::refused));
  total(MetricId::kKvConnectorFaultsTotal, {model, "threw"}, field(&kv::PluginCounters::threw));
  total(MetricId::kKvConnectorFaultsTotal, {model, "late"}, field(&kv::PluginCounters::late));
  registry.GetGauge(MetricId::kKvTierDegraded, {model, kLabel})
      .Set(static_cast<double>(field(&kv::PluginCounters::degraded)));
  for (std::size_t fault = 0; fault < kv::kFaultCount; ++fault) {
    const auto kind = static_cast<kv::BlockFault>(fault);
    if (kv::IsIntegrityFault(kind)) {
      total(MetricId::kKvIntegrityFailuresTotal, {model, kLabel, kv::FaultName(kind)},
            sum([&](const kv::PluginCounters& counters) -> const kv::TierCounters::Count& {
              return counters.faults[fault];
            }));
    }
  }
}

}  // namespace pixii::apps
