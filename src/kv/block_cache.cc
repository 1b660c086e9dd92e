#include "kv/block_cache.h"

#include <utility>

#include "base/assert.h"

namespace pixii::kv {

namespace {
constexpr std::uint32_t kBlockTokensLimit = 512;
constexpr std::uint32_t kEventCountLimit = 1U << 24U;
}  // namespace

Result<std::unique_ptr<BlockCache>> BlockCache::Create(const BlockCacheOptions& options) {
  if (options.block_tokens == 0 || options.block_tokens > kBlockTokensLimit) {
    return Fail(Code::kInvalidArgument,
                "block_tokens is " + std::to_string(options.block_tokens) + "; allowed is 1 to " +
                    std::to_string(kBlockTokensLimit),
                "block_tokens");
  }
  if (options.event_count_max > kEventCountLimit) {
    return Fail(Code::kInvalidArgument,
                "event_count_max is " + std::to_string(options.event_count_max) +
                    "; allowed is 0 to " + std::to_string(kEventCountLimit),
                "event_count_max");
  }
  PX_TRY(auto pool, BlockPool::Create({.block_count_max = options.block_count_max}));
  auto* cache = new BlockCache(options, std::move(pool));  // tidy: new private constructor
  return std::unique_ptr<BlockCache>(cache);
}

BlockCache::BlockCache(const BlockCacheOptions& options, std::unique_ptr<BlockPool> pool)
    : block_tokens_(options.block_tokens),
      identity_(options.identity_key, options.hash_bits),
      index_({.block_count_max = options.block_count_max, .block_tokens = options.block_tokens}),
      pool_(std::move(pool)) {
  if (options.event_count_max > 0) {
    journal_.emplace(
        CacheJournalOptions{.block_count = options.block_count_max,
                            .event_count_max = options.event_count_max,
                            .kept_tokens = options.events_have_tokens ? options.block_tokens : 0});
  }
}

void BlockCache::Erase(BlockId block) {
  index_.Erase(block);
  if (journal_) {
    journal_->Removed(block);
  }
}

std::optional<BlockPin> BlockCache::Allocate() {
  std::optional<BlockPool::Acquired> acquired = pool_->Acquire();
  if (!acquired) {
    return std::nullopt;
  }
  if (acquired->evicted) {
    Erase(acquired->pin.id());
    ++counters_.evictions;
  }
  return std::move(acquired->pin);
}

BlockPin BlockCache::Find(ChainPosition& position, std::span<const TokenId> tokens) {
  Hash128 hash = identity_.Chain(position.hash, tokens);
  std::optional<BlockId> block = index_.Find(position, hash, tokens);
  if (!block) {
    ++counters_.lookup_misses;
    return {};
  }
  ++counters_.lookup_hits;
  position.hash = hash;
  position.node = index_.node(*block);
  position.block = *block;
  return pool_->Pin(*block);
}

BlockCache::Published BlockCache::Publish(BlockPin pin, ChainPosition& position,
                                          std::span<const TokenId> tokens) {
  Hash128 hash = identity_.Chain(position.hash, tokens);
  PrefixIndex::InsertResult inserted = index_.Insert(pin.id(), position, hash, tokens);
  if (inserted.what == PrefixIndex::Insertion::kStale) {
    Erase(inserted.existing);
    pool_->Drop(inserted.existing);
    inserted = index_.Insert(pin.id(), position, hash, tokens);
  }
  if (inserted.what == PrefixIndex::Insertion::kCollision ||
      inserted.what == PrefixIndex::Insertion::kOrphan) {
    return {std::move(pin), false};
  }
  if (inserted.what == PrefixIndex::Insertion::kDuplicate) {
    ++counters_.duplicates;
    pin = pool_->Pin(inserted.existing);
  } else {
    ++counters_.published;
    pool_->Retain(pin.id());
    if (journal_) {
      const bool is_first = position.node == kRootNode;
      journal_->Stored(pin.id(), is_first ? std::nullopt : std::optional(position.block), tokens,
                       position.root);
    }
  }
  position.hash = hash;
  position.node = index_.node(pin.id());
  position.block = pin.id();
  return {std::move(pin), true};
}

void BlockCache::Forget(const BlockPin& pin) {
  if (index_.contains(pin.id())) {
    Erase(pin.id());
    pool_->Drop(pin.id());
  }
}

void BlockCache::Clear() {
  if (journal_) {
    journal_->Cleared();  // first: what follows removes nothing any more
  }
  for (std::uint32_t i = 0; i < pool_->block_count(); ++i) {
    if (index_.contains(BlockId{i})) {
      Erase(BlockId{i});
      pool_->Drop(BlockId{i});
    }
  }
}

BlockCacheCounters BlockCache::counters() const {
  BlockCacheCounters counters = counters_;
  counters.collisions = index_.collision_count();
  return counters;
}

void BlockCache::CheckInvariants() const {
  pool_->CheckInvariants();
  std::uint32_t unpinned_entries = 0;
  for (std::uint32_t i = 0; i < pool_->block_count(); ++i) {
    bool pinned = pool_->pins(BlockId{i}) > 0;
    unpinned_entries += !pinned && index_.contains(BlockId{i}) ? 1 : 0;
  }
  PX_ASSERT(unpinned_entries == pool_->cached_count());
}

}  // namespace pixii::kv
