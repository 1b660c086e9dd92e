// Merges a long word in the order that BPE prescribes, without a heap over all its pairs.
//
// Thread: scratch of one call.
// Pending merges wait in one list per rank. Lists are opened by rank; what is added behind the open
// rank, which trained vocabularies do rarely, goes through a small heap. One list is filled nearly
// in order, so it is sorted in about linear time: a word of one repeated character costs O(n), the
// worst O(n log n).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"

namespace pixii::text {

class MergeTable;
struct BpeSymbol;

class BpeLongWord final {
 public:
  /// Appends the ids that `symbols` (at least one) merge to, none of them made that is `forbidden`
  /// (by id, may be null). Adds the work done to `steps`.
  void Merge(const MergeTable& merges, std::span<BpeSymbol> symbols,
             const std::vector<bool>* forbidden, std::uint64_t& steps, std::vector<TokenId>& out);

 private:
  struct Node {
    std::uint32_t position;
    std::uint32_t next;
  };

  struct List {
    std::uint32_t rank;
    std::uint32_t head;
    std::uint32_t tail;
  };

  // A merge that must not wait for its rank's list, as rank * 2^32 + position.
  using Urgent = std::uint64_t;

  void Consider(std::uint32_t position);
  void Append(std::uint32_t rank, std::uint32_t position);
  std::uint32_t& ListSlot(std::uint32_t rank);
  void GrowSlots();
  void OpenNextList();
  void Apply(std::uint32_t rank, std::uint32_t position);

  const MergeTable* merges_ = nullptr;
  const std::vector<bool>* forbidden_ = nullptr;
  std::span<BpeSymbol> symbols_;
  std::vector<Node> nodes_;
  std::vector<List> lists_;
  std::vector<std::uint32_t> slots_;  // rank -> index into lists_ plus one; a power of two
  std::vector<std::uint32_t> ranks_;  // of lists not yet opened, a min-heap
  std::vector<Urgent> urgent_;        // a min-heap
  std::vector<std::uint32_t> open_;   // positions of the open list, in order
  std::int64_t open_rank_ = -1;
  std::uint64_t steps_ = 0;
};

}  // namespace pixii::text
