// How often each of many keys is in use.
//
// Thread: a value; one owner.
// An open table: a request's blocks are counted and forgotten at every decision, and a node for
// each would cost more than the decision.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pixii::router {

class UseCounts final {
 public:
  /// Begins to fetch what the other verbs read first.
  void Prefetch(std::uint64_t key) const {
    if (!entries_.empty()) {
      __builtin_prefetch(&entries_[HomeOf(key)]);
    }
  }

  /// One use more: how many there are now.
  std::uint32_t Add(std::uint64_t key);

  /// One use less: how many are left. Of a key that is not used there is none to take: 0.
  std::uint32_t Remove(std::uint64_t key);

  std::uint32_t count(std::uint64_t key) const {
    return entries_.empty() ? 0 : entries_[Look(key)].count;
  }

  /// Keys in use.
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kSizeMin = 64;  // entries, a power of two

  struct Entry {
    std::uint64_t key = 0;
    std::uint32_t count = 0;  // 0: free
  };

  // Keys are hashes, but those of one rank differ from another's by a constant alone.
  std::size_t HomeOf(std::uint64_t key) const {
    return static_cast<std::size_t>(key * 0x9e3779b97f4a7c15U >> shift_);
  }

  std::size_t Look(std::uint64_t key) const;
  void Grow();

  std::vector<Entry> entries_;  // a power of two of them, or none
  std::size_t size_ = 0;
  std::uint32_t shift_ = 0;  // of a hash, to an index
};

}  // namespace pixii::router
