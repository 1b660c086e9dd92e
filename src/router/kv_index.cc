#include "router/kv_index.h"

#include <algorithm>
#include <utility>

namespace pixii::router {

using wire::KvBlock;
using wire::KvEvent;
using wire::KvTier;

namespace {

constexpr std::uint32_t ShiftOf(KvTier tier) { return static_cast<std::uint32_t>(tier) * 4; }

constexpr std::uint32_t kDeviceCount = 0x000f;
constexpr std::uint32_t kHostCounts = 0x00ff;  // device or host
constexpr std::uint32_t kDiskCounts = 0x0fff;
constexpr std::uint32_t kExternalCount = 0xf000;

constexpr std::uint32_t kDeviceAlive = 1;
constexpr std::uint32_t kHostAlive = 2;
constexpr std::uint32_t kDiskAlive = 4;

constexpr std::uint32_t AliveOf(Holder holder) {
  return ((holder & kDeviceCount) != 0 ? kDeviceAlive : 0) |
         ((holder & kHostCounts) != 0 ? kHostAlive : 0) |
         ((holder & kDiskCounts) != 0 ? kDiskAlive : 0);
}

}  // namespace

void KvIndex::Apply(RankNumber rank, const KvEvent& event) {
  SweepSome();
  switch (event.kind) {
    case KvEvent::Kind::kStored: {
      const std::uint32_t slot = SlotOfRank(rank);
      if (slot == kNoSlot || static_cast<std::uint32_t>(event.tier) > 3) {
        counters_.refused += event.blocks.size();
        return;
      }
      Store(slot, event);
      return;
    }
    case KvEvent::Kind::kRemoved: {
      const auto index = static_cast<std::uint32_t>(rank);
      if (index >= slot_of_rank_.size() || slot_of_rank_[index] == kNoSlot ||
          static_cast<std::uint32_t>(event.tier) > 3) {
        counters_.unknown += event.removed.size();
        return;
      }
      Remove(slot_of_rank_[index], event);
      return;
    }
    case KvEvent::Kind::kCleared:
      Clear(rank);
      return;
  }
}

std::uint32_t KvIndex::SlotOfRank(RankNumber rank) {
  const auto index = static_cast<std::uint32_t>(rank);
  if (index >= kRankCountMax) {
    return kNoSlot;
  }
  if (index >= slot_of_rank_.size()) {
    slot_of_rank_.resize(index + 1, kNoSlot);
  }
  if (slot_of_rank_[index] != kNoSlot) {
    return slot_of_rank_[index];
  }
  if (free_slots_.empty() && slots_.size() == kSlotCountMax) {
    // All were cleared and none is swept: now, then.
    for (int round = 0; round < 2; ++round) {
      while (!table_.Sweep([this](BlockTable::Id id) { SweepNode(id); })) {
      }
      EndSweep();
    }
  }
  std::uint32_t slot = 0;
  if (!free_slots_.empty()) {
    slot = free_slots_.back();
    free_slots_.pop_back();
  } else {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  }
  slots_[slot].rank = rank;
  slots_[slot].live = true;
  slot_of_rank_[index] = slot;
  return slot;
}

void KvIndex::Clear(RankNumber rank) {
  const auto index = static_cast<std::uint32_t>(rank);
  if (index >= slot_of_rank_.size() || slot_of_rank_[index] == kNoSlot) {
    return;
  }
  const std::uint32_t slot = std::exchange(slot_of_rank_[index], kNoSlot);
  opaque_bytes_ -= slots_[slot].opaque.bytes();
  slots_[slot].opaque = {};
  slots_[slot].live = false;
  dead_.push_back(slot);
}

void KvIndex::SweepSome() {
  if (!dead_.empty() || !sweeping_.empty()) {
    if (table_.Sweep([this](BlockTable::Id id) { SweepNode(id); })) {
      EndSweep();
    }
  }
}

// A round is over: no block names the slots that were dead when it began.
void KvIndex::EndSweep() {
  free_slots_.insert(free_slots_.end(), sweeping_.begin(), sweeping_.end());
  sweeping_ = std::exchange(dead_, {});
  Remember({});  // it may name a slot that means somebody else from now on
}

void KvIndex::SweepNode(BlockTable::Id id) {
  BlockNode& node = table_.at(id);
  Holder pair[2];
  const std::span<const Holder> holders = HoldersOf(node, pair);
  if (std::ranges::all_of(holders, [&](Holder one) { return slots_[SlotOf(one)].live; })) {
    return;
  }
  scratch_.clear();
  std::ranges::copy_if(holders, std::back_inserter(scratch_),
                       [&](Holder one) { return slots_[SlotOf(one)].live; });
  if (!PutHolders(node, scratch_)) {
    DropHolders(node);  // no room for the smaller set: forgotten
  }
  if (node.first == 0 && node.second == 0) {
    table_.Erase(id);
  }
}

std::span<const Holder> KvIndex::HoldersOf(const BlockNode& node,
                                           Holder (&inline_holders)[2]) const {
  if (node.first == 0) {
    return node.second == 0 ? std::span<const Holder>() : sets_.holders(node.second);
  }
  inline_holders[0] = node.first;
  inline_holders[1] = node.second;
  return {inline_holders, node.second == 0 ? 1U : 2U};
}

bool KvIndex::Holds(const BlockNode& node, std::uint32_t slot) const {
  Holder pair[2];
  const std::span<const Holder> holders = HoldersOf(node, pair);
  const auto found = std::ranges::lower_bound(holders, slot, {}, SlotOf);
  return found != holders.end() && SlotOf(*found) == slot;
}

void KvIndex::DropHolders(BlockNode& node) {
  if (node.first == 0 && node.second != 0) {
    sets_.Drop(node.second);
  }
  node.first = 0;
  node.second = 0;
}

// False, and nothing changes, if there is no room.
bool KvIndex::PutHolders(BlockNode& node, std::span<const Holder> holders) {
  std::uint32_t first = 0;
  std::uint32_t second = 0;
  if (holders.size() <= 2) {
    first = holders.empty() ? 0 : holders[0];
    second = holders.size() < 2 ? 0 : holders[1];
  } else {
    second = sets_.Intern(holders, MayGrow());
    if (second == 0) {
      return false;
    }
  }
  DropHolders(node);
  node.first = first;
  node.second = second;
  return true;
}

void KvIndex::Remember(const Change& change) {
  const auto drop = [&](const Change& one) {
    if (one.from != 0) {
      sets_.Drop(one.from);
      if (one.first == 0 && one.second != 0) {
        sets_.Drop(one.second);
      }
    }
  };
  if (change.from != 0) {
    sets_.Use(change.from);
    if (change.first == 0 && change.second != 0) {
      sets_.Use(change.second);
    }
  }
  drop(std::exchange(last_change_, change));
}

// One storing more or less of the slot on the tier. False if there is none to take, or no room.
bool KvIndex::ChangeHolder(BlockNode& node, std::uint32_t slot, KvTier tier, bool add) {
  if (node.first == 0 && node.second != 0) {
    return ChangeSet(node, slot, tier, add);
  }
  const std::uint32_t shift = ShiftOf(tier);
  for (std::uint32_t* word : {&node.first, &node.second}) {
    if (*word == 0 || SlotOf(*word) != slot) {
      continue;
    }
    const std::uint32_t count = *word >> shift & kStoreCountMax;
    if (add) {
      *word += (count < kStoreCountMax ? 1U : 0U) << shift;
      counters_.duplicate += count > 0 ? 1 : 0;
      return true;
    }
    if (count == 0) {
      return false;
    }
    *word -= 1U << shift;
    if (CountsOf(*word) == 0) {
      if (word == &node.first) {
        node.first = node.second;
      }
      node.second = 0;
    }
    return true;
  }
  if (!add) {
    return false;
  }
  const Holder holder = slot << 16 | 1U << shift;
  if (node.first == 0) {
    node.first = holder;
    return true;
  }
  if (node.second == 0) {
    node.second = std::max(node.first, holder);
    node.first = std::min(node.first, holder);
    return true;
  }
  return ChangeSet(node, slot, tier, add);
}

bool KvIndex::ChangeSet(BlockNode& node, std::uint32_t slot, KvTier tier, bool add) {
  const HolderSets::Ref from = node.first == 0 ? node.second : 0;
  if (from != 0 && from == last_change_.from && slot == last_change_.slot &&
      tier == last_change_.tier && add == last_change_.add) {
    node.first = last_change_.first;
    node.second = last_change_.second;
    if (node.first == 0 && node.second != 0) {
      sets_.Use(node.second);
    }
    sets_.Drop(from);
    return true;
  }
  Holder pair[2];
  scratch_.clear();
  std::ranges::copy_if(HoldersOf(node, pair), std::back_inserter(scratch_),
                       [&](Holder one) { return slots_[SlotOf(one)].live; });
  const std::uint32_t shift = ShiftOf(tier);
  const auto found = std::ranges::lower_bound(scratch_, slot, {}, SlotOf);
  const bool here = found != scratch_.end() && SlotOf(*found) == slot;
  const std::uint32_t count = here ? *found >> shift & kStoreCountMax : 0;
  if (add) {
    if (!here) {
      scratch_.insert(found, slot << 16 | 1U << shift);
    } else {
      counters_.duplicate += count > 0 ? 1 : 0;
      *found += (count < kStoreCountMax ? 1U : 0U) << shift;
    }
  } else {
    if (count == 0) {
      return false;
    }
    *found -= 1U << shift;
    if (CountsOf(*found) == 0) {
      scratch_.erase(found);
    }
  }
  if (from != 0) {
    sets_.Use(from);  // until it is remembered
  }
  const bool done = PutHolders(node, scratch_);
  if (from != 0) {
    if (done && (add ? !here : true)) {
      Remember({from, slot, tier, add, node.first, node.second});
    }
    sets_.Drop(from);
  }
  if (!done && !add) {
    DropHolders(node);  // no room for the smaller set: rather nobody than somebody wrong
    return true;
  }
  return done;
}

// The chain hash of the block that the rank calls `hash`.
std::optional<std::uint64_t> KvIndex::ParentChain(std::uint32_t slot, std::uint64_t hash) {
  if (const std::optional<BlockTable::Id> id = FindOpaque(slot, hash)) {
    const BlockNode& node = table_.at(*id);
    return ChainHashOf(node.parent, node.tokens);
  }
  const BlockTable::Id id = table_.FindByHash(hash);
  if (id != BlockTable::kNone && Holds(table_.at(id), slot)) {
    return hash;
  }
  return std::nullopt;
}

std::optional<BlockTable::Id> KvIndex::FindOpaque(std::uint32_t slot, std::uint64_t hash) {
  OpaqueHashes& opaque = slots_[slot].opaque;
  const std::optional<OpaqueHashes::Block> block = opaque.Find(hash);
  if (!block) {
    return std::nullopt;
  }
  const BlockNode& node = table_.at(block->id);
  if (OpaqueHashes::CheckOf(ChainHashOf(node.parent, node.tokens)) != block->check ||
      !Holds(node, slot)) {
    opaque.Erase(hash);  // the block was evicted
    return std::nullopt;
  }
  return block->id;
}

void KvIndex::Store(std::uint32_t slot, const KvEvent& event) {
  std::uint64_t parent = 0;
  bool believed = true;  // the parent's hash is that of its chain
  if (event.parent) {
    const std::optional<std::uint64_t> known = ParentChain(slot, *event.parent);
    believed = known.has_value();
    parent = known.value_or(*event.parent);
  }
  std::uint64_t chains[kWindow];
  for (std::size_t begin = 0; begin < event.blocks.size(); begin += kWindow) {
    const std::size_t count = std::min(kWindow, event.blocks.size() - begin);
    const std::span<const KvBlock> blocks(&event.blocks[begin], count);
    std::uint64_t chain = parent;
    for (std::size_t i = 0; i < count; ++i) {
      chain = ChainHashOf(chain, blocks[i].tokens_hash);
      chains[i] = chain;
      table_.PrefetchBucket(chain);
      if (blocks[i].block_hash != chain) {
        slots_[slot].opaque.Prefetch(blocks[i].block_hash);
      }
    }
    for (const std::uint64_t one : std::span(chains, count)) {
      table_.PrefetchNode(one);
    }
    for (std::size_t i = 0; i < count; ++i) {
      // Nobody knows the block before, but if the hash of this one is public, it is that one's
      // chain that the parent's hash is of.
      believed = believed || chains[i] == blocks[i].block_hash;
      if (!believed) {
        counters_.orphaned += event.blocks.size() - begin - i;
        return;
      }
      if (!StoreBlock(slot, event.tier, chains[i], parent, blocks[i])) {
        ++counters_.refused;
      }
      parent = chains[i];
    }
  }
}

bool KvIndex::StoreBlock(std::uint32_t slot, KvTier tier, std::uint64_t chain, std::uint64_t parent,
                         const KvBlock& block) {
  BlockTable::Id id = table_.Find(chain, parent, block.tokens_hash);
  if (id == BlockTable::kNone) {
    id = MakeBlock(chain, parent, block.tokens_hash);
    if (id == BlockTable::kNone) {
      return false;
    }
  }
  BlockNode& node = table_.at(id);
  if (!ChangeHolder(node, slot, tier, true)) {
    return false;
  }
  ++counters_.stored;
  if (block.block_hash == chain) {
    return true;
  }
  OpaqueHashes& opaque = slots_[slot].opaque;
  const bool may_grow = MayGrow() && bytes() + opaque.growth_bytes() <= options_.bytes_max;
  opaque_bytes_ -= opaque.bytes();
  const std::optional<OpaqueHashes::Named> pushed_out =
      opaque.Insert(block.block_hash, {id, OpaqueHashes::CheckOf(chain)}, may_grow);
  opaque_bytes_ += opaque.bytes();
  if (pushed_out && pushed_out->block.id != id) {
    // Its removal could not be understood any more: as if removed now.
    BlockNode& other = table_.at(pushed_out->block.id);
    if (OpaqueHashes::CheckOf(ChainHashOf(other.parent, other.tokens)) == pushed_out->block.check) {
      for (std::uint32_t t = 0; t < 4; ++t) {
        while (ChangeHolder(other, slot, static_cast<KvTier>(t), false)) {
        }
      }
      if (other.first == 0 && other.second == 0) {
        table_.Erase(pushed_out->block.id);
      }
      ++counters_.evicted;
    }
  }
  return true;
}

// Of the budget, an eighth is for sets and opaque hashes alone.
bool KvIndex::NodesMayGrow() const {
  return MayGrow() && table_.bytes() + kGrowthBytesMax <= options_.bytes_max / 8 * 7;
}

BlockTable::Id KvIndex::MakeBlock(std::uint64_t chain, std::uint64_t parent, std::uint64_t tokens) {
  constexpr int kEvictionsMax = 4;  // for one block
  for (int i = 0; i <= kEvictionsMax; ++i) {
    const BlockTable::Id id = table_.Insert(chain, parent, tokens, NodesMayGrow());
    if (id != BlockTable::kNone) {
      return id;
    }
    const BlockTable::Id victim = table_.NextVictim();
    if (victim == BlockTable::kNone) {
      break;
    }
    DropHolders(table_.at(victim));
    table_.Erase(victim);
    ++counters_.evicted;
  }
  return BlockTable::kNone;
}

void KvIndex::Remove(std::uint32_t slot, const KvEvent& event) {
  for (std::size_t begin = 0; begin < event.removed.size(); begin += kWindow) {
    const std::size_t count = std::min(kWindow, event.removed.size() - begin);
    const std::span<const std::uint64_t> hashes(&event.removed[begin], count);
    const bool is_public = slots_[slot].opaque.size() == 0;
    if (is_public) {
      std::ranges::for_each(hashes, [&](std::uint64_t one) { table_.PrefetchBucket(one); });
      std::ranges::for_each(hashes, [&](std::uint64_t one) { table_.PrefetchNode(one); });
    } else {
      std::ranges::for_each(hashes, [&](std::uint64_t one) { slots_[slot].opaque.Prefetch(one); });
    }
    for (const std::uint64_t hash : hashes) {
      const std::optional<BlockTable::Id> opaque = FindOpaque(slot, hash);
      const BlockTable::Id id = opaque ? *opaque : table_.FindByHash(hash);
      if (id == BlockTable::kNone || !ChangeHolder(table_.at(id), slot, event.tier, false)) {
        ++counters_.unknown;
        continue;
      }
      ++counters_.removed;
      const BlockNode& node = table_.at(id);
      if (opaque && !Holds(node, slot)) {
        slots_[slot].opaque.Erase(hash);
      }
      if (node.first == 0 && node.second == 0) {
        table_.Erase(id);
      }
    }
  }
}

void KvIndex::Find(std::span<const std::uint64_t> block_hashes, KvMatches& out) {
  SweepSome();
  out.ranks.clear();
  out.shared = 0;
  tracks_.clear();
  std::uint64_t parent = 0;
  std::uint32_t last_first = 0;
  std::uint32_t last_second = 0;
  bool shared = true;
  std::size_t depth = 0;
  BlockTable::Id id = BlockTable::kNone;
  Ahead ahead;
  for (; depth < block_hashes.size(); ++depth) {
    id = table_.FindBehind(id, parent, block_hashes[depth]);
    if (id == BlockTable::kNone) {
      id = FindAhead(block_hashes, depth, parent, ahead);
      if (id == BlockTable::kNone) {
        break;
      }
    }
    const BlockNode& node = table_.at(id);
    if (node.first != last_first || node.second != last_second) {
      Holder pair[2];
      const std::span<const Holder> holders = HoldersOf(node, pair);
      Follow(holders, static_cast<std::uint32_t>(depth), out);
      shared = shared && std::ranges::any_of(holders, [&](Holder one) {
                 return (one & kExternalCount) != 0 && slots_[SlotOf(one)].live;
               });
      last_first = node.first;
      last_second = node.second;
      if (tracks_.empty() && !shared) {
        break;
      }
    }
    out.shared = shared ? static_cast<std::uint32_t>(depth) + 1 : out.shared;
    // From what stands in the table, so that no block waits for the hash of the one before.
    parent = ChainHashOf(node.parent, node.tokens);
  }
  for (Track& track : tracks_) {
    const auto here = static_cast<std::uint32_t>(depth);
    track.match.device = (track.alive & kDeviceAlive) != 0 ? here : track.match.device;
    track.match.host = (track.alive & kHostAlive) != 0 ? here : track.match.host;
    track.match.disk = here;
    out.ranks.push_back(track.match);
  }
}

// By its hash; those of the next ones are computed and fetched meanwhile, more each time.
BlockTable::Id KvIndex::FindAhead(std::span<const std::uint64_t> block_hashes, std::size_t depth,
                                  std::uint64_t parent, Ahead& ahead) {
  if (depth >= ahead.begin + ahead.count) {
    ahead.width = depth == ahead.begin + ahead.count ? std::min(ahead.width * 2, kWindow) : 4;
    ahead.begin = depth;
    ahead.count = std::min(ahead.width, block_hashes.size() - depth);
    std::uint64_t chain = parent;
    for (std::size_t i = 0; i < ahead.count; ++i) {
      chain = ChainHashOf(chain, block_hashes[depth + i]);
      ahead.chains[i] = chain;
      table_.PrefetchBucket(chain);
    }
    for (std::size_t i = 0; i < ahead.count; ++i) {
      table_.PrefetchNode(ahead.chains[i]);
    }
  }
  return table_.Find(ahead.chains[depth - ahead.begin], parent, block_hashes[depth]);
}

// The block at `depth` has other holders than the one before: some ranks' prefixes end here.
void KvIndex::Follow(std::span<const Holder> holders, std::uint32_t depth, KvMatches& out) {
  if (depth == 0) {
    for (const Holder holder : holders) {
      const std::uint32_t alive = AliveOf(holder);
      if (alive != 0 && slots_[SlotOf(holder)].live) {
        tracks_.push_back({SlotOf(holder), alive, {slots_[SlotOf(holder)].rank, 0, 0, 0}});
      }
    }
    return;
  }
  std::size_t kept = 0;
  auto holder = holders.begin();
  for (Track& track : tracks_) {
    while (holder != holders.end() && SlotOf(*holder) < track.slot) {
      ++holder;
    }
    const bool here = holder != holders.end() && SlotOf(*holder) == track.slot;
    const std::uint32_t alive = here ? track.alive & AliveOf(*holder) : 0;
    const std::uint32_t ended = track.alive & ~alive;
    track.match.device = (ended & kDeviceAlive) != 0 ? depth : track.match.device;
    track.match.host = (ended & kHostAlive) != 0 ? depth : track.match.host;
    track.match.disk = (ended & kDiskAlive) != 0 ? depth : track.match.disk;
    track.alive = alive;
    if (alive == 0) {
      out.ranks.push_back(track.match);
    } else {
      tracks_[kept++] = track;
    }
  }
  tracks_.resize(kept);
}

}  // namespace pixii::router
