// Timers in order of time, then of setting: a 4-ary heap with positions, so that cancelling is
// O(log n) too.
//
// Thread: one loop. Both the real and the simulated loop keep their timers in one of these.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "rt/loop.h"

namespace pixii::rt {

class TimerHeap final {
 public:
  TimerId Add(Time when, Callback fn);
  /// The callback if the timer was still set: the caller destroys it when the heap is consistent
  /// again.
  Callback Cancel(TimerId id);

  bool empty() const { return heap_.empty(); }

  std::size_t size() const { return heap_.size(); }

  /// Pre: not empty.
  Time next_time() const { return heap_.front().when; }

  /// Takes the first timer's callback if it is due.
  std::optional<Callback> PopDue(Time now);

 private:
  struct Entry {
    Time when;
    std::uint64_t order;
    std::uint32_t slot;

    bool Before(const Entry& other) const {
      return when != other.when ? when < other.when : order < other.order;
    }
  };

  struct Slot {
    Callback fn;
    std::uint32_t generation = 1;  // half of a TimerId: an id dies with its timer
    std::uint32_t heap_index = 0;
  };

  Callback Remove(std::uint32_t heap_index);
  void Place(std::uint32_t heap_index, Entry entry);
  void SiftUp(std::uint32_t heap_index, Entry entry);
  void SiftDown(std::uint32_t heap_index, Entry entry);

  std::vector<Entry> heap_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::uint64_t next_order_ = 0;
};

}  // namespace pixii::rt
