#include "frontend/fleet/fleet_metrics.h"

#include <fmt/format.h>

#include <chrono>
#include <set>
#include <utility>

namespace pixii::frontend {

using obs::MetricId;

namespace {

double Milliseconds(rt::Time from, rt::Time to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

double Seconds(rt::Duration duration) { return std::chrono::duration<double>(duration).count(); }

// As aggregated workers are called where workers have kinds.
constexpr std::string_view kWorkerType = "decode";

}  // namespace

FleetMetrics::FleetMetrics(obs::Registry& registry, std::string model, bool by_cache)
    : registry_(registry),
      model_(std::move(model)),
      hold_(registry, model_),
      requests_{.started = registry.GetCounter(MetricId::kRouterRequestsStartedTotal, {model_}),
                .ended = registry.GetCounter(MetricId::kRouterRequestsTotal, {model_}),
                .first_token = registry.GetHistogram(MetricId::kRouterTtft, {model_}),
                .between_tokens = registry.GetHistogram(MetricId::kRouterItl, {model_}),
                .input = registry.GetHistogram(MetricId::kRouterIsl, {model_}),
                .output = registry.GetHistogram(MetricId::kRouterOsl, {model_}),
                .hit_rate = registry.GetHistogram(MetricId::kRouterKvHitRate, {model_})},
      route_(registry.GetHistogram(MetricId::kStageDurationSeconds, {"route"})),
      queue_(registry.GetHistogram(MetricId::kRequestPlaneQueue)),
      send_(registry.GetHistogram(MetricId::kRequestPlaneSend)),
      roundtrip_(registry.GetHistogram(MetricId::kRequestPlaneTtft)) {
  if (by_cache) {
    overhead_.emplace(Overhead{
        .hashing = registry.GetHistogram(MetricId::kRouterOverheadBlockHashingMs, {model_}),
        .matching = registry.GetHistogram(MetricId::kRouterOverheadFindMatchesMs, {model_}),
        .scheduling = registry.GetHistogram(MetricId::kRouterOverheadSchedulingMs, {model_}),
        .total = registry.GetHistogram(MetricId::kRouterOverheadTotalMs, {model_})});
  }
}

FleetMetrics::~FleetMetrics() {
  for (const auto& [target, last] : ranks_) {
    DropRank(target);
  }
}

void FleetMetrics::OnRouted(const RouteTimes& times) {
  route_.Observe(Seconds(times.decided - times.begun));
  if (overhead_) {
    overhead_->hashing.Observe(Milliseconds(times.begun, times.hashed));
    overhead_->matching.Observe(Milliseconds(times.hashed, times.matched));
    overhead_->scheduling.Observe(Milliseconds(times.matched, times.decided));
    overhead_->total.Observe(Milliseconds(times.begun, times.decided));
  }
}

void FleetMetrics::OnStarted(std::uint64_t prompt_tokens) {
  if (overhead_) {
    requests_.started.Add();
    requests_.input.Observe(static_cast<double>(prompt_tokens));
  }
}

void FleetMetrics::OnSent(rt::Duration queued, rt::Duration sending, double hit_rate) {
  queue_.Observe(Seconds(queued));
  send_.Observe(Seconds(sending));
  if (overhead_) {
    requests_.hit_rate.Observe(hit_rate);
  }
}

void FleetMetrics::OnFirstToken(const router::Target& target, std::uint64_t prompt_tokens,
                                rt::Duration since_begun, rt::Duration since_sent) {
  roundtrip_.Observe(Seconds(since_sent));
  if (overhead_) {
    requests_.first_token.Observe(Seconds(since_begun));
  }
  Last& last = ranks_[target];
  last.first_token = Seconds(since_sent);
  last.prompt_tokens = static_cast<double>(prompt_tokens);
}

void FleetMetrics::OnTokens(const router::Target& target, rt::Duration gap, std::uint32_t count) {
  const double each = Seconds(gap) / count;
  if (overhead_) {
    requests_.between_tokens.Observe(each, count);
  }
  ranks_[target].between_tokens = each;
}

void FleetMetrics::OnEnded(std::uint64_t output_tokens) {
  if (overhead_) {
    requests_.ended.Add();
    requests_.output.Observe(static_cast<double>(output_tokens));
  }
}

void FleetMetrics::Export(const router::Router& router, std::size_t known_count) {
  registry_.GetGauge(MetricId::kRouterWorkers, {model_}).Set(static_cast<double>(known_count));
  if (overhead_) {
    ExportQueue(router.queue());
  }
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
  std::set<router::Target> gone;
  for (const auto& [target, last] : ranks_) {
    gone.insert(target);
  }
  for (const router::RankLoadRow& row : router.Loads()) {
    gone.erase(row.target);
    const Last& last = ranks_[row.target];
    const std::string worker = fmt::format("{}", Raw(row.target.instance));
    const std::string rank = fmt::format("{}", row.target.rank);
    registry_.GetGauge(MetricId::kWorkerActiveDecodeBlocks, {worker, rank, kWorkerType})
        .Set(row.load.blocks());
    registry_.GetGauge(MetricId::kWorkerActivePrefillTokens, {worker, rank, kWorkerType})
        .Set(static_cast<double>(row.load.prefill_tokens));
    registry_.GetGauge(MetricId::kWorkerLastTtft, {worker, rank, kWorkerType})
        .Set(last.first_token);
    registry_.GetGauge(MetricId::kWorkerLastIsl, {worker, rank, kWorkerType})
        .Set(last.prompt_tokens);
    registry_.GetGauge(MetricId::kWorkerLastItl, {worker, rank, kWorkerType})
        .Set(last.between_tokens);
  }
  for (const router::Target& target : gone) {
    DropRank(target);
    ranks_.erase(target);
  }
}

void FleetMetrics::DropRank(const router::Target& target) {
  const std::string worker = fmt::format("{}", Raw(target.instance));
  const std::string rank = fmt::format("{}", target.rank);
  for (const MetricId id :
       {MetricId::kWorkerActiveDecodeBlocks, MetricId::kWorkerActivePrefillTokens,
        MetricId::kWorkerLastTtft, MetricId::kWorkerLastIsl, MetricId::kWorkerLastItl}) {
    registry_.Drop(id, {worker, rank, kWorkerType});
  }
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
