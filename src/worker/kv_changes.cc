#include "worker/kv_changes.h"

namespace pixii::worker {

static_assert(static_cast<int>(kv::CacheEvent::Kind::kRemoved) ==
                  static_cast<int>(wire::KvEvent::Kind::kRemoved) &&
              static_cast<int>(kv::CacheEvent::Kind::kCleared) ==
                  static_cast<int>(wire::KvEvent::Kind::kCleared));
static_assert(static_cast<int>(kv::CacheEvent::Kind::kRemoved) ==
                  static_cast<int>(wire::EngineKvEvent::Kind::kRemoved) &&
              static_cast<int>(kv::CacheEvent::Kind::kCleared) ==
                  static_cast<int>(wire::EngineKvEvent::Kind::kCleared));

std::vector<wire::KvEvent> JoinChanges(std::span<const kv::CacheEvent> changes,
                                       std::uint64_t& next_id) {
  std::vector<wire::KvEvent> events;
  for (const kv::CacheEvent& change : changes) {
    const auto kind = static_cast<wire::KvEvent::Kind>(change.kind);
    const bool goes_on = !events.empty() && events.back().kind == kind &&
                         events.back().tier == change.tier &&
                         (change.kind == kv::CacheEvent::Kind::kRemoved ||
                          (change.kind == kv::CacheEvent::Kind::kStored && change.has_parent &&
                           events.back().blocks.back().block_hash == change.parent_hash));
    if (!goes_on) {
      wire::KvEvent& event = events.emplace_back();
      event.id = next_id++;
      event.kind = kind;
      event.tier = change.tier;
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

std::vector<wire::EngineKvEvent> JoinEngineChanges(const kv::CacheChanges& changes,
                                                   std::uint32_t block_tokens) {
  std::vector<wire::EngineKvEvent> events;
  std::size_t stored = 0;
  const kv::BlockRoot* root = nullptr;  // of the last event
  for (const kv::CacheEvent& change : changes.events) {
    const auto kind = static_cast<wire::EngineKvEvent::Kind>(change.kind);
    const bool is_stored = change.kind == kv::CacheEvent::Kind::kStored;
    const kv::BlockRoot* const own = is_stored ? changes.roots[stored].get() : nullptr;
    const bool goes_on = !events.empty() && events.back().kind == kind &&
                         events.back().tier == change.tier &&
                         (change.kind == kv::CacheEvent::Kind::kRemoved ||
                          (is_stored && change.has_parent && own == root &&
                           events.back().hashes.back() == change.parent_hash));
    if (!goes_on) {
      wire::EngineKvEvent& event = events.emplace_back();
      event.kind = kind;
      event.tier = change.tier;
      if (is_stored) {
        event.block_tokens = block_tokens;
        event.adapter = own->public_adapter;
        if (change.has_parent) {
          event.parent = change.parent_hash;
        } else {
          event.salt = own->public_salt;  // those behind it have the same
        }
      }
    }
    if (change.kind != kv::CacheEvent::Kind::kCleared) {
      events.back().hashes.push_back(change.chain_hash);
    }
    if (is_stored) {
      const auto first =
          changes.tokens.begin() + static_cast<std::ptrdiff_t>(stored) * block_tokens;
      events.back().tokens.insert(events.back().tokens.end(), first, first + block_tokens);
      ++stored;
    }
    root = own;
  }
  return events;
}

}  // namespace pixii::worker
