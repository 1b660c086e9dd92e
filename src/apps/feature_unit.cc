#include "apps/feature_unit.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "apps/transfer_agent_maker.h"

namespace pixii::apps {

namespace {

// The own tower has looked sooner than a worker that stands still goes on.
constexpr rt::Duration kFetchTimeMax = std::chrono::seconds(10);

}  // namespace

Result<std::unique_ptr<FeatureUnit>> FeatureUnit::Open(
    rt::Loop& loop, obs::Log& log, EngineUnit& engine, control::WorkerLink& link,
    const std::string& host, const std::string& cluster_key, const EngineFlags& flags) {
  const std::optional<wire::VisionCard>& vision = link.card().vision;
  if (!vision || cluster_key.empty()) {
    return std::unique_ptr<FeatureUnit>();
  }
  auto unit = std::unique_ptr<FeatureUnit>(new FeatureUnit);  // tidy: new private constructor
  const kv::AgentMaker make =
      MakerOf({.host = host, .key = cluster_key, .flags = flags, .log = &log});
  PX_TRY(unit->fetcher_,
         worker::FeatureFetcher::Create(
             loop,
             {.own = engine.feature_terms(),
              .row_levels = vision->row_levels,
              .key = cluster_key,
              .timeout = std::min<rt::Duration>(
                  std::chrono::milliseconds(flags.kv_transfer_timeout_ms), kFetchTimeMax)},
             [&](rt::Function<void()> wake) { return make(loop, std::move(wake)); }));
  unit->link_.emplace(
      loop, link, *unit->fetcher_,
      [&engine](std::string digest, worker::FeatureFetcher::Features features) {
        engine.OfferFeatures(std::move(digest), std::move(features));
      },
      !flags.vision_tower);
  return unit;
}

void FeatureUnit::Export(const std::string& model, obs::Registry& registry) const {
  using obs::MetricId;
  const worker::FetcherCounters& counters = fetcher_->counters();
  const auto total = [&](MetricId id, std::uint64_t value) {
    registry.GetCounter(id, {model}).SetTotal(value);
  };
  total(MetricId::kMediaFeaturesFetchedTotal, counters.fetched);
  total(MetricId::kMediaFeaturesFetchedBytesTotal, counters.bytes);
  const auto failed = [&](const char* reason, std::uint64_t value) {
    registry.GetCounter(MetricId::kMediaFeaturesFailedTotal, {model, reason}).SetTotal(value);
  };
  failed("record", counters.refused);
  failed("transfer", counters.failed);
  failed("corrupt", counters.corrupt);
}

void FeatureUnit::AddFigures(std::vector<AgentFigures>& out) const {
  const transport::Agent& agent = fetcher_->agent();
  out.push_back({.counters = agent.counters(), .peers = agent.peers()});
}

}  // namespace pixii::apps
