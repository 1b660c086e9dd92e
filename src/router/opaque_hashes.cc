#include "router/opaque_hashes.h"

#include <algorithm>

namespace pixii::router {

std::size_t OpaqueHashes::HomeOf(std::uint64_t mixed) const {
  return static_cast<std::size_t>((mixed >> 32) * homes() >> 32);
}

// Where the hash is, or would be put; the end, if all behind its home comes before it.
std::size_t OpaqueHashes::Look(std::uint64_t mixed) const {
  std::size_t i = HomeOf(mixed);
  while (i < entries_.size() && entries_[i].id != kFree && entries_[i].mixed < mixed) {
    ++i;
  }
  return i;
}

std::size_t OpaqueHashes::FreeFrom(std::size_t at) const {
  while (at < entries_.size() && entries_[at].id != kFree) {
    ++at;
  }
  return at;
}

std::optional<OpaqueHashes::Block> OpaqueHashes::Find(std::uint64_t hash) const {
  if (size_ == 0) {
    return std::nullopt;
  }
  const std::uint64_t mixed = Mixed(hash);
  const std::size_t at = Look(mixed);
  if (at == entries_.size() || entries_[at].id == kFree || entries_[at].mixed != mixed) {
    return std::nullopt;
  }
  return Block{entries_[at].id, entries_[at].check};
}

void OpaqueHashes::Prefetch(std::uint64_t hash) const {
  constexpr std::size_t kLineBytes = 64;
  constexpr std::size_t kLines = 4;
  if (entries_.empty()) {
    return;
  }
  const auto* home = reinterpret_cast<const char*>(&entries_[HomeOf(Mixed(hash))]);
  for (std::size_t line = 0; line < kLines; ++line) {
    __builtin_prefetch(home + line * kLineBytes);
  }
}

std::optional<OpaqueHashes::Named> OpaqueHashes::Insert(std::uint64_t hash, Block block,
                                                        bool may_grow) {
  const std::uint64_t mixed = Mixed(hash);
  if (entries_.empty()) {
    entries_.resize(kHomesMin + kTail);
  }
  std::optional<Named> out;
  std::size_t at = Look(mixed);
  const bool here = at < entries_.size() && entries_[at].id != kFree && entries_[at].mixed == mixed;
  if (!here) {
    std::size_t hole = FreeFrom(at);
    // Hashes that all have their home at the end fill the tail however much the table grows.
    while (may_grow &&
           ((size_ + 1) * 16 > homes() * 15 || (hole == entries_.size() && size_ * 2 >= homes()))) {
      Grow();
      at = Look(mixed);
      hole = FreeFrom(at);
    }
    if ((size_ + 1) * 16 > homes() * 15 || hole == entries_.size()) {
      out = MakeRoom(mixed);
      at = Look(mixed);
      hole = FreeFrom(at);
    }
    std::copy_backward(entries_.begin() + static_cast<std::ptrdiff_t>(at),
                       entries_.begin() + static_cast<std::ptrdiff_t>(hole),
                       entries_.begin() + static_cast<std::ptrdiff_t>(hole) + 1);
    ++size_;
  }
  entries_[at].mixed = mixed;
  entries_[at].id = block.id;
  entries_[at].check = block.check;
  return out;
}

// An entry at or behind the home, or else the last before it, goes.
std::optional<OpaqueHashes::Named> OpaqueHashes::MakeRoom(std::uint64_t mixed) {
  std::size_t other = HomeOf(mixed);
  while (other < entries_.size() && entries_[other].id == kFree) {
    ++other;
  }
  if (other == entries_.size()) {
    other = HomeOf(mixed);
    while (entries_[other].id == kFree) {
      --other;
    }
  }
  const Entry entry = entries_[other];
  EraseAt(other);
  return Named{HashOf(entry.mixed), {entry.id, entry.check}};
}

void OpaqueHashes::Erase(std::uint64_t hash) {
  if (size_ == 0) {
    return;
  }
  const std::uint64_t mixed = Mixed(hash);
  const std::size_t at = Look(mixed);
  if (at < entries_.size() && entries_[at].id != kFree && entries_[at].mixed == mixed) {
    EraseAt(at);
  }
}

// What was pushed on moves back, up to the first that stands at its home.
void OpaqueHashes::EraseAt(std::size_t hole) {
  std::size_t end = hole + 1;
  while (end < entries_.size() && entries_[end].id != kFree && HomeOf(entries_[end].mixed) < end) {
    ++end;
  }
  std::copy(entries_.begin() + static_cast<std::ptrdiff_t>(hole) + 1,
            entries_.begin() + static_cast<std::ptrdiff_t>(end),
            entries_.begin() + static_cast<std::ptrdiff_t>(hole));
  entries_[end - 1] = Entry{};
  --size_;
}

void OpaqueHashes::Grow() {
  std::vector<Entry> old(entries_.size() + Step());
  old.swap(entries_);
  std::size_t next = 0;
  for (const Entry& entry : old) {
    if (entry.id != kFree) {
      next = std::max(next, HomeOf(entry.mixed));
      entries_[next++] = entry;
    }
  }
}

}  // namespace pixii::router
