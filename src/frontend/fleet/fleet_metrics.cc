#include "frontend/fleet/fleet_metrics.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

namespace pixii::frontend {

using obs::MetricId;

namespace {

double Milliseconds(rt::Time from, rt::Time to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

// As aggregated workers are called where workers have kinds.
constexpr std::string_view kWorkerType = "decode";

}  // namespace

FleetMetrics::FleetMetrics(obs::Registry& registry, std::string model)
    : registry_(registry),
      model_(std::move(model)),
      hold_(registry, model_),
      hashing_(registry.GetHistogram(MetricId::kRouterOverheadBlockHashingMs, {model_})),
      matching_(registry.GetHistogram(MetricId::kRouterOverheadFindMatchesMs, {model_})),
      scheduling_(registry.GetHistogram(MetricId::kRouterOverheadSchedulingMs, {model_})),
      total_(registry.GetHistogram(MetricId::kRouterOverheadTotalMs, {model_})) {}

FleetMetrics::~FleetMetrics() {
  for (const router::Target& target : ranks_) {
    DropRank(target);
  }
}

void FleetMetrics::OnRouted(const RouteTimes& times) {
  hashing_.Observe(Milliseconds(times.begun, times.hashed));
  matching_.Observe(Milliseconds(times.hashed, times.matched));
  scheduling_.Observe(Milliseconds(times.matched, times.decided));
  total_.Observe(Milliseconds(times.begun, times.decided));
}

void FleetMetrics::Export(const router::Router& router, std::size_t known_count) {
  registry_.GetGauge(MetricId::kRouterWorkers, {model_}).Set(static_cast<double>(known_count));
  ExportQueue(router.queue());
  ExportLoads(router);
  if (router.index() != nullptr) {
    ExportIndex(*router.index(), router.kv_event_counts());
  }
}

void FleetMetrics::ExportQueue(const router::RequestQueue& queue) {
  for (std::size_t i = 0; i < queue.class_count(); ++i) {
    const std::string& name = queue.policy_class(i).name;
    const router::ClassCounts counts = queue.counts(i);
    const auto now = [&](MetricId id, double value) {
      registry_.GetGauge(id, {model_, name}).Set(value);
    };
    now(MetricId::kRouterQueuePendingRequests, static_cast<double>(counts.requests));
    now(MetricId::kRouterQueuePendingIslTokens, static_cast<double>(counts.prompt_tokens));
    now(MetricId::kRouterQueuePendingCachedTokens, static_cast<double>(counts.cached_tokens));
    const auto refused = [&](std::string_view reason, std::uint64_t total) {
      registry_.GetCounter(MetricId::kRouterQueueBackpressureTotal, {model_, name, reason})
          .SetTotal(total);
    };
    refused("requests", counts.refused_by_requests);
    refused("isl_tokens", counts.refused_by_prompt_tokens);
    refused("cached_tokens", counts.refused_by_cached_tokens);
    refused("queue", counts.refused_by_queue);
  }
}

void FleetMetrics::ExportLoads(const router::Router& router) {
  std::set<router::Target> gone = std::exchange(ranks_, {});
  for (const router::RankLoadRow& row : router.Loads()) {
    gone.erase(row.target);
    ranks_.insert(row.target);
    const std::string worker = fmt::format("{}", Raw(row.target.instance));
    const std::string rank = fmt::format("{}", row.target.rank);
    registry_.GetGauge(MetricId::kWorkerActiveDecodeBlocks, {worker, rank, kWorkerType})
        .Set(row.load.blocks());
    registry_.GetGauge(MetricId::kWorkerActivePrefillTokens, {worker, rank, kWorkerType})
        .Set(static_cast<double>(row.load.prefill_tokens));
  }
  for (const router::Target& target : gone) {
    DropRank(target);
  }
}

void FleetMetrics::DropRank(const router::Target& target) {
  const std::string worker = fmt::format("{}", Raw(target.instance));
  const std::string rank = fmt::format("{}", target.rank);
  registry_.Drop(MetricId::kWorkerActiveDecodeBlocks, {worker, rank, kWorkerType});
  registry_.Drop(MetricId::kWorkerActivePrefillTokens, {worker, rank, kWorkerType});
}

void FleetMetrics::ExportIndex(const router::KvIndex& index, const router::KvEventCounts& counts) {
  const auto set = [this](std::string_view type, std::string_view status, std::uint64_t total) {
    registry_.GetCounter(MetricId::kKvCacheEventsApplied, {model_, type, status}).SetTotal(total);
  };
  const router::KvIndexCounters& counters = index.counters();
  set("stored", "ok", counts.stored);
  set("removed", "ok", counts.removed);
  set("cleared", "ok", counts.cleared);
  set("stored", "parent_block_not_found", counters.orphaned);
  set("stored", "capacity_exhausted", counters.refused);
  set("removed", "block_not_found", counters.unknown);
  registry_.GetGauge(MetricId::kRouterIndexBlocks, {model_})
      .Set(static_cast<double>(index.block_count()));
  registry_.GetGauge(MetricId::kRouterIndexBytes, {model_}).Set(static_cast<double>(index.bytes()));
}

}  // namespace pixii::frontend
