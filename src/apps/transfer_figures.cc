#include "apps/transfer_figures.h"

#include <map>
#include <string_view>

#include <fmt/format.h>

namespace pixii::apps {

void TransferFigures::Export(const std::string& model, std::span<const AgentFigures> agents,
                             obs::Registry& registry) {
  using obs::MetricId;
  std::map<std::string_view, transport::TransportCounters> sums;
  std::set<std::pair<std::string, std::string>> now;
  for (const AgentFigures& agent : agents) {
    for (const transport::TransportCounters& each : agent.counters.transports) {
      transport::TransportCounters& sum = sums[each.transport];
      sum.reads += each.reads;
      sum.read_bytes += each.read_bytes;
      sum.writes += each.writes;
      sum.written_bytes += each.written_bytes;
      sum.failed += each.failed;
      sum.fallbacks += each.fallbacks;
      sum.served_bytes += each.served_bytes;
      sum.taken_bytes += each.taken_bytes;
      sum.connections += each.connections;
      sum.strangers_refused += each.strangers_refused;
      sum.frames_malformed += each.frames_malformed;
      sum.checksums_wrong += each.checksums_wrong;
      sum.stale_refused += each.stale_refused;
    }
    for (const transport::PeerInfo& peer : agent.peers) {
      if (peer.state == transport::PeerState::kConnected) {
        now.emplace(fmt::format("{:016x}{:016x}", peer.agent.high, peer.agent.low), peer.transport);
      }
    }
  }
  for (const auto& [name, of] : sums) {
    const auto total = [&](MetricId id, std::uint64_t value) {
      registry.GetCounter(id, {model, name}).SetTotal(value);
    };
    const auto named = [&](MetricId id, std::string_view what, std::uint64_t value) {
      registry.GetCounter(id, {model, name, what}).SetTotal(value);
    };
    named(MetricId::kTransfersTotal, "read", of.reads);
    named(MetricId::kTransfersTotal, "write", of.writes);
    named(MetricId::kTransferBytesTotal, "read", of.read_bytes);
    named(MetricId::kTransferBytesTotal, "write", of.written_bytes);
    named(MetricId::kTransferBytesTotal, "served", of.served_bytes);
    named(MetricId::kTransferBytesTotal, "taken", of.taken_bytes);
    total(MetricId::kTransferFailuresTotal, of.failed);
    total(MetricId::kTransferFallbacksTotal, of.fallbacks);
    total(MetricId::kTransferStrangersTotal, of.strangers_refused);
    named(MetricId::kTransferRefusedTotal, "malformed", of.frames_malformed);
    named(MetricId::kTransferRefusedTotal, "checksum", of.checksums_wrong);
    named(MetricId::kTransferRefusedTotal, "stale", of.stale_refused);
    registry.GetGauge(MetricId::kTransferConnections, {model, name})
        .Set(static_cast<double>(of.connections));
  }
  for (const auto& [peer, transport] : shown_) {
    if (!now.contains({peer, transport})) {
      registry.Drop(MetricId::kTransferPeer, {model, peer, transport});
    }
  }
  for (const auto& [peer, transport] : now) {
    registry.GetGauge(MetricId::kTransferPeer, {model, peer, transport}).Set(1);
  }
  shown_ = std::move(now);
}

}  // namespace pixii::apps
