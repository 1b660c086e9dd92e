#include "kv/cache_journal.h"

#include <utility>

#include "base/assert.h"
#include "wire/public_hash.h"

namespace pixii::kv {

CacheJournal::CacheJournal(const CacheJournalOptions& options)
    : nodes_(options.block_count), event_count_max_(options.event_count_max) {
  events_.reserve(event_count_max_);
}

void CacheJournal::Push(const CacheEvent& event) {
  lost_ = lost_ || events_.size() == event_count_max_;
  if (!lost_) {
    events_.push_back(event);
  }
}

void CacheJournal::Link(std::uint32_t block, std::uint32_t parent) {
  Node& node = nodes_[block];
  std::uint32_t& first = FirstChildOf(parent);
  node.parent = parent;
  node.previous = kNone;
  node.next = first;
  if (first != kNone) {
    nodes_[first].previous = block;
  }
  first = block;
}

void CacheJournal::Unlink(std::uint32_t block) {
  const Node& node = nodes_[block];
  (node.previous == kNone ? FirstChildOf(node.parent) : nodes_[node.previous].next) = node.next;
  if (node.next != kNone) {
    nodes_[node.next].previous = node.previous;
  }
}

CacheEvent CacheJournal::StoredEvent(const Node& node) const {
  return {.kind = CacheEvent::Kind::kStored,
          .has_parent = node.parent != kNone,
          .chain_hash = node.chain_hash,
          .tokens_hash = node.tokens_hash,
          .parent_hash = node.parent == kNone ? 0 : nodes_[node.parent].chain_hash};
}

void CacheJournal::Stored(BlockId block, std::optional<BlockId> parent,
                          std::span<const TokenId> tokens, std::uint64_t seed) {
  Node& node = nodes_[Raw(block)];
  PX_ASSERT(!node.told);
  if (parent && !nodes_[Raw(*parent)].told) {
    return;
  }
  node = Node{};
  node.told = true;
  node.tokens_hash = wire::PublicBlockHash(tokens, seed);
  node.chain_hash = parent
                        ? wire::PublicChainHash(nodes_[Raw(*parent)].chain_hash, node.tokens_hash)
                        : node.tokens_hash;
  Link(Raw(block), parent ? Raw(*parent) : kNone);
  Push(StoredEvent(node));
}

// The last of the blocks behind it first, so that nobody ever holds one without its parent.
void CacheJournal::Removed(BlockId block) {
  const std::uint32_t top = Raw(block);
  if (!nodes_[top].told) {
    return;
  }
  std::uint32_t at = top;
  while (true) {
    while (nodes_[at].first_child != kNone) {
      at = nodes_[at].first_child;
    }
    Node& node = nodes_[at];
    const std::uint32_t parent = node.parent;
    Unlink(at);
    node.told = false;
    Push({.kind = CacheEvent::Kind::kRemoved, .chain_hash = node.chain_hash});
    if (at == top) {
      return;
    }
    at = parent;
  }
}

void CacheJournal::Cleared() {
  for (Node& node : nodes_) {
    node.told = false;
  }
  first_root_ = kNone;
  events_.clear();  // void
  lost_ = false;
  Push({.kind = CacheEvent::Kind::kCleared});
}

void CacheJournal::Dump(std::vector<CacheEvent>& out) const {
  std::uint32_t at = first_root_;
  while (at != kNone) {
    out.push_back(StoredEvent(nodes_[at]));
    if (nodes_[at].first_child != kNone) {
      at = nodes_[at].first_child;
      continue;
    }
    while (at != kNone && nodes_[at].next == kNone) {
      at = nodes_[at].parent;
    }
    at = at == kNone ? kNone : nodes_[at].next;
  }
}

bool CacheJournal::Drain(std::vector<CacheEvent>& out) {
  const std::size_t before = out.size();
  if (std::exchange(lost_, false)) {
    out.push_back({.kind = CacheEvent::Kind::kCleared});
    Dump(out);
  } else {
    out.insert(out.end(), events_.begin(), events_.end());
  }
  events_.clear();
  return out.size() > before;
}

}  // namespace pixii::kv
