// The merges of a BPE model: by pair, and which neighbours no merge ever joins.
//
// Thread: built by one thread, then immutable.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/ids.h"

namespace pixii::text {

/// The merges by pair, in a table of power-of-two size at most half full.
class MergeTable final {
 public:
  struct Entry {
    TokenId left = -1;
    TokenId right = -1;
    std::uint32_t rank = 0;
    TokenId merged = -1;
  };

  void Reserve(std::size_t merges);
  /// Of equal pairs the last counts.
  void Add(const Entry& entry);
  /// Asks the processor to fetch where this pair stands or will stand.
  void Prefetch(TokenId left, TokenId right) const;
  /// Null if the two do not merge.
  const Entry* Find(TokenId left, TokenId right) const;

  std::size_t size() const { return size_; }

  template <class Visit>
  void ForEach(Visit visit) const {
    for (const Entry& entry : slots_) {
      if (entry.left != -1) {
        visit(entry);
      }
    }
  }

 private:
  std::size_t Slot(TokenId left, TokenId right) const;
  void Resize(std::size_t slots);

  std::vector<Entry> slots_;
  std::size_t size_ = 0;
};

/// Between which first symbols of a word a merge can ever reach across. Where none can, the word
/// falls into parts that merge independently, so that long texts without spaces cost no more than
/// short words.
///
/// For every merge (left, right) the last symbol of left and the first of right are noted, in a
/// Bloom filter: a false positive joins parts that could be apart, which changes nothing but time.
class MergeBoundaries final {
 public:
  MergeBoundaries() = default;
  /// `is_symbol(id)`: whether `id` can be a symbol of a word before any merge.
  MergeBoundaries(const MergeTable& merges, TokenId id_end,
                  const std::function<bool(TokenId)>& is_symbol);

  /// Whether a merge may join the symbols `left` and `right`, or what grows from them.
  bool MayJoin(TokenId left, TokenId right) const;

 private:
  std::vector<std::uint64_t> filter_;  // a power of two of words; empty: everything may join
  std::vector<bool> wild_;  // by id: symbols that merges make too; they join with everything
};

}  // namespace pixii::text
