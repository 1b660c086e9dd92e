#include "sim/transfer_connector.h"

#include <algorithm>
#include <chrono>

namespace pixii::sim {

std::uint32_t TransferConnector::Match(const kv::ConnectorRequestRef& request,
                                       std::uint32_t first) {
  const auto blocks = static_cast<std::uint32_t>(request->chain.hashes.size());
  return request->handover.empty() ? 0 : blocks - std::min(blocks, first);
}

void TransferConnector::Load(kv::LoadId id, const kv::ConnectorRequestRef& /*request*/,
                             std::uint32_t /*first*/, std::span<const kv::BlockMemory> targets) {
  const double seconds =
      static_cast<double>(targets.size() * block_bytes_) / model_.bytes_per_second;
  free_at_ = std::max(free_at_, now_) +
             std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(seconds));
  loads_.push_back({.id = id,
                    .blocks = static_cast<std::uint32_t>(targets.size()),
                    .end = free_at_ + model_.latency});
}

void TransferConnector::Cancel(kv::LoadId id) {
  const auto found = std::ranges::find(loads_, id, &Transfer::id);
  if (found != loads_.end()) {
    found->blocks = 0;
    found->end = now_;
  }
}

rt::Time TransferConnector::Poll(rt::Time now, std::vector<kv::LoadEnd>& ended) {
  now_ = now;
  rt::Time next = rt::kNever;
  std::erase_if(loads_, [&](const Transfer& load) {
    if (load.end > now) {
      next = std::min(next, load.end);
      return false;
    }
    ended.push_back({.id = load.id, .blocks = load.blocks, .error = {}});
    return true;
  });
  return next;
}

}  // namespace pixii::sim
