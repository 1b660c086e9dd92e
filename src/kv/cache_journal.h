// What has become findable in a block cache and what has not been since, for routers.
//
// Thread: one owner, that of the cache. No allocation after construction but in Drain.
// A block is told of while its chain is: when a block goes, so does all that is told of behind it,
// because nobody finds that any more. Changes that do not fit the buffer are replaced, in the next
// Drain, by everything there is. Source of the hashes: wire/public_hash.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"

namespace pixii::kv {

struct CacheEvent {
  enum class Kind : std::uint8_t { kStored, kRemoved, kCleared };

  Kind kind{};
  bool has_parent = false;        // of a stored one: false: it is a first block
  std::uint64_t chain_hash = 0;   // of the block and all before it
  std::uint64_t tokens_hash = 0;  // of a stored one: of its tokens alone
  std::uint64_t parent_hash = 0;  // chain_hash of the block before
};

struct CacheJournalOptions {
  std::uint32_t block_count = 0;      // blocks of the cache
  std::uint32_t event_count_max = 0;  // between two calls of Drain, >= 1
};

class CacheJournal final {
 public:
  explicit CacheJournal(const CacheJournalOptions& options);

  /// `block` is findable behind `parent`, or as a first block. `seed`: wire::PublicHashSeed of its
  /// requests. No effect if `parent` is not told of: nobody finds it. Pre: `block` is not told of.
  void Stored(BlockId block, std::optional<BlockId> parent, std::span<const TokenId> tokens,
              std::uint64_t seed);

  /// Nobody finds `block`, nor what is behind it. No effect if it is not told of.
  void Removed(BlockId block);

  /// Nobody finds any block.
  void Cleared();

  /// The next Drain tells everything.
  void Resync() { lost_ = true; }

  /// Appends what happened since the last call, in order; if that is not known, kCleared and
  /// everything, parents first. Whether there was anything.
  bool Drain(std::vector<CacheEvent>& out);

  bool contains(BlockId block) const { return nodes_[Raw(block)].told; }

 private:
  static constexpr std::uint32_t kNone = ~0U;

  /// Blocks form a forest: each list of children is doubly linked.
  struct Node {
    std::uint64_t chain_hash = 0;
    std::uint64_t tokens_hash = 0;
    std::uint32_t parent = kNone;
    std::uint32_t first_child = kNone;
    std::uint32_t next = kNone;
    std::uint32_t previous = kNone;
    bool told = false;
  };

  void Push(const CacheEvent& event);
  void Link(std::uint32_t block, std::uint32_t parent);
  void Unlink(std::uint32_t block);
  CacheEvent StoredEvent(const Node& node) const;
  void Dump(std::vector<CacheEvent>& out) const;

  std::uint32_t& FirstChildOf(std::uint32_t parent) {
    return parent == kNone ? first_root_ : nodes_[parent].first_child;
  }

  std::vector<Node> nodes_;  // [block]
  std::uint32_t first_root_ = kNone;
  std::vector<CacheEvent> events_;
  std::size_t event_count_max_;
  bool lost_ = false;
};

}  // namespace pixii::kv
