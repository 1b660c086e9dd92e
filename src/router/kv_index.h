// Who holds which KV blocks, as their events say: how much of a prompt each rank has.
//
// Thread: a value; decides nothing, reads no clock. docs/subsystems/router.md
// Blocks are found by the public hash of their chain (wire/public_hash.h), which the index computes
// itself from each block's tokens' hash; an engine's own hashes serve to name parents and removals
// of that rank alone. A wrong claim costs a worse choice of worker, never an answer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "router/block_table.h"
#include "router/holder_sets.h"
#include "router/opaque_hashes.h"
#include "router/rank.h"
#include "wire/messages/kv_event.h"

namespace pixii::router {

struct KvIndexOptions {
  std::uint64_t bytes_max = std::uint64_t{4} << 30;  // bytes; beyond it blocks are evicted
};

/// How long a prefix a rank has, in blocks: 0 <= device <= host <= disk.
struct RankMatch {
  RankNumber rank{};
  std::uint32_t device = 0;  // on its device
  std::uint32_t host = 0;    // on its device or in host memory
  std::uint32_t disk = 0;    // on its device, in host memory or on disk

  friend bool operator==(const RankMatch&, const RankMatch&) = default;
};

struct KvMatches {
  std::vector<RankMatch> ranks;  // in no order; those with disk == 0 are left out
  std::uint32_t shared = 0;      // prefix that is in an external cache, whoever told of it; blocks
};

struct KvIndexCounters {
  std::uint64_t stored = 0;  // blocks of events that were applied
  std::uint64_t removed = 0;
  std::uint64_t duplicate = 0;  // stored again where they were
  std::uint64_t unknown = 0;    // removed where they were not, or evicted before
  std::uint64_t orphaned = 0;   // not stored: nobody knows the block before
  std::uint64_t evicted = 0;    // for the byte budget
  std::uint64_t refused = 0;    // not stored: no room was found
};

class KvIndex final {
 public:
  explicit KvIndex(KvIndexOptions options) : options_(options) {}

  KvIndex(KvIndex&&) = default;
  KvIndex& operator=(KvIndex&&) = default;

  /// Blocks stored more than once on a tier are gone with as many removals (up to 15).
  void Apply(RankNumber rank, const wire::KvEvent& event);

  /// Nothing is held by the rank any more. O(1); the memory comes back with later calls.
  void Clear(RankNumber rank);

  /// Prefixes of the prompt whose blocks have these hashes (of their tokens). `out` is overwritten.
  void Find(std::span<const std::uint64_t> block_hashes, KvMatches& out);

  /// Events that tell another index what the rank holds, parents first; ids are 0.
  std::vector<wire::KvEvent> Dump(RankNumber rank) const;

  /// Distinct blocks, with those of cleared ranks that were not swept yet.
  std::size_t block_count() const { return table_.size(); }

  std::size_t holder_set_count() const { return sets_.set_count(); }

  /// Bytes that are allocated.
  std::uint64_t bytes() const { return table_.bytes() + sets_.bytes() + opaque_bytes_; }

  const KvIndexCounters& counters() const { return counters_; }

 private:
  static constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};
  static constexpr std::uint32_t kSlotCountMax = 1U << 16;
  static constexpr std::size_t kWindow = 32;           // blocks that are fetched ahead
  static constexpr std::uint32_t kStoreCountMax = 15;  // of a block at a rank and tier

  // A rank from one clearing to the next.
  struct Slot {
    RankNumber rank{};
    bool live = false;
    OpaqueHashes opaque;
  };

  struct Track {
    std::uint32_t slot;
    std::uint32_t alive;  // bits: device, host, disk
    RankMatch match;
  };

  // Blocks of a prompt that are looked up together.
  struct Ahead {
    std::size_t begin = 0;  // of the prompt's blocks
    std::size_t count = 0;
    std::size_t width = 2;
    std::uint64_t chains[kWindow];
  };

  // The last change of a set: blocks in a row change alike.
  struct Change {
    HolderSets::Ref from = 0;
    std::uint32_t slot = 0;
    wire::KvTier tier{};
    bool add = false;
    std::uint32_t first = 0;
    std::uint32_t second = 0;
  };

  std::uint32_t SlotOfRank(RankNumber rank);
  void Store(std::uint32_t slot, const wire::KvEvent& event);
  bool StoreBlock(std::uint32_t slot, wire::KvTier tier, std::uint64_t chain, std::uint64_t parent,
                  const wire::KvBlock& block);
  void Remove(std::uint32_t slot, const wire::KvEvent& event);
  std::optional<std::uint64_t> ParentChain(std::uint32_t slot, std::uint64_t hash);
  std::optional<BlockTable::Id> FindOpaque(std::uint32_t slot, std::uint64_t hash);
  BlockTable::Id MakeBlock(std::uint64_t chain, std::uint64_t parent, std::uint64_t tokens);

  bool MayGrow() const { return bytes() + kGrowthBytesMax <= options_.bytes_max; }

  bool NodesMayGrow() const;

  std::span<const Holder> HoldersOf(const BlockNode& node, Holder (&inline_holders)[2]) const;
  bool Holds(const BlockNode& node, std::uint32_t slot) const;
  bool ChangeHolder(BlockNode& node, std::uint32_t slot, wire::KvTier tier, bool add);
  bool ChangeSet(BlockNode& node, std::uint32_t slot, wire::KvTier tier, bool add);
  bool PutHolders(BlockNode& node, std::span<const Holder> holders);
  void DropHolders(BlockNode& node);
  void Remember(const Change& change);
  void SweepSome();
  void SweepNode(BlockTable::Id id);
  void EndSweep();
  BlockTable::Id FindAhead(std::span<const std::uint64_t> block_hashes, std::size_t depth,
                           std::uint64_t parent, Ahead& ahead);
  void Follow(std::span<const Holder> holders, std::uint32_t depth, KvMatches& out);

  static constexpr std::uint64_t kGrowthBytesMax = 512 * 1024;  // of one allocation, about

  KvIndexOptions options_;
  BlockTable table_;
  HolderSets sets_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::vector<std::uint32_t> slot_of_rank_;
  std::uint64_t opaque_bytes_ = 0;
  std::vector<std::uint32_t> dead_;      // slots that nodes may still name
  std::vector<std::uint32_t> sweeping_;  // those of them that the sweep in progress clears
  Change last_change_;
  std::vector<Holder> scratch_;
  std::vector<Track> tracks_;
  KvIndexCounters counters_;
};

}  // namespace pixii::router
