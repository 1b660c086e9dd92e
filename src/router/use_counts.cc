#include "router/use_counts.h"

#include <bit>

namespace pixii::router {

// Where the key is, or would be. Pre: there are entries, and a free one.
std::size_t UseCounts::Look(std::uint64_t key) const {
  std::size_t i = HomeOf(key);
  while (entries_[i].count != 0 && entries_[i].key != key) {
    i = (i + 1) & (entries_.size() - 1);
  }
  return i;
}

std::uint32_t UseCounts::Add(std::uint64_t key) {
  if ((size_ + 1) * 4 > entries_.size() * 3) {
    Grow();
  }
  Entry& entry = entries_[Look(key)];
  if (entry.count == 0) {
    entry.key = key;
    ++size_;
  }
  return ++entry.count;
}

std::uint32_t UseCounts::Remove(std::uint64_t key) {
  if (entries_.empty()) {
    return 0;
  }
  std::size_t hole = Look(key);
  if (entries_[hole].count == 0) {
    return 0;
  }
  if (--entries_[hole].count > 0) {
    return entries_[hole].count;
  }
  // Those behind it that would not be found past a hole move up.
  const std::size_t mask = entries_.size() - 1;
  for (std::size_t next = (hole + 1) & mask; entries_[next].count != 0; next = (next + 1) & mask) {
    if (((next - HomeOf(entries_[next].key)) & mask) >= ((next - hole) & mask)) {
      entries_[hole] = entries_[next];
      entries_[next].count = 0;
      hole = next;
    }
  }
  --size_;
  return 0;
}

void UseCounts::Grow() {
  std::vector<Entry> old(entries_.empty() ? kSizeMin : entries_.size() * 2);
  old.swap(entries_);
  shift_ = 64 - static_cast<std::uint32_t>(std::bit_width(entries_.size()) - 1);
  for (const Entry& entry : old) {
    if (entry.count != 0) {
      entries_[Look(entry.key)] = entry;
    }
  }
}

}  // namespace pixii::router
