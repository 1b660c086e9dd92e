// What has become findable in a block cache and what has not been since, for routers.
//
// Thread: one owner, that of the cache. No allocation after construction but in Drain.
// A block is told of while its chain is: when a block goes, so does all that is told of behind it,
// because nobody finds that any more. Changes that do not fit the buffer are replaced, in the next
// Drain, by everything there is. Source of the hashes: wire/public_hash.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "kv/block_identity.h"
#include "wire/messages/kv_event.h"

namespace pixii::kv {

struct CacheEvent {
  enum class Kind : std::uint8_t { kStored, kRemoved, kCleared };

  Kind kind{};
  bool has_parent = false;                    // of a stored one: false: it is a first block
  std::uint64_t chain_hash = 0;               // of the block and all before it
  std::uint64_t tokens_hash = 0;              // of a stored one: of its tokens alone
  std::uint64_t parent_hash = 0;              // chain_hash of the block before
  wire::KvTier tier = wire::KvTier::kDevice;  // of a stored or removed one
};

/// What happened, in order.
struct CacheChanges {
  std::vector<CacheEvent> events;
  // Of the stored ones, if the journal keeps it: for listeners that hash blocks themselves.
  std::vector<TokenId> tokens;                          // [stored][block_tokens]
  std::vector<std::shared_ptr<const BlockRoot>> roots;  // [stored]

  void clear() {
    events.clear();
    tokens.clear();
    roots.clear();
  }
};

struct CacheJournalOptions {
  std::uint32_t block_count = 0;      // blocks of the cache
  std::uint32_t event_count_max = 0;  // between two calls of Drain, >= 1
  std::uint32_t kept_tokens = 0;      // of each block; 0: none, and no roots
};

class CacheJournal final {
 public:
  explicit CacheJournal(const CacheJournalOptions& options);

  /// `block` is findable behind `parent`, or as a first block. `root`: of its chain. No effect if
  /// `parent` is not told of: nobody finds it. Pre: `block` is not told of.
  void Stored(BlockId block, std::optional<BlockId> parent, std::span<const TokenId> tokens,
              const std::shared_ptr<const BlockRoot>& root);

  /// Nobody finds `block`, nor what is behind it. No effect if it is not told of.
  void Removed(BlockId block);

  /// Nobody finds any block.
  void Cleared();

  /// The next Drain tells everything.
  void Resync() { lost_ = true; }

  /// Appends what happened since the last call, in order; if that is not known, kCleared and
  /// everything, parents first. Whether there was anything.
  bool Drain(CacheChanges& out);

  bool contains(BlockId block) const { return nodes_[Raw(block)].told; }

  bool keeps_tokens() const { return kept_tokens_ > 0; }

 private:
  static constexpr std::uint32_t kNone = ~0U;
  /// Kept of events between two calls of Drain; what does not fit is told as by Resync.
  static constexpr std::size_t kTokensMax = 1U << 22;

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
  void PushStored(std::uint32_t block);
  void Link(std::uint32_t block, std::uint32_t parent);
  void Unlink(std::uint32_t block);
  CacheEvent StoredEvent(const Node& node) const;
  void AppendContent(std::uint32_t block, CacheChanges& out) const;
  void ForgetChanges();
  void Dump(CacheChanges& out) const;

  std::uint32_t& FirstChildOf(std::uint32_t parent) {
    return parent == kNone ? first_root_ : nodes_[parent].first_child;
  }

  std::vector<Node> nodes_;  // [block]
  std::uint32_t first_root_ = kNone;
  std::uint32_t kept_tokens_;
  std::vector<TokenId> tokens_;                          // [block][kept_tokens]
  std::vector<std::shared_ptr<const BlockRoot>> roots_;  // [block], if tokens are kept
  CacheChanges changes_;
  std::size_t event_count_max_;
  std::size_t stored_count_max_;
  bool lost_ = false;
};

}  // namespace pixii::kv
