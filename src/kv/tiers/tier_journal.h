// What the slower tiers have, in the terms of routers: told once when a tier has a block, once when
// it has it no more. docs/formats/kv_events.md
//
// Thread: one owner (the engine thread).
// A router counts the tiers of a worker apart, so a block that leaves the device is not forgotten
// while a slower tier holds it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "kv/cache_journal.h"
#include "kv/tiers/tier_counters.h"

namespace pixii::kv {

/// A block as routers know it.
struct PublicBlock {
  std::uint32_t index = 0;  // in its chain
  std::uint64_t chain_hash = 0;
  std::uint64_t tokens_hash = 0;
  std::optional<std::uint64_t>
      parent_hash;  // chain_hash of the block before; of a first block none
  std::shared_ptr<const BlockRoot> root;
  std::vector<TokenId> tokens;
};

struct TierJournalOptions {
  std::uint32_t event_count_max = 0;  // between two calls of Drain; 0: nobody listens
  bool has_tokens = false;            // events say tokens and roots
};

class TierJournal final {
 public:
  explicit TierJournal(const TierJournalOptions& options) : options_(options) {}

  void SetSlots(Tier tier, std::uint32_t count) {
    blocks_[static_cast<std::size_t>(tier)].resize(count);
  }

  /// `tier` has `block` in `slot`.
  void Stored(Tier tier, std::uint32_t slot, PublicBlock block);
  /// Not any more. No effect if it was not told of.
  void Removed(Tier tier, std::uint32_t slot);

  const std::optional<PublicBlock>& at(Tier tier, std::uint32_t slot) const {
    return blocks_[static_cast<std::size_t>(tier)][slot];
  }

  /// Changes did not fit: the next Drain must be of everything.
  bool lost() const { return lost_; }

  /// Appends what changed since the last call, or everything, parents first. Whether there was
  /// anything.
  bool Drain(CacheChanges& out, bool everything);

 private:
  /// For one more change; without it all that were kept are lost.
  bool HasRoom();
  void Push(Tier tier, const PublicBlock& block, CacheChanges& out) const;

  TierJournalOptions options_;
  std::array<std::vector<std::optional<PublicBlock>>, kTierCount> blocks_;  // [tier][slot]
  CacheChanges changes_;
  bool lost_ = false;
};

/// Public hashes of blocks by their own, as far as they were seen lately.
class PublicNames final {
 public:
  explicit PublicNames(std::size_t count_max) : count_max_(count_max) {}

  void Remember(const Hash128& hash, std::uint64_t chain_hash);
  std::optional<std::uint64_t> Find(const Hash128& hash) const;

 private:
  std::size_t count_max_;
  std::unordered_map<Hash128, std::uint64_t, Hash128Hasher> chains_;
};

}  // namespace pixii::kv
