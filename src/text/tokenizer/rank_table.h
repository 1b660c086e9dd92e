// Ranks of merges by pair, small enough to stay in a processor's caches.
//
// Thread: built by one thread, then immutable.
// Layout: slots of 8 bytes, pair * 2^24 + rank, at most half full; before them a filter of one bit
// for each of eight places a pair may hash to, since most pairs that are asked for do not merge.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace pixii::text {

class RankTable final {
 public:
  static constexpr TokenId kIdEnd = 1 << 20;                // ids are below
  static constexpr std::uint32_t kRankEnd = (1 << 24) - 1;  // ranks are below
  static constexpr std::uint32_t kNoRank = 0xFFFFFFFF;

  RankTable() { Reserve(0); }

  /// Makes room for `pairs`; drops what is there.
  void Reserve(std::size_t pairs);
  /// Pre: room was reserved; ids and rank are below the bounds; the pair is new.
  void Add(TokenId left, TokenId right, std::uint32_t rank);

  /// kNoRank if the two do not merge.
  std::uint32_t Find(TokenId left, TokenId right) const {
    const std::uint64_t pair = Pair(left, right);
    const std::uint64_t hash = pair * kMultiplier;
    const std::uint64_t bit = hash >> filter_shift_;
    if ((filter_[bit / 64] >> (bit % 64) & 1) == 0) {
      return kNoRank;
    }
    for (std::uint64_t slot = hash >> slot_shift_;; slot = (slot + 1) & mask_) {
      if (slots_[slot] >> 24 == pair) {
        return static_cast<std::uint32_t>(slots_[slot] & 0xFFFFFF);
      }
      if (slots_[slot] == kEmpty) {
        return kNoRank;
      }
    }
  }

 private:
  static constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15;
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};

  static std::uint64_t Pair(TokenId left, TokenId right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 20 |
           static_cast<std::uint32_t>(right);
  }

  std::vector<std::uint64_t> slots_;   // a power of two
  std::vector<std::uint64_t> filter_;  // bits, a power of two
  std::uint64_t mask_ = 0;
  unsigned slot_shift_ = 63;
  unsigned filter_shift_ = 63;
};

}  // namespace pixii::text
