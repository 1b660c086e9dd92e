#include "rt/timer_heap.h"

#include <algorithm>

namespace pixii::rt {
namespace {

constexpr std::uint32_t kChildren = 4;
constexpr std::uint32_t kNoSlot = 0xffffffffU;

}  // namespace

TimerId TimerHeap::Add(Time when, Callback fn) {
  std::uint32_t slot = kNoSlot;
  if (free_slots_.empty()) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  slots_[slot].fn = std::move(fn);
  heap_.emplace_back();
  SiftUp(static_cast<std::uint32_t>(heap_.size() - 1),
         Entry{.when = when, .order = next_order_++, .slot = slot});
  return TimerId{(std::uint64_t{slots_[slot].generation} << 32U) | slot};
}

Callback TimerHeap::Cancel(TimerId id) {
  const auto slot = static_cast<std::uint32_t>(id);
  const auto generation = static_cast<std::uint32_t>(static_cast<std::uint64_t>(id) >> 32U);
  if (generation == 0 || slot >= slots_.size() || slots_[slot].generation != generation ||
      !slots_[slot].fn) {
    return {};
  }
  return Remove(slots_[slot].heap_index);
}

std::optional<Callback> TimerHeap::PopDue(Time now) {
  if (heap_.empty() || heap_.front().when > now) {
    return std::nullopt;
  }
  return Remove(0);
}

Callback TimerHeap::Remove(std::uint32_t heap_index) {
  const std::uint32_t slot = heap_[heap_index].slot;
  const Entry last = heap_.back();
  heap_.pop_back();
  if (heap_index < heap_.size()) {
    // The last entry may belong above or below the hole, as it comes from another branch.
    if (heap_index > 0 && last.Before(heap_[(heap_index - 1) / kChildren])) {
      SiftUp(heap_index, last);
    } else {
      SiftDown(heap_index, last);
    }
  }
  Callback fn = std::move(slots_[slot].fn);
  slots_[slot].fn = nullptr;
  slots_[slot].generation = std::max(slots_[slot].generation + 1, 1U);
  free_slots_.push_back(slot);
  return fn;
}

void TimerHeap::Place(std::uint32_t heap_index, Entry entry) {
  heap_[heap_index] = entry;
  slots_[entry.slot].heap_index = heap_index;
}

void TimerHeap::SiftUp(std::uint32_t heap_index, Entry entry) {
  while (heap_index > 0) {
    const std::uint32_t parent = (heap_index - 1) / kChildren;
    if (!entry.Before(heap_[parent])) {
      break;
    }
    Place(heap_index, heap_[parent]);
    heap_index = parent;
  }
  Place(heap_index, entry);
}

void TimerHeap::SiftDown(std::uint32_t heap_index, Entry entry) {
  const auto count = static_cast<std::uint32_t>(heap_.size());
  while (true) {
    const std::uint32_t first = heap_index * kChildren + 1;
    if (first >= count) {
      break;
    }
    std::uint32_t best = first;
    for (std::uint32_t child = first + 1; child < std::min(first + kChildren, count); ++child) {
      if (heap_[child].Before(heap_[best])) {
        best = child;
      }
    }
    if (!heap_[best].Before(entry)) {
      break;
    }
    Place(heap_index, heap_[best]);
    heap_index = best;
  }
  Place(heap_index, entry);
}

}  // namespace pixii::rt
