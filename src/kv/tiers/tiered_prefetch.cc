// Blocks that come nearer before they are asked for: from slower tiers to host memory, for requests
// that wait for their turn. And what is thrown away when somebody wants the tiers empty.
#include <algorithm>
#include <utility>

#include "kv/tiers/tiered_connector.h"
#include "kv/tiers/tiered_state.h"

namespace pixii::kv {

namespace {

constexpr std::size_t kDropsOfJob = 256;  // reads come between

}  // namespace

WantedBlock TieredConnector::WantedOf(const BlockChain& chain, std::uint32_t number) const {
  const std::size_t block_tokens = options_.shape.block_tokens();
  WantedBlock wanted;
  wanted.hash = chain.hashes[number];
  wanted.parent = number == 0 ? chain.root->hash : chain.hashes[number - 1];
  wanted.root = chain.root;
  wanted.index = number;
  const auto tokens = std::span(chain.tokens).subspan(number * block_tokens, block_tokens);
  wanted.tokens.assign(tokens.begin(), tokens.end());
  return wanted;
}

void TieredConnector::Expect(std::span<const ExpectedRequest> waiting) {
  prefetches_.Expect(waiting);
  PumpUp();
}

// A slow tier has no more than a few batches to do at a time, so that a load that somebody waits
// for comes soon.
void TieredConnector::PumpUp() {
  Level& host = *levels_.front();
  std::vector<UpItem> batch;
  Level* from = nullptr;
  auto flush = [&] {
    if (!batch.empty()) {
      ++from->prefetches;
      PostPrefetch(*from, std::exchange(batch, {}));
    }
  };
  while (const std::optional<PrefetchPlanner::Wish> wish = prefetches_.Next()) {
    const BlockChain& chain = wish->request->chain;
    const Hash128& hash = chain.hashes[wish->number];
    if (host.index.contains(hash) || prefetches_.moving(hash)) {
      host.index.Touch(hash);
      prefetches_.Near(*wish);
      continue;
    }
    const std::optional<Place> place = Locate(hash);
    if (!place || !host.writable(now_)) {
      prefetches_.Missing(*wish);
      continue;
    }
    if (place->level != from || batch.size() >= options_.batch_blocks) {
      flush();
      from = place->level;
    }
    if (from->prefetches >= options_.prefetch_batches_max) {
      break;
    }
    const std::optional<BlockRootFields> fields = ReadRootBytes(chain.root->bytes);
    WantedBlock wanted = WantedOf(chain, wish->number);
    wanted.generation = from->has_slots ? place->place.generation : 0;
    const std::optional<TierPlace> to =
        Reserve(host, {.hash = hash,
                       .parent = wanted.parent,
                       .tenant = fields ? fields->tenant : std::string_view(),
                       .priority = std::clamp(wish->request->priority, 0, kPriorityMax)});
    if (!to) {
      prefetches_.Missing(*wish);
      continue;
    }
    prefetches_.Began(*wish);
    from->index.BeginRead(place->place.slot);
    UpItem& item = batch.emplace_back();
    item.from = place->place;
    item.to = *to;
    item.wanted = std::move(wanted);
  }
  flush();
}

void TieredConnector::PostPrefetch(Level& level, std::vector<UpItem> items) {
  level.runner->Post(
      false, [this, &level, mailbox = mailbox_, store = level.store,
              target = levels_.front()->store, shape = options_.shape, items = std::move(items),
              pace = PaceOf(level, BlockTrafficCost::kCopy + BlockTrafficCost::kCheck,
                            CopyHaste::kLater)] {
        std::vector<BlockFault> faults;
        for (const UpItem& item : items) {
          pace.Pass();
          StoredBlock block;
          std::span<const std::byte> payload;
          BlockFault fault = store->Read(item.from.slot, item.wanted.hash, block, payload);
          fault = fault == BlockFault::kNone ? CompareHeader(block, item.wanted, shape) : fault;
          fault = fault == BlockFault::kNone ? CheckPayload(block, payload) : fault;
          if (fault == BlockFault::kNone) {
            block.generation = item.to.generation;
            const Result<void> written = target->Write(item.to.slot, std::move(block), payload);
            fault = written ? BlockFault::kNone : BlockFault::kMissing;
          }
          faults.push_back(fault);
        }
        mailbox->Put([this, &level, items, faults = std::move(faults)] {
          Prefetched(level, items, faults);
        });
      });
}

void TieredConnector::Prefetched(Level& level, const std::vector<UpItem>& items,
                                 const std::vector<BlockFault>& faults) {
  Level& host = *levels_.front();
  --level.prefetches;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const UpItem& item = items[i];
    level.index.EndRead(item.from.slot);
    prefetches_.Done(item.wanted.hash);
    if (faults[i] != BlockFault::kNone) {
      host.index.Abandon(item.to.slot);
      host.distrusted.erase(item.wanted.hash);
      Failed(level, item.wanted.hash, item.from, faults[i]);
      continue;
    }
    level.reads.Succeeded();
    Add(counters_->of(level.tier).prefetched);
    Settle(host, item.to,
           {.hash = item.wanted.hash,
            .name = Name({.hash = item.wanted.hash,
                          .parent = item.wanted.parent,
                          .root = item.wanted.root,
                          .index = item.wanted.index,
                          .tokens = item.wanted.tokens,
                          .bytes = {},
                          .pin = {}})},
           {});
  }
  PumpUp();
}

void TieredConnector::Clear(bool lasting) {
  for (const std::unique_ptr<Level>& level : levels_) {
    if (level->tier == Tier::kPeer || (level->tier != Tier::kHost && !lasting)) {
      continue;  // others' files are theirs
    }
    std::vector<std::pair<std::uint32_t, Hash128>> drops;
    auto flush = [&] {
      if (!drops.empty() && !level->read_only) {
        level->runner->Post(false, [store = level->store, drops] {
          for (const auto& [slot, hash] : drops) {
            store->Drop(slot, hash);
          }
        });
      }
      drops.clear();
    };
    for (const TierIndex::Entry& entry : level->index.Entries()) {
      if (!entry.stored) {
        level->distrusted.insert(entry.hash);  // it is forgotten as soon as it is there
        continue;
      }
      level->index.Remove(entry.hash, entry.place);
      journal_.Removed(level->tier, entry.place.slot);
      drops.emplace_back(entry.place.slot, entry.hash);
      if (drops.size() >= kDropsOfJob) {
        flush();
      }
    }
    flush();
    CountStored(*level);
  }
}

}  // namespace pixii::kv
