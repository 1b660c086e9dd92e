#include "worker/kv_consolidator.h"

namespace pixii::worker {

kv::CacheChanges KvConsolidator::Merge(const kv::CacheChanges& changes,
                                       std::uint32_t block_tokens) {
  kv::CacheChanges merged;
  std::size_t stored = 0;
  for (kv::CacheEvent event : changes.events) {
    const auto bit = static_cast<std::uint8_t>(1U << static_cast<unsigned>(event.tier));
    event.tier = wire::KvTier::kDevice;
    switch (event.kind) {
      case kv::CacheEvent::Kind::kCleared:
        tiers_.clear();
        merged.events.push_back(event);
        break;
      case kv::CacheEvent::Kind::kStored: {
        std::uint8_t& tiers = tiers_[event.chain_hash];
        if (tiers == 0) {
          merged.events.push_back(event);
          if (stored < changes.roots.size()) {
            const auto first =
                changes.tokens.begin() + static_cast<std::ptrdiff_t>(stored) * block_tokens;
            merged.tokens.insert(merged.tokens.end(), first, first + block_tokens);
            merged.roots.push_back(changes.roots[stored]);
          }
        }
        tiers |= bit;
        ++stored;
        break;
      }
      case kv::CacheEvent::Kind::kRemoved: {
        const auto found = tiers_.find(event.chain_hash);
        if (found == tiers_.end()) {
          break;
        }
        found->second = static_cast<std::uint8_t>(found->second & ~bit);
        if (found->second == 0) {
          tiers_.erase(found);
          merged.events.push_back(event);
        }
        break;
      }
    }
  }
  return merged;
}

}  // namespace pixii::worker
