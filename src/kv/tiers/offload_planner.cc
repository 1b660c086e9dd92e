#include "kv/tiers/offload_planner.h"

#include <algorithm>
#include <iterator>

namespace pixii::kv {

OffloadFilter::OffloadFilter(std::uint32_t blocks_max) : blocks_max_(std::max(blocks_max, 1U)) {
  counts_.reserve(blocks_max_);
}

template <class Fn>
void OffloadFilter::Lower(const Fn& lowered) {
  for (auto entry = counts_.begin(); entry != counts_.end();) {
    entry->second = lowered(entry->second);
    entry = entry->second == 0 ? counts_.erase(entry) : std::next(entry);
  }
}

void OffloadFilter::Seen(const Hash128& hash) {
  if (counts_.contains(hash)) {
    return;
  }
  while (counts_.size() >= blocks_max_) {  // at most as often as a frequency has bits
    Lower([](std::uint32_t frequency) { return frequency / 2; });
  }
  counts_.emplace(hash, 1);
}

void OffloadFilter::Hit(const Hash128& hash) {
  const auto found = counts_.find(hash);
  if (found != counts_.end()) {
    found->second = std::min(found->second * 2, kFrequencyMax);
  }
}

void OffloadFilter::Decay() {
  Lower([](std::uint32_t frequency) { return frequency - 1; });
}

std::uint32_t OffloadFilter::frequency(const Hash128& hash) const {
  const auto found = counts_.find(hash);
  return found == counts_.end() ? 0 : found->second;
}

bool OffloadPlanner::Offer(const Hash128& hash, std::int32_t priority) {
  if (moving_.contains(hash) || known_.contains(hash)) {
    return true;
  }
  const Waiting waiting{.rank = -std::int64_t{priority}, .order = ++offers_, .hash = hash};
  if (queue_.size() >= options_.queue_blocks_max) {
    const auto last = std::prev(queue_.end());
    if (*last < waiting) {
      return false;
    }
    known_.erase(last->hash);
    queue_.erase(last);
  }
  queue_.insert(waiting);
  known_.insert(hash);
  return true;
}

std::optional<Hash128> OffloadPlanner::Next() {
  if (queue_.empty() || full()) {
    return std::nullopt;
  }
  const Hash128 hash = queue_.begin()->hash;
  queue_.erase(queue_.begin());
  known_.erase(hash);
  moving_.insert(hash);
  return hash;
}

void OffloadPlanner::Done(const Hash128& hash) { moving_.erase(hash); }

}  // namespace pixii::kv
