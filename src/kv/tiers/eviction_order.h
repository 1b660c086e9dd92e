// Which slot of a tier gives way first: heaps by group, so that one tenant's slots can be found
// apart from all others'.
//
// Thread: one owner. No allocation once a group has been seen with as many slots as now.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <vector>

namespace pixii::kv {

/// Slots with smaller ranks give way first; `order` decides among equal ones.
struct EvictionRank {
  std::int64_t first = 0;
  std::int64_t second = 0;
  std::uint64_t order = 0;

  friend auto operator<=>(const EvictionRank&, const EvictionRank&) = default;
};

class EvictionOrder final {
 public:
  EvictionOrder(std::uint32_t slot_count, std::uint32_t group_count);

  /// Pre: `slot` is not in it.
  void Insert(std::uint32_t slot, std::uint32_t group, const EvictionRank& rank);
  /// Pre: `slot` is in it.
  void Update(std::uint32_t slot, const EvictionRank& rank);
  /// No effect if it is not in it.
  void Erase(std::uint32_t slot);

  bool contains(std::uint32_t slot) const { return entries_[slot].position != kNone; }

  /// Who gives way first, of all groups. O(groups).
  std::optional<std::uint32_t> First() const;
  /// Of one.
  std::optional<std::uint32_t> FirstOf(std::uint32_t group) const;

 private:
  static constexpr std::uint32_t kNone = ~0U;

  struct Entry {
    EvictionRank rank;
    std::uint32_t group = 0;
    std::uint32_t position = kNone;  // in the heap of its group
  };

  using Heap = std::vector<std::uint32_t>;  // slots

  bool Before(std::uint32_t a, std::uint32_t b) const {
    return entries_[a].rank < entries_[b].rank;
  }

  void Place(Heap& heap, std::uint32_t position, std::uint32_t slot);
  void Up(Heap& heap, std::uint32_t position);
  void Down(Heap& heap, std::uint32_t position);

  std::vector<Entry> entries_;  // [slot]
  std::vector<Heap> heaps_;     // [group]
};

}  // namespace pixii::kv
