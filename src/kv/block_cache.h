// The KV blocks of one tier with their prefix index: what a scheduler allocates from, looks up in
// and publishes to.
//
// Thread: one owner (the engine thread). No allocation after Create.
// Every verb keeps pool and index together: a block that is handed out anew is first forgotten by
// the index.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "kv/block_identity.h"
#include "kv/block_pool.h"
#include "kv/cache_journal.h"
#include "kv/prefix_index.h"

namespace pixii::kv {

struct BlockCacheOptions {
  std::uint32_t block_count_max = 0;  // blocks, 1 .. 2^24
  std::uint32_t block_tokens = 0;     // tokens of a block, 1 .. 512
  std::string identity_key;           // secret of the block hashes
  int hash_bits = 128;                // below 128 in tests only
  /// Changes told of between two calls of DrainEvents, 0 .. 2^24; 0: nobody is told.
  std::uint32_t event_count_max = 0;
  /// They say tokens and roots, too: CacheChanges.
  bool events_have_tokens = false;
};

struct BlockCacheCounters {
  std::uint64_t lookup_hits = 0;    // blocks found
  std::uint64_t lookup_misses = 0;  // lookups that found nothing
  std::uint64_t evictions = 0;      // cached blocks handed out for other content
  std::uint64_t published = 0;      // blocks made findable
  std::uint64_t duplicates = 0;     // blocks given up for an equal one that was there first
  std::uint64_t collisions = 0;     // equal hashes of different prefixes
};

class BlockCache final {
 public:
  /// Errors: kInvalidArgument naming the field, its value and the range.
  static Result<std::unique_ptr<BlockCache>> Create(const BlockCacheOptions& options);

  /// A block to write into, pinned once, findable by nobody. Nothing if all blocks are pinned.
  std::optional<BlockPin> Allocate();

  /// Pins the block that holds `tokens` after `position` and moves `position` to it.
  /// Empty and unmoved if there is none. `tokens` [block_tokens].
  BlockPin Find(ChainPosition& position, std::span<const TokenId> tokens);

  struct Published {
    BlockPin pin;           // to go on with
    bool findable = false;  // false: another prefix has the hash, or the chain was forgotten;
                            // `position` did not move
  };

  /// Makes the block that `pin` holds findable as `tokens` after `position` and moves `position` to
  /// it. If an equal block was there first, its pin comes back instead (its bytes are the same: one
  /// answer), so that all who share a prefix pin the same blocks. Pre: every slot of the block is
  /// written and the step that wrote it succeeded.
  Published Publish(BlockPin pin, ChainPosition& position, std::span<const TokenId> tokens);

  /// Hash of the block with `tokens` that follows the block (or root) with hash `parent`.
  Hash128 Chain(const Hash128& parent, std::span<const TokenId> tokens) const {
    return identity_.Chain(parent, tokens);
  }

  /// Of a block that can be found; else nothing.
  std::optional<Hash128> HashOf(const BlockPin& pin) const { return index_.HashOf(pin.id()); }

  /// Nobody finds the block that `pin` holds any more, nor what follows it; it is free with its
  /// last pin. For blocks whose content is in doubt. No effect if it was not findable.
  void Forget(const BlockPin& pin);

  /// Forgets every block.
  void Clear();

  /// Appends what requests of other workers' routers must know: CacheJournal::Drain. False: there
  /// is nothing, as always without event_count_max.
  bool DrainEvents(CacheChanges& out) { return journal_ && journal_->Drain(out); }

  /// The next DrainEvents tells everything.
  void ResyncEvents() {
    if (journal_) {
      journal_->Resync();
    }
  }

  /// As BlockPool.
  void Keep(const BlockPin& pin) { pool_->Keep(pin.id()); }

  void Unkeep(const BlockRef& ref) { pool_->Unkeep(ref); }

  bool tells_events() const { return journal_.has_value(); }

  /// Events have tokens and roots.
  bool tells_tokens() const { return journal_ && journal_->keeps_tokens(); }

  std::shared_ptr<const BlockRoot> MakeRoot(const BlockRootFields& fields) const {
    return identity_.MakeRoot(fields);
  }

  /// Blocks that Allocate could hand out now.
  std::uint32_t available_count() const { return pool_->free_count() + pool_->cached_count(); }

  const BlockPool& pool() const { return *pool_; }

  std::uint32_t block_tokens() const { return block_tokens_; }

  BlockCacheCounters counters() const;

  /// Pool and index agree: an indexed block is not free, a cached one is indexed. O(block_count).
  void CheckInvariants() const;

 private:
  BlockCache(const BlockCacheOptions& options, std::unique_ptr<BlockPool> pool);

  void Erase(BlockId block);

  std::uint32_t block_tokens_;
  BlockIdentity identity_;
  PrefixIndex index_;
  std::unique_ptr<BlockPool> pool_;
  BlockCacheCounters counters_;
  std::optional<CacheJournal> journal_;  // of what can be found in `index_`
};

}  // namespace pixii::kv
