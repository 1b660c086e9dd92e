#include "kv/tiers/tier_index.h"

#include <algorithm>
#include <string>

#include "base/assert.h"

namespace pixii::kv {

TierIndex::TierIndex(const TierIndexOptions& options)
    : options_(options),
      order_(options.slot_count, kTenantsMax),
      slots_(options.slot_count),
      tenant_names_(kTenantsMax),
      tenant_slots_(kTenantsMax) {
  PX_ASSERT(options.slot_count > 0);
  slots_of_.reserve(options.slot_count);
  free_.reserve(options.slot_count);
  for (std::uint32_t slot = options.slot_count; slot-- > 0;) {
    PushFree(slot);
  }
}

void TierIndex::PushFree(std::uint32_t index) {
  slots_[index].free_position = free_count();
  free_.push_back(index);
}

void TierIndex::TakeFree(std::uint32_t index) {
  const std::uint32_t last = free_.back();
  free_[slots_[index].free_position] = last;
  slots_[last].free_position = slots_[index].free_position;
  free_.pop_back();
}

// The last group is everybody's who came when there were as many as may.
std::uint32_t TierIndex::TenantOf(std::string_view tenant) {
  const auto found = tenants_.find(std::string(tenant));
  if (found != tenants_.end()) {
    return found->second;
  }
  if (tenants_.size() + 1 >= kTenantsMax) {
    return kTenantsMax - 1;
  }
  const auto number = static_cast<std::uint32_t>(tenants_.size());
  tenants_.emplace(tenant, number);
  tenant_names_[number] = tenant;
  return number;
}

std::optional<TierReservation> TierIndex::Reserve(const TierBlock& block) {
  PX_ASSERT(!contains(block.hash));
  const std::uint32_t tenant = TenantOf(block.tenant);
  TierReservation reservation;
  const std::optional<std::uint32_t> slot = TakeSlot(block, tenant, reservation.evicted);
  if (!slot) {
    return std::nullopt;
  }
  Occupy(*slot, block, tenant);
  slots_[*slot].state = State::kReserved;
  reservation.place = {.slot = *slot, .generation = slots_[*slot].generation};
  return reservation;
}

// A tenant at its budget takes from itself. The parent of the new block does not give way to it:
// the block would be of no use.
std::optional<std::uint32_t> TierIndex::TakeSlot(const TierBlock& block, std::uint32_t tenant,
                                                 std::optional<Hash128>& evicted) {
  const bool at_budget =
      options_.tenant_slots_max > 0 && tenant_slots_[tenant] >= options_.tenant_slots_max;
  if (!at_budget && !free_.empty()) {
    const std::uint32_t slot = free_.back();
    TakeFree(slot);
    return slot;
  }
  const std::optional<std::uint32_t> victim = at_budget ? order_.FirstOf(tenant) : order_.First();
  if (!victim || slots_[*victim].priority > block.priority ||
      slots_[*victim].hash == block.parent) {
    return std::nullopt;
  }
  evicted = slots_[*victim].hash;
  const bool removed =
      Remove(*evicted, {.slot = *victim, .generation = slots_[*victim].generation});
  PX_ASSERT(removed && slots_[*victim].state == State::kFree);
  TakeFree(*victim);
  return *victim;
}

void TierIndex::Occupy(std::uint32_t index, const TierBlock& block, std::uint32_t tenant) {
  Slot& slot = slots_[index];
  PX_ASSERT(slot.state == State::kFree);
  slot.hash = block.hash;
  slot.parent = block.parent;
  ++slot.generation;
  slot.used = ++uses_;
  slot.kept_until = now_;
  slot.readers = 0;
  slot.tenant = tenant;
  slot.frequency = 1;
  slot.priority = block.priority;
  ++tenant_slots_[tenant];
  slots_of_.emplace(block.hash, index);
  CountChild(block.parent, true);
}

// Whether or not the parent is there: it may come back.
void TierIndex::CountChild(const Hash128& parent, bool comes) {
  if (comes) {
    ++children_[parent];
  } else if (const auto found = children_.find(parent); --found->second == 0) {
    children_.erase(found);
  }
  if (const auto above = slots_of_.find(parent); above != slots_of_.end()) {
    Reorder(above->second);
  }
}

void TierIndex::Commit(std::uint32_t index) {
  Slot& slot = slots_[index];
  PX_ASSERT(slot.state == State::kReserved);
  slot.state = State::kStored;
  ++stored_;
  order_.Insert(index, slot.tenant, RankOf(slot));
}

void TierIndex::Abandon(std::uint32_t index) {
  PX_ASSERT(slots_[index].state == State::kReserved);
  slots_of_.erase(slots_[index].hash);
  CountChild(slots_[index].parent, false);
  Vacate(index);
}

void TierIndex::Vacate(std::uint32_t index) {
  Slot& slot = slots_[index];
  slot.state = State::kFree;
  --tenant_slots_[slot.tenant];
  PushFree(index);
}

bool TierIndex::Adopt(const TierPlace& place, const TierBlock& block, std::uint32_t frequency) {
  if (place.slot >= slot_count() || slots_[place.slot].state != State::kFree ||
      contains(block.hash)) {
    return false;
  }
  TakeFree(place.slot);
  Occupy(place.slot, block, TenantOf(block.tenant));
  Slot& slot = slots_[place.slot];
  slot.generation = place.generation;
  slot.frequency = std::max(frequency, 1U);
  slot.state = State::kReserved;
  Commit(place.slot);
  return true;
}

std::optional<TierPlace> TierIndex::Find(const Hash128& hash) const {
  const auto found = slots_of_.find(hash);
  if (found == slots_of_.end() || slots_[found->second].state != State::kStored) {
    return std::nullopt;
  }
  return TierPlace{.slot = found->second, .generation = slots_[found->second].generation};
}

void TierIndex::Touch(const Hash128& hash) {
  const auto found = slots_of_.find(hash);
  if (found != slots_of_.end()) {
    Slot& slot = slots_[found->second];
    slot.used = ++uses_;
    slot.kept_until = std::max(slot.kept_until, now_) + options_.hit_reward;
    slot.frequency = slot.frequency == ~0U ? slot.frequency : slot.frequency + 1;
    Reorder(found->second);
  }
}

void TierIndex::Raise(const Hash128& hash, std::int32_t priority) {
  const auto found = slots_of_.find(hash);
  if (found != slots_of_.end() && slots_[found->second].priority < priority) {
    slots_[found->second].priority = priority;
    Reorder(found->second);
  }
}

void TierIndex::LowerPriorities() {
  for (std::uint32_t index = 0; index < slot_count(); ++index) {
    if (slots_[index].priority > 0) {
      --slots_[index].priority;
      Reorder(index);
    }
  }
}

std::vector<TierIndex::Entry> TierIndex::Entries() const {
  std::vector<Entry> entries;
  for (const auto& [hash, slot] : slots_of_) {
    entries.push_back({.hash = hash,
                       .place = {.slot = slot, .generation = slots_[slot].generation},
                       .stored = slots_[slot].state == State::kStored});
  }
  return entries;
}

TierBlock TierIndex::block(std::uint32_t index) const {
  const Slot& slot = slots_[index];
  return {.hash = slot.hash,
          .parent = slot.parent,
          .tenant = tenant_names_[slot.tenant],
          .priority = slot.priority};
}

void TierIndex::BeginRead(std::uint32_t index) {
  PX_ASSERT(slots_[index].state == State::kStored);
  ++slots_[index].readers;
  order_.Erase(index);
}

void TierIndex::EndRead(std::uint32_t index) {
  Slot& slot = slots_[index];
  PX_ASSERT(slot.readers > 0 && (slot.state == State::kStored || slot.state == State::kRemoved));
  if (--slot.readers > 0) {
    return;
  }
  if (slot.state == State::kRemoved) {
    Vacate(index);
  } else {
    order_.Insert(index, slot.tenant, RankOf(slot));
  }
}

bool TierIndex::Remove(const Hash128& hash, const TierPlace& place) {
  const auto found = slots_of_.find(hash);
  if (found == slots_of_.end() || found->second != place.slot) {
    return false;
  }
  Slot& slot = slots_[place.slot];
  if (slot.state != State::kStored || slot.generation != place.generation) {
    return false;
  }
  slots_of_.erase(found);
  order_.Erase(place.slot);
  CountChild(slot.parent, false);
  --stored_;
  slot.state = State::kRemoved;
  if (slot.readers == 0) {
    Vacate(place.slot);
  }
  return true;
}

void TierIndex::Reorder(std::uint32_t index) {
  if (order_.contains(index)) {
    order_.Update(index, RankOf(slots_[index]));
  }
}

EvictionRank TierIndex::RankOf(const Slot& slot) const {
  switch (options_.policy) {
    case EvictionPolicy::kLru:
      return {.first = slot.priority, .second = 0, .order = slot.used};
    case EvictionPolicy::kFrequency:
      return {.first = slot.priority, .second = slot.frequency, .order = slot.used};
    case EvictionPolicy::kLeafFirst:
      return {.first = children_.contains(slot.hash) ? 1 : 0,
              .second = slot.priority,
              .order = slot.used};
    case EvictionPolicy::kLeafReward:
      return {.first = children_.contains(slot.hash) ? 1 : 0,
              .second = slot.priority,
              .order = static_cast<std::uint64_t>(slot.kept_until.time_since_epoch().count())};
  }
  return {};
}

void TierIndex::CheckInvariants() const {
  std::uint32_t stored = 0;
  std::uint32_t found = 0;
  std::vector<std::uint32_t> tenant_slots(kTenantsMax);
  for (std::uint32_t index = 0; index < slot_count(); ++index) {
    const Slot& slot = slots_[index];
    const bool listed = slot.state == State::kReserved || slot.state == State::kStored;
    const auto at = slots_of_.find(slot.hash);
    PX_ASSERT(listed == (at != slots_of_.end() && at->second == index));
    PX_ASSERT(order_.contains(index) == (slot.state == State::kStored && slot.readers == 0));
    PX_ASSERT(slot.state != State::kFree || slot.readers == 0 || !listed);
    stored += slot.state == State::kStored ? 1 : 0;
    found += listed ? 1 : 0;
    tenant_slots[slot.tenant] += slot.state != State::kFree ? 1 : 0;
  }
  PX_ASSERT(stored == stored_ && found == slots_of_.size() && tenant_slots == tenant_slots_);
}

}  // namespace pixii::kv
