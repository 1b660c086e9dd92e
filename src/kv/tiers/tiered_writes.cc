// Blocks on their way down: from the cache to the first tier, from there to those behind it.
#include <limits>
#include <utility>

#include "base/assert.h"
#include "kv/tiers/tiered_connector.h"
#include "kv/tiers/tiered_state.h"
#include "wire/public_hash.h"

namespace pixii::kv {

// Slots are written over; names are not, so what has them must go.
std::optional<TierPlace> TieredConnector::Reserve(Level& level, const TierBlock& block) {
  TierCounters::Of& counts = counters_->of(level.tier);
  const std::optional<TierReservation> reserved = level.index.Reserve(block);
  if (!reserved) {
    Add(counts.refused);
    return std::nullopt;
  }
  if (reserved->evicted) {
    Add(counts.evicted);
    CountStored(level);
    journal_.Removed(level.tier, reserved->place.slot);
    if (!level.has_slots && !level.forgets_itself) {
      level.runner->Post(false, [store = level.store, slot = reserved->place.slot,
                                 gone = *reserved->evicted] { store->Drop(slot, gone); });
    }
  }
  return reserved->place;
}

void TieredConnector::WriteFromCache(Level& level, const PublishedBlock& block,
                                     const std::optional<PublicBlock>& name,
                                     const std::shared_ptr<BlockPin>& pin) {
  if (!*pin || level.index.contains(block.hash) || !level.writable(now_)) {
    return;
  }
  const std::uint64_t bytes = options_.shape.payload_bytes();
  if (level.coming > 0 && level.coming + bytes > options_.bytes_in_flight_max) {
    Add(counters_->of(level.tier).refused);
    return;
  }
  const std::optional<BlockRootFields> fields = ReadRootBytes(block.root->bytes);
  const std::optional<TierPlace> place =
      Reserve(level, {.hash = block.hash,
                      .parent = block.parent,
                      .tenant = fields ? fields->tenant : std::string_view()});
  if (!place) {
    return;
  }
  StoredBlock stored;
  stored.hash = block.hash;
  stored.parent = block.parent;
  stored.root = block.root;
  stored.generation = place->generation;
  stored.index = block.index;
  if (name) {
    stored.public_hash = name->chain_hash;
    stored.public_parent = name->parent_hash.value_or(0);
  }
  stored.frequency = filter_.frequency(block.hash);
  stored.shape = options_.shape;
  stored.tokens.assign(block.tokens.begin(), block.tokens.end());
  level.coming += bytes;
  ++cache_writes_;
  // The pin goes where it came from: the mailbox's calls run on the engine's thread. A plain `pin`
  // would be captured as const, copied to the mailbox, and its last copy could go with the job.
  level.runner->Post(
      false,
      [this, &level, mailbox = mailbox_, store = level.store, place = *place, payload = block.bytes,
       stored = std::move(stored), written = Written{.hash = block.hash, .name = name}, pin = pin,
       pace = PaceOf(level, BlockTrafficCost::kCopy, CopyHaste::kLater)]() mutable {
        pace.Pass();
        Result<void> result = store->Write(place.slot, std::move(stored), payload);
        mailbox->Put([this, &level, place, written = std::move(written), result = std::move(result),
                      pin = std::move(pin)] { CacheWritten(level, place, written, result); });
      });
}

void TieredConnector::CacheWritten(Level& level, const TierPlace& place, const Written& written,
                                   const Result<void>& result) {
  level.coming -= options_.shape.payload_bytes();
  --cache_writes_;
  Settle(level, place, written, result);
  if (result && level.tier == Tier::kHost) {
    OfferDown(written.hash);
    for (std::size_t i = 1; i < levels_.size(); ++i) {
      PumpDown(*levels_[i]);
    }
  }
}

void TieredConnector::Settle(Level& level, const TierPlace& place, const Written& written,
                             const Result<void>& result) {
  TierCounters::Of& counts = counters_->of(level.tier);
  if (result) {
    level.index.Commit(place.slot);
    level.writes.Succeeded();
    Add(counts.written);
    Add(counts.written_bytes, options_.shape.payload_bytes());
    CountStored(level);
    if (level.distrusted.erase(written.hash) > 0) {
      Forget(level, written.hash, place);
    } else if (written.name) {
      journal_.Stored(level.tier, place.slot, *written.name);
    }
    return;
  }
  level.index.Abandon(place.slot);
  level.distrusted.erase(written.hash);
  if (result.error().code() != Code::kTooLarge) {
    Add(counts.write_failures);
    level.writes.Failed(now_, result.error().code() == Code::kResourceExhausted,
                        result.error().detail());
  } else {
    Add(counts.refused);
  }
}

void TieredConnector::OfferDown(const Hash128& hash) {
  if (levels_.size() == 1 || levels_.front()->tier != Tier::kHost ||
      !levels_.front()->index.Find(hash)) {
    return;
  }
  for (std::size_t i = 1; i < levels_.size(); ++i) {
    Level& level = *levels_[i];
    if (!level.read_only && !level.index.contains(hash) &&
        level.planner.Wants(filter_.frequency(hash)) && !level.planner.Offer(hash, 0)) {
      Add(counters_->of(level.tier).refused);
    }
  }
}

void TieredConnector::PumpDown(Level& level) {
  Level& host = *levels_.front();
  while (level.writable(now_)) {
    std::vector<DownItem> items;
    while (items.size() < level.planner.batch_blocks()) {
      const std::optional<Hash128> hash = level.planner.Next();
      if (!hash) {
        break;
      }
      const std::optional<TierPlace> from = host.index.Find(*hash);
      if (!from || level.index.contains(*hash)) {
        level.planner.Done(*hash);
        continue;
      }
      const std::optional<TierPlace> to = Reserve(level, host.index.block(from->slot));
      if (!to) {
        level.planner.Done(*hash);
        continue;
      }
      host.index.BeginRead(from->slot);
      items.push_back({.block = {.hash = *hash, .name = journal_.at(Tier::kHost, from->slot)},
                       .from = *from,
                       .to = *to});
    }
    if (items.empty()) {
      return;
    }
    level.runner->Post(false, [this, &level, mailbox = mailbox_, store = level.store,
                               source = host.store, items = std::move(items),
                               pace = PaceOf(level, BlockTrafficCost::kCopy, CopyHaste::kLater)] {
      std::vector<std::uint32_t> slots;
      for (const DownItem& item : items) {
        slots.push_back(item.to.slot);
      }
      std::vector<Result<void>> results = store->WriteMany(
          slots, [&](std::size_t i, StoredBlock& block, std::span<const std::byte>& payload) {
            pace.Pass();
            const BlockFault fault =
                source->Read(items[i].from.slot, items[i].block.hash, block, payload);
            block.generation = items[i].to.generation;
            return fault == BlockFault::kNone && block.hash == items[i].block.hash;
          });
      mailbox->Put(
          [this, &level, items, results = std::move(results)] { WentDown(level, items, results); });
    });
  }
}

void TieredConnector::WentDown(Level& level, const std::vector<DownItem>& items,
                               const std::vector<Result<void>>& results) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    levels_.front()->index.EndRead(items[i].from.slot);
    level.planner.Done(items[i].block.hash);
    Settle(level, items[i].to, items[i].block, results[i]);
  }
  PumpDown(level);
}

