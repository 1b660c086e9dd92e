#include "kv/tiers/tier_journal.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace pixii::kv {

namespace {

wire::KvTier WireTier(Tier tier) {
  return tier == Tier::kHost   ? wire::KvTier::kHost
         : tier == Tier::kDisk ? wire::KvTier::kDisk
                               : wire::KvTier::kExternal;
}

}  // namespace

void TierJournal::Push(Tier tier, const PublicBlock& block, CacheChanges& out) const {
  out.events.push_back({.kind = CacheEvent::Kind::kStored,
                        .has_parent = block.parent_hash.has_value(),
                        .chain_hash = block.chain_hash,
                        .tokens_hash = block.tokens_hash,
                        .parent_hash = block.parent_hash.value_or(0),
                        .tier = WireTier(tier)});
  if (options_.has_tokens) {
    out.tokens.insert(out.tokens.end(), block.tokens.begin(), block.tokens.end());
    out.roots.push_back(block.root);
  }
}

bool TierJournal::HasRoom() {
  if (options_.event_count_max == 0 || lost_) {
    return false;
  }
  if (changes_.events.size() >= options_.event_count_max) {
    lost_ = true;
    changes_.clear();
    return false;
  }
  return true;
}

void TierJournal::Stored(Tier tier, std::uint32_t slot, PublicBlock block) {
  std::optional<PublicBlock>& kept = blocks_[static_cast<std::size_t>(tier)][slot];
  PX_ASSERT(!kept);
  if (!options_.has_tokens) {
    block.tokens = {};
  }
  kept = std::move(block);
  if (HasRoom()) {
    Push(tier, *kept, changes_);
  }
}

void TierJournal::Removed(Tier tier, std::uint32_t slot) {
  std::optional<PublicBlock>& kept = blocks_[static_cast<std::size_t>(tier)][slot];
  if (!kept) {
    return;
  }
  const PublicBlock gone = *std::exchange(kept, std::nullopt);
  if (!HasRoom()) {
    return;
  }
  changes_.events.push_back({.kind = CacheEvent::Kind::kRemoved,
                             .has_parent = false,
                             .chain_hash = gone.chain_hash,
                             .tokens_hash = 0,
                             .parent_hash = 0,
                             .tier = WireTier(tier)});
}

bool TierJournal::Drain(CacheChanges& out, bool everything) {
  if (options_.event_count_max == 0) {
    return false;
  }
  const std::size_t before = out.events.size();
  if (!everything) {
    out.events.insert(out.events.end(), changes_.events.begin(), changes_.events.end());
    out.tokens.insert(out.tokens.end(), changes_.tokens.begin(), changes_.tokens.end());
    out.roots.insert(out.roots.end(), changes_.roots.begin(), changes_.roots.end());
  } else {
    for (std::size_t tier = 0; tier < kTierCount; ++tier) {
      std::vector<const PublicBlock*> all;
      for (const std::optional<PublicBlock>& block : blocks_[tier]) {
        if (block) {
          all.push_back(&*block);
        }
      }
      std::ranges::sort(all, {}, [](const PublicBlock* block) {
        return std::pair(block->index, block->chain_hash);
      });
      for (const PublicBlock* block : all) {
        Push(static_cast<Tier>(tier), *block, out);
      }
    }
    lost_ = false;
  }
  changes_.clear();
  return out.events.size() > before;
}

void PublicNames::Remember(const Hash128& hash, std::uint64_t chain_hash) {
  if (chains_.size() >= count_max_) {
    chains_.clear();  // blocks whose parent is not known any more are not told of
  }
  chains_.insert_or_assign(hash, chain_hash);
}

std::optional<std::uint64_t> PublicNames::Find(const Hash128& hash) const {
  const auto found = chains_.find(hash);
  return found == chains_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace pixii::kv
