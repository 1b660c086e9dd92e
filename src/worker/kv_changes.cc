#include "worker/kv_changes.h"

namespace pixii::worker {

static_assert(static_cast<int>(kv::CacheEvent::Kind::kRemoved) ==
                  static_cast<int>(wire::KvEvent::Kind::kRemoved) &&
              static_cast<int>(kv::CacheEvent::Kind::kCleared) ==
                  static_cast<int>(wire::KvEvent::Kind::kCleared));

std::vector<wire::KvEvent> JoinChanges(std::span<const kv::CacheEvent> changes,
                                       std::uint64_t& next_id) {
  std::vector<wire::KvEvent> events;
  for (const kv::CacheEvent& change : changes) {
    const auto kind = static_cast<wire::KvEvent::Kind>(change.kind);
    const bool goes_on = !events.empty() && events.back().kind == kind &&
                         (change.kind == kv::CacheEvent::Kind::kRemoved ||
                          (change.kind == kv::CacheEvent::Kind::kStored && change.has_parent &&
                           events.back().blocks.back().block_hash == change.parent_hash));
    if (!goes_on) {
      wire::KvEvent& event = events.emplace_back();
      event.id = next_id++;
      event.kind = kind;
      if (change.has_parent) {
        event.parent = change.parent_hash;
      }
    }
    if (change.kind == kv::CacheEvent::Kind::kStored) {
      events.back().blocks.push_back({change.chain_hash, change.tokens_hash});
    } else if (change.kind == kv::CacheEvent::Kind::kRemoved) {
      events.back().removed.push_back(change.chain_hash);
    }
  }
  return events;
}

}  // namespace pixii::worker
