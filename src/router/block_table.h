// All blocks that anybody holds: a chain of blocks finds its last one.
//
// Thread: a value; one owner.
// A node says what a block is (the chain before it, its tokens' hash); the hash of its own chain
// follows from both and is not kept. A directory of segments, each a table of 64 buckets of one
// cache line, finds a node by its chain hash; a full segment splits alone, so nothing ever stops to
// grow. Source: extendible hashing (Fagin et al., 1979); buckets with tags and a count of keys that
// went past them as in F14.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "router/holder_sets.h"

namespace pixii::router {

struct BlockNode {
  std::uint64_t parent = 0;  // chain hash of the block before; 0: it is a first one
  std::uint64_t tokens = 0;  // hash of its tokens
  // One or two holders (the second may be 0), or 0 and a set of more.
  std::uint32_t first = 0;
  std::uint32_t second = 0;
};

/// Hash of the chain that ends with this block.
std::uint64_t ChainHashOf(std::uint64_t parent, std::uint64_t tokens);

class BlockTable final {
 public:
  using Id = std::uint32_t;
  static constexpr Id kNone = ~Id{0};

  static constexpr std::size_t kChunkNodes = 4096;     // nodes that are allocated at a time
  static constexpr std::uint32_t kDirectoryBits = 22;  // segments at most: 2^22
  static constexpr std::size_t kBuckets = 64;          // of a segment
  static constexpr std::size_t kBucketSlots = 12;      // of a bucket
  static constexpr std::size_t kSplitSize = 652;       // blocks of a segment: 85 % of its slots
  static constexpr std::size_t kSweepNodes = 32;       // of one call of Sweep
  static constexpr std::size_t kSegmentSizeMax = 760;  // where it cannot split

  BlockTable();

  /// Begins to fetch what Find will read first.
  void PrefetchBucket(std::uint64_t hash) const { __builtin_prefetch(&HomeOf(hash)); }

  /// Begins to fetch the node that Find will read, if its bucket is here.
  void PrefetchNode(std::uint64_t hash) const;

  /// The block with chain hash `hash`, which is that of (parent, tokens); marks it used lately.
  Id Find(std::uint64_t hash, std::uint64_t parent, std::uint64_t tokens);

  /// The block (parent, tokens) if it stands behind `id`, as blocks that were stored in a row do.
  Id FindBehind(Id id, std::uint64_t parent, std::uint64_t tokens) {
    if (id == kNone || ++id >= fresh_) {
      return kNone;
    }
    const BlockNode& node = at(id);
    if (node.tokens != tokens || node.parent != parent || !HasHolders(node)) {
      return kNone;
    }
    MarkRecent(id);
    return id;
  }

  /// The block with chain hash `hash`.
  Id FindByHash(std::uint64_t hash) const;

  /// A new block without holders. kNone if memory is needed and `may_grow` is false, or its segment
  /// is full and cannot split. Pre: Find does not find it.
  Id Insert(std::uint64_t hash, std::uint64_t parent, std::uint64_t tokens, bool may_grow);

  /// Pre: it is there, and has no holders any more.
  void Erase(Id id);

  /// A block that was not used lately: each call goes on where the last one ended. kNone if there
  /// is none.
  Id NextVictim();

  /// Calls `see(id)` with some more blocks that have holders; it may erase them. Whether all were
  /// seen once since the last true.
  template <class See>
  bool Sweep(See see) {
    const std::size_t end = std::min(sweep_ + kSweepNodes, fresh_);
    for (; sweep_ < end; ++sweep_) {
      if (HasHolders(at(static_cast<Id>(sweep_)))) {
        see(static_cast<Id>(sweep_));
      }
    }
    const bool all = sweep_ == fresh_;
    sweep_ = all ? 0 : sweep_;
    return all;
  }

  template <class See>
  void ForEach(See see) const {
    for (std::size_t id = 0; id < fresh_; ++id) {
      if (HasHolders(at(static_cast<Id>(id)))) {
        see(static_cast<Id>(id));
      }
    }
  }

  BlockNode& at(Id id) { return chunks_[id / kChunkNodes]->nodes[id % kChunkNodes]; }

  const BlockNode& at(Id id) const { return chunks_[id / kChunkNodes]->nodes[id % kChunkNodes]; }

  std::size_t size() const { return size_; }

  /// Bytes that are allocated.
  std::size_t bytes() const;

 private:
  struct alignas(64) Bucket {
    std::uint8_t tags[kBucketSlots] = {};  // of the hash; 0: free
    std::uint8_t passed = 0;  // keys that went on to a later bucket; stays at its greatest value
    std::uint8_t unused[3] = {};
    Id ids[kBucketSlots] = {};
  };

  static_assert(sizeof(Bucket) == 64);

  struct Chunk {
    BlockNode nodes[kChunkNodes];
    std::uint64_t recent[kChunkNodes / 64] = {};  // a bit a node: used since the hand came by
  };

  struct Segment {
    Bucket buckets[kBuckets];
  };

  struct Place {
    Bucket* bucket = nullptr;
    std::uint32_t slot = 0;
  };

  const Bucket& HomeOf(std::uint64_t hash) const {
    return directory_[hash >> (64 - bits_)]->buckets[hash % kBuckets];
  }

  template <class Is>
  Place Look(std::uint64_t hash, Is is) const;
  std::uint32_t SegmentIndex(std::uint64_t hash) const;
  bool Split(std::uint64_t hash);
  static void Put(Segment& segment, std::uint64_t hash, Id id);

  static bool HasHolders(const BlockNode& node) { return node.first != 0 || node.second != 0; }

  void MarkRecent(Id id) {
    std::uint64_t& word = chunks_[id / kChunkNodes]->recent[id % kChunkNodes / 64];
    const std::uint64_t bit = std::uint64_t{1} << id % 64;
    if ((word & bit) == 0) {
      word |= bit;
    }
  }

  std::vector<std::unique_ptr<Chunk>> chunks_;
  Id free_ = kNone;        // the first free node; its parent says the next
  std::size_t fresh_ = 0;  // nodes that were ever used
  std::size_t size_ = 0;
  std::vector<Segment*> directory_;        // by the first bits_ bits of a hash
  std::vector<std::uint32_t> segment_of_;  // the same, as indices
  std::uint32_t bits_ = 1;
  std::vector<std::unique_ptr<Segment>> segments_;
  std::vector<std::uint8_t> segment_bits_;
  std::vector<std::uint16_t> segment_size_;
  std::size_t hand_ = 0;   // node where NextVictim goes on
  std::size_t sweep_ = 0;  // node where Sweep goes on
};

}  // namespace pixii::router