// In pieces, so that neither memory nor the engine's thread is held up.
void TieredConnector::Scan(Level& level) {
  constexpr std::size_t kPiece = 256;  // blocks
  // More names than it has room for need nobody. Peers have files of their own, each with its turn.
  const std::size_t found_max = level.tier == Tier::kPeer ? std::numeric_limits<std::size_t>::max()
                                                          : level.index.slot_count();
  level.runner->Post(false, [this, &level, mailbox = mailbox_, store = level.store, found_max] {
    std::size_t found_count = 0;
    auto piece = std::make_shared<std::vector<BlockStore::Found>>();
    auto tell = [&](bool last) {
      mailbox->Put([this, &level, piece, last] {
        for (const BlockStore::Found& found : *piece) {
          Adopt(level, found);
        }
        CountStored(level);
        level.scanning = level.scanning && !last;
        level.is_listing = level.is_listing && !last;
      });
      piece = std::make_shared<std::vector<BlockStore::Found>>();
    };
    store->Scan(
        [&](BlockStore::Found found) {
          piece->push_back(std::move(found));
          if (piece->size() >= kPiece) {
            tell(false);
          }
          return ++found_count < found_max && !store->stopping();
        },
        [&](BlockFault fault) {
          mailbox->Put([this, &level, fault] {
            TierCounters::Of& counts = counters_->of(level.tier);
            Add(counts.faults[static_cast<std::size_t>(fault)]);
            if (fault == BlockFault::kIo && !level.has_slots) {  // the list as a whole
              Add(counts.read_failures);
              level.reads.Failed(now_, false, level.store->trouble());
            }
          });
        });
    tell(true);
  });
}

void TieredConnector::Adopt(Level& level, const BlockStore::Found& found) {
  const StoredBlock& block = found.block;
  if (!level.has_slots) {  // it has a name and no more is known of it
    if (!level.index.contains(block.hash) && level.index.free_count() > 0) {
      if (const auto reserved = level.index.Reserve({.hash = block.hash, .parent = {}})) {
        level.index.Commit(reserved->place.slot);
      }
    }
    return;
  }
  const std::optional<BlockRootFields> fields = ReadRootBytes(block.root->bytes);
  const bool taken = level.index.Adopt(found.place,
                                       {.hash = block.hash,
                                        .parent = block.parent,
                                        .tenant = fields ? fields->tenant : std::string_view(),
                                        .priority = block.priority},
                                       block.frequency);
  if (taken && block.public_hash) {
    names_.Remember(block.hash, *block.public_hash);
    journal_.Stored(
        level.tier, found.place.slot,
        {.index = block.index,
         .chain_hash = *block.public_hash,
         .tokens_hash = wire::PublicBlockHash(block.tokens, block.root->public_seed),
         .parent_hash = block.index > 0 ? std::optional(block.public_parent) : std::nullopt,
         .root = block.root,
         .tokens = block.tokens});
  }
}

// As routers know it; nothing if the block before it is not known.
std::optional<PublicBlock> TieredConnector::Name(const PublishedBlock& block) {
  PublicBlock name;
  name.index = block.index;
  name.root = block.root;
  name.tokens = block.tokens;
  name.tokens_hash = wire::PublicBlockHash(block.tokens, block.root->public_seed);
  name.chain_hash = name.tokens_hash;
  if (block.index > 0) {
    name.parent_hash = names_.Find(block.parent);
    if (!name.parent_hash) {
      return std::nullopt;
    }
    name.chain_hash = wire::PublicChainHash(*name.parent_hash, name.tokens_hash);
  }
  names_.Remember(block.hash, name.chain_hash);
  return name;
}

}  // namespace pixii::kv
