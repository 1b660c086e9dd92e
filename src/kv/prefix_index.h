// Which block holds which tokens after which prefix: hash -> block, every hit compared in full.
// docs/subsystems/kv.md
//
// Thread: one owner (the engine thread). No allocation after construction.
// An entry keeps its block's tokens and the entry (or root) before it. A lookup compares both, so
// two prefixes with equal hashes are never taken for one another: the second is a miss and is
// counted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/hash.h"
#include "base/ids.h"
#include "kv/block_identity.h"

namespace pixii::kv {

/// One insertion into an index, never reused in its life; kRootNode stands before the first block.
enum class NodeId : std::uint64_t {};
inline constexpr NodeId kRootNode{0};

/// A place in a chain: the next block's parent.
struct ChainPosition {
  std::shared_ptr<const BlockRoot> root;
  Hash128 hash;             // of the block here, or of the root
  NodeId node = kRootNode;  // of the block here
  BlockId block{};          // where the block here is; meaningless at the root
};

/// The position before the first block.
inline ChainPosition StartOf(std::shared_ptr<const BlockRoot> root) {
  Hash128 hash = root->hash;
  return {std::move(root), hash, kRootNode, BlockId{}};
}

struct PrefixIndexOptions {
  std::uint32_t block_count_max = 0;  // blocks
  std::uint32_t block_tokens = 0;     // tokens of a block
};

class PrefixIndex final {
 public:
  enum class Insertion : std::uint8_t {
    kInserted,
    kDuplicate,  // the same content after the same prefix is there: `existing` is it
    kStale,  // an entry that nobody can reach any more holds the hash: erase `existing` and insert
             // again
    kCollision,  // another prefix holds the hash; the new block is not indexed
    kOrphan,  // the parent's entry was erased: nobody could reach the new one, so it is not indexed
  };

  struct InsertResult {
    Insertion what = Insertion::kInserted;
    BlockId existing{};
  };

  explicit PrefixIndex(const PrefixIndexOptions& options);

  /// The block with `tokens` after `parent`, whose hash is `hash`.
  std::optional<BlockId> Find(const ChainPosition& parent, const Hash128& hash,
                              std::span<const TokenId> tokens);

  /// Pre: `block` has no entry; tokens.size() == block_tokens.
  InsertResult Insert(BlockId block, const ChainPosition& parent, const Hash128& hash,
                      std::span<const TokenId> tokens);

  /// Forgets the entry of `block`. Pre: it has one.
  void Erase(BlockId block);

  bool contains(BlockId block) const { return entries_[Raw(block)].node != kRootNode; }

  std::optional<Hash128> HashOf(BlockId block) const {
    return contains(block) ? std::optional(entries_[Raw(block)].hash) : std::nullopt;
  }

  NodeId node(BlockId block) const { return entries_[Raw(block)].node; }

  std::uint32_t size() const { return size_; }

  /// Lookups and insertions that met an equal hash of a different prefix.
  std::uint64_t collision_count() const { return collision_count_; }

 private:
  static constexpr std::uint32_t kEmpty = ~0U;

  struct Entry {
    Hash128 hash;
    NodeId node = kRootNode;  // kRootNode: no entry
    NodeId parent_node = kRootNode;
    BlockId parent_block{};
    std::shared_ptr<const BlockRoot> root;  // of a first block only
  };

  std::span<TokenId> Tokens(std::uint32_t block);

  std::uint32_t SlotOf(const Hash128& hash) const {
    return static_cast<std::uint32_t>(hash.low) & mask_;
  }

  /// Slot of the table that holds `hash`, or the empty one where it belongs.
  std::uint32_t FindSlot(const Hash128& hash) const;
  bool SameParent(const Entry& entry, const ChainPosition& parent) const;
  bool IsStale(const Entry& entry) const;
  bool IsLive(const ChainPosition& position) const;

  std::uint32_t block_tokens_;
  std::uint32_t mask_ = 0;
  std::uint32_t size_ = 0;
  std::uint64_t last_node_ = 0;
  std::uint64_t collision_count_ = 0;
  std::vector<Entry> entries_;        // [block]
  std::vector<TokenId> tokens_;       // [block][block_tokens]
  std::vector<std::uint32_t> table_;  // open addressing, linear probing: block or kEmpty
};

}  // namespace pixii::kv
