// Sets of numbers that grow one by one and are kept all at once: equal sets have one number, and a
// set with one more costs what its path is long, not what the set is large.
//
// Thread: one owner; a value, copies are independent.
// Source: Okasaki and Gill, "Fast Mergeable Integer Maps" (1998): big-endian Patricia trees.
#pragma once

#include <bit>
#include <cstdint>

#include "text/grammar/interner.h"

namespace pixii::text::grammar {

class ItemSets final {
 public:
  static constexpr std::uint32_t kEmpty = 0;

  ItemSets() { nodes_.Intern({}); }

  bool Contains(std::uint32_t set, std::uint32_t item) const {
    while (set != kEmpty) {
      const Node& node = nodes_[set];
      if (node.bit == 0) {
        return node.key == item;
      }
      if (Prefix(item, node.bit) != node.key) {
        return false;
      }
      set = (item & node.bit) != 0 ? node.right : node.left;
    }
    return false;
  }

  /// `set` with `item`. O(32).
  std::uint32_t With(std::uint32_t set, std::uint32_t item) {
    if (set == kEmpty) {
      return Leaf(item);
    }
    const Node node = nodes_[set];
    if (node.bit == 0 ? node.key == item : Prefix(item, node.bit) == node.key) {
      if (node.bit == 0) {
        return set;
      }
      const bool right = (item & node.bit) != 0;
      const std::uint32_t changed = With(right ? node.right : node.left, item);
      return Branch(node.key, node.bit, right ? node.left : changed, right ? changed : node.right);
    }
    const std::uint32_t bit = std::bit_floor(item ^ node.key);
    const std::uint32_t leaf = Leaf(item);
    const bool right = (item & bit) != 0;
    return Branch(Prefix(item, bit), bit, right ? set : leaf, right ? leaf : set);
  }

  std::uint32_t CountOf(std::uint32_t set) const { return nodes_[set].count; }

  /// Calls `see` with each item, smallest first.
  template <class See>
  void ForEach(std::uint32_t set, See see) const {
    if (set == kEmpty) {
      return;
    }
    const Node& node = nodes_[set];
    if (node.bit == 0) {
      see(node.key);
      return;
    }
    ForEach(node.left, see);
    ForEach(node.right, see);
  }

  std::size_t size_bytes() const { return nodes_.size_bytes(); }

 private:
  struct Node {
    std::uint32_t key = 0;  // of a leaf; else the bits above `bit` that all below share
    std::uint32_t bit = 0;  // in which the two sides differ; 0: a leaf
    std::uint32_t left = 0;
    std::uint32_t right = 0;
    std::uint32_t count = 0;  // of items

    std::uint64_t Hash() const {
      return MixHash(MixHash(count, (static_cast<std::uint64_t>(key) << 32) | bit),
                     (static_cast<std::uint64_t>(left) << 32) | right);
    }

    friend bool operator==(const Node&, const Node&) = default;
  };

  static std::uint32_t Prefix(std::uint32_t item, std::uint32_t bit) {
    return item & ~(bit | (bit - 1));
  }

  std::uint32_t Leaf(std::uint32_t item) { return nodes_.Intern({.key = item, .count = 1}); }

  std::uint32_t Branch(std::uint32_t key, std::uint32_t bit, std::uint32_t left,
                       std::uint32_t right) {
    return nodes_.Intern({.key = key,
                          .bit = bit,
                          .left = left,
                          .right = right,
                          .count = nodes_[left].count + nodes_[right].count});
  }

  Interner<Node> nodes_;
};

}  // namespace pixii::text::grammar
