#include "router/opaque_hashes.h"

#include <algorithm>

namespace pixii::router {

std::size_t OpaqueHashes::HomeOf(std::uint64_t hash) const {
  // Engines may count: spread, then scale to the table's size.
  const std::uint64_t spread = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15U;
  return static_cast<std::size_t>((spread >> 32) * entries_.size() >> 32);
}

// Where the hash is, or would be.
std::size_t OpaqueHashes::Look(std::uint64_t hash) const {
  std::size_t i = HomeOf(hash);
  while (entries_[i].id != kFree && entries_[i].hash != hash) {
    i = i + 1 == entries_.size() ? 0 : i + 1;
  }
  return i;
}

std::optional<OpaqueHashes::Block> OpaqueHashes::Find(std::uint64_t hash) const {
  if (size_ == 0) {
    return std::nullopt;
  }
  const Entry& entry = entries_[Look(hash)];
  return entry.id == kFree ? std::nullopt : std::optional<Block>(Block{entry.id, entry.check});
}

std::optional<OpaqueHashes::Named> OpaqueHashes::Insert(std::uint64_t hash, Block block,
                                                        bool may_grow) {
  std::optional<Named> out;
  if (entries_.empty()) {
    entries_.resize(kSizeMin);
  }
  std::size_t at = Look(hash);
  if (entries_[at].id == kFree) {
    if ((size_ + 1) * 8 > entries_.size() * 7) {
      if (may_grow) {
        Grow();
      } else {
        std::size_t other = HomeOf(hash);
        while (entries_[other].id == kFree) {
          other = other + 1 == entries_.size() ? 0 : other + 1;
        }
        out = {entries_[other].hash, {entries_[other].id, entries_[other].check}};
        EraseAt(other);
      }
      at = Look(hash);
    }
    ++size_;
  }
  entries_[at].hash = hash;
  entries_[at].id = block.id;
  entries_[at].check = block.check;
  return out;
}

void OpaqueHashes::Erase(std::uint64_t hash) {
  if (size_ > 0) {
    const std::size_t at = Look(hash);
    if (entries_[at].id != kFree) {
      EraseAt(at);
    }
  }
}

void OpaqueHashes::EraseAt(std::size_t hole) {
  const std::size_t count = entries_.size();
  const auto distance = [&](std::size_t from, std::size_t to) {
    return to >= from ? to - from : to + count - from;
  };
  for (std::size_t next = (hole + 1) % count; entries_[next].id != kFree;
       next = (next + 1) % count) {
    if (distance(HomeOf(entries_[next].hash), next) >= distance(hole, next)) {
      entries_[hole] = entries_[next];
      hole = next;
    }
  }
  entries_[hole] = Entry{};
  --size_;
}

void OpaqueHashes::Grow() {
  std::vector<Entry> old(entries_.size() + std::max(entries_.size() / 5, kSizeMin));
  old.swap(entries_);
  for (const Entry& entry : old) {
    if (entry.id != kFree) {
      entries_[Look(entry.hash)] = entry;
    }
  }
}

}  // namespace pixii::router
