// Gives equal values one number: what automata are made of here is compared by number alone.
//
// Thread: one owner. Layout: values in order of their numbers, an open table of numbers over them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

namespace pixii::text::grammar {

/// Mixes one more word into a hash.
inline std::uint64_t MixHash(std::uint64_t hash, std::uint64_t word) {
  hash = (hash * 0x9E3779B97F4A7C15ULL) ^ word;
  hash = (hash ^ (hash >> 32)) * 0xD6E8FEB86659FD93ULL;
  return hash ^ (hash >> 32);
}

/// T has `std::uint64_t Hash() const` and ==. References stay valid while the interner lives.
template <class T>
class Interner final {
 public:
  std::uint32_t Intern(T value) {
    if ((items_.size() + 1) * 2 > table_.size()) {
      Grow();
    }
    std::uint64_t hash = value.Hash();
    std::size_t at = hash & (table_.size() - 1);
    while (table_[at] != kFree) {
      if (hashes_[table_[at]] == hash && items_[table_[at]] == value) {
        return table_[at];
      }
      at = (at + 1) & (table_.size() - 1);
    }
    auto id = static_cast<std::uint32_t>(items_.size());
    table_[at] = id;
    hashes_.push_back(hash);
    items_.push_back(std::move(value));
    return id;
  }

  const T& operator[](std::uint32_t id) const { return items_[id]; }

  /// What is not part of the value's identity may be changed.
  T& Mutable(std::uint32_t id) { return items_[id]; }

  std::size_t size() const { return items_.size(); }

  /// Without what the values point to.
  std::size_t size_bytes() const {
    return items_.size() * (sizeof(T) + sizeof(std::uint64_t)) +
           table_.size() * sizeof(std::uint32_t);
  }

 private:
  static constexpr std::uint32_t kFree = 0xFFFFFFFF;

  void Grow() {
    table_.assign(table_.empty() ? 64 : table_.size() * 2, kFree);
    for (std::uint32_t id = 0; id < items_.size(); ++id) {
      std::size_t at = hashes_[id] & (table_.size() - 1);
      while (table_[at] != kFree) {
        at = (at + 1) & (table_.size() - 1);
      }
      table_[at] = id;
    }
  }

  std::deque<T> items_;
  std::vector<std::uint64_t> hashes_;
  std::vector<std::uint32_t> table_;
};

/// Numbers remembered by two numbers: (key, key) -> value.
class PairMemo final {
 public:
  /// The value, or nothing.
  const std::uint32_t* Find(std::uint32_t first, std::uint32_t second) const {
    if (slots_.empty()) {
      return nullptr;
    }
    std::uint64_t key = Key(first, second);
    for (std::size_t at = Place(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == key) {
        return &slots_[at].value;
      }
      if (slots_[at].key == kFree) {
        return nullptr;
      }
    }
  }

  void Put(std::uint32_t first, std::uint32_t second, std::uint32_t value) {
    if ((count_ + 1) * 2 > slots_.size()) {
      Grow();
    }
    Insert(Key(first, second), value);
  }

  std::size_t size() const { return count_; }

  std::size_t size_bytes() const { return slots_.size() * sizeof(Slot); }

 private:
  struct Slot {
    std::uint64_t key = kFree;
    std::uint32_t value = 0;
  };

  static constexpr std::uint64_t kFree = ~0ULL;

  static std::uint64_t Key(std::uint32_t first, std::uint32_t second) {
    return (static_cast<std::uint64_t>(first) << 32) | second;
  }

  std::size_t Place(std::uint64_t key) const { return MixHash(0, key) & (slots_.size() - 1); }

  void Insert(std::uint64_t key, std::uint32_t value) {
    std::size_t at = Place(key);
    while (slots_[at].key != kFree && slots_[at].key != key) {
      at = (at + 1) & (slots_.size() - 1);
    }
    count_ += slots_[at].key == kFree ? 1 : 0;
    slots_[at] = {key, value};
  }

  void Grow() {
    std::vector<Slot> old = std::move(slots_);
    slots_.assign(old.empty() ? 64 : old.size() * 2, Slot{});
    count_ = 0;
    for (const Slot& slot : old) {
      if (slot.key != kFree) {
        Insert(slot.key, slot.value);
      }
    }
  }

  std::vector<Slot> slots_;
  std::size_t count_ = 0;
};

}  // namespace pixii::text::grammar
