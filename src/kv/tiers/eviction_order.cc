#include "kv/tiers/eviction_order.h"

#include "base/assert.h"

namespace pixii::kv {

EvictionOrder::EvictionOrder(std::uint32_t slot_count, std::uint32_t group_count)
    : entries_(slot_count), heaps_(group_count) {}

void EvictionOrder::Insert(std::uint32_t slot, std::uint32_t group, const EvictionRank& rank) {
  PX_ASSERT(!contains(slot));
  Heap& heap = heaps_[group];
  entries_[slot] = {.rank = rank, .group = group};
  heap.push_back(slot);
  const auto position = static_cast<std::uint32_t>(heap.size() - 1);
  Place(heap, position, slot);
  Up(heap, position);
}

void EvictionOrder::Update(std::uint32_t slot, const EvictionRank& rank) {
  PX_ASSERT(contains(slot));
  Entry& entry = entries_[slot];
  const bool sooner = rank < entry.rank;
  entry.rank = rank;
  if (sooner) {
    Up(heaps_[entry.group], entry.position);
  } else {
    Down(heaps_[entry.group], entry.position);
  }
}

void EvictionOrder::Erase(std::uint32_t slot) {
  if (!contains(slot)) {
    return;
  }
  Heap& heap = heaps_[entries_[slot].group];
  const std::uint32_t position = entries_[slot].position;
  const std::uint32_t last = heap.back();
  heap.pop_back();
  entries_[slot].position = kNone;
  if (last != slot) {
    Place(heap, position, last);
    Up(heap, position);
    Down(heap, entries_[last].position);
  }
}

std::optional<std::uint32_t> EvictionOrder::First() const {
  std::optional<std::uint32_t> first;
  for (const Heap& heap : heaps_) {
    if (!heap.empty() && (!first || Before(heap.front(), *first))) {
      first = heap.front();
    }
  }
  return first;
}

std::optional<std::uint32_t> EvictionOrder::FirstOf(std::uint32_t group) const {
  const Heap& heap = heaps_[group];
  return heap.empty() ? std::nullopt : std::optional(heap.front());
}

void EvictionOrder::Place(Heap& heap, std::uint32_t position, std::uint32_t slot) {
  heap[position] = slot;
  entries_[slot].position = position;
}

void EvictionOrder::Up(Heap& heap, std::uint32_t position) {
  const std::uint32_t slot = heap[position];
  while (position > 0) {
    const std::uint32_t above = (position - 1) / 2;
    if (!Before(slot, heap[above])) {
      break;
    }
    Place(heap, position, heap[above]);
    position = above;
  }
  Place(heap, position, slot);
}

void EvictionOrder::Down(Heap& heap, std::uint32_t position) {
  const std::uint32_t slot = heap[position];
  const auto size = static_cast<std::uint32_t>(heap.size());
  while (2 * position + 1 < size) {
    std::uint32_t below = 2 * position + 1;
    if (below + 1 < size && Before(heap[below + 1], heap[below])) {
      ++below;
    }
    if (!Before(heap[below], slot)) {
      break;
    }
    Place(heap, position, heap[below]);
    position = below;
  }
  Place(heap, position, slot);
}

}  // namespace pixii::kv
