#include "kv/cache_journal.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "wire/public_hash.h"

namespace pixii::kv {

CacheJournal::CacheJournal(const CacheJournalOptions& options)
    : nodes_(options.block_count),
      kept_tokens_(options.kept_tokens),
      event_count_max_(options.event_count_max),
      stored_count_max_(options.event_count_max) {
  changes_.events.reserve(event_count_max_);
  if (kept_tokens_ > 0) {
    stored_count_max_ =
        std::min(stored_count_max_, std::max<std::size_t>(1, kTokensMax / kept_tokens_));
    tokens_.resize(nodes_.size() * kept_tokens_);
    roots_.resize(nodes_.size());
    changes_.tokens.reserve(stored_count_max_ * kept_tokens_);
    changes_.roots.reserve(stored_count_max_);
  }
}

void CacheJournal::Push(const CacheEvent& event) {
  lost_ = lost_ || changes_.events.size() == event_count_max_;
  if (!lost_) {
    changes_.events.push_back(event);
  }
}

void CacheJournal::PushStored(std::uint32_t block) {
  lost_ = lost_ || changes_.roots.size() == stored_count_max_;
  Push(StoredEvent(nodes_[block]));
  if (!lost_) {
    AppendContent(block, changes_);
  }
}

// The tokens of a block that goes before anybody hears of it must not be another block's.
void CacheJournal::AppendContent(std::uint32_t block, CacheChanges& out) const {
  if (kept_tokens_ > 0) {
    const auto first = tokens_.begin() + static_cast<std::ptrdiff_t>(block) * kept_tokens_;
    out.tokens.insert(out.tokens.end(), first, first + kept_tokens_);
    out.roots.push_back(roots_[block]);
  }
}

void CacheJournal::ForgetChanges() {
  changes_.clear();
  lost_ = false;
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
                          std::span<const TokenId> tokens,
                          const std::shared_ptr<const BlockRoot>& root) {
  Node& node = nodes_[Raw(block)];
  PX_ASSERT(!node.told);
  if (parent && !nodes_[Raw(*parent)].told) {
    return;
  }
  node = Node{};
  node.told = true;
  node.tokens_hash = wire::PublicBlockHash(tokens, root->public_seed);
  node.chain_hash = parent
                        ? wire::PublicChainHash(nodes_[Raw(*parent)].chain_hash, node.tokens_hash)
                        : node.tokens_hash;
  Link(Raw(block), parent ? Raw(*parent) : kNone);
  if (kept_tokens_ > 0) {
    PX_ASSERT(tokens.size() == kept_tokens_);
    std::ranges::copy(tokens,
                      tokens_.begin() + static_cast<std::ptrdiff_t>(Raw(block)) * kept_tokens_);
    roots_[Raw(block)] = root;
  }
  PushStored(Raw(block));
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
    if (kept_tokens_ > 0) {
      roots_[at].reset();
    }
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
  std::ranges::fill(roots_, nullptr);
  first_root_ = kNone;
  ForgetChanges();  // they are void
  Push({.kind = CacheEvent::Kind::kCleared});
}

void CacheJournal::Dump(CacheChanges& out) const {
  std::uint32_t at = first_root_;
  while (at != kNone) {
    out.events.push_back(StoredEvent(nodes_[at]));
    AppendContent(at, out);
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

bool CacheJournal::Drain(CacheChanges& out) {
  const std::size_t before = out.events.size();
  if (lost_) {
    out.events.push_back({.kind = CacheEvent::Kind::kCleared});
    Dump(out);
  } else {
    out.events.insert(out.events.end(), changes_.events.begin(), changes_.events.end());
    out.tokens.insert(out.tokens.end(), changes_.tokens.begin(), changes_.tokens.end());
    out.roots.insert(out.roots.end(), changes_.roots.begin(), changes_.roots.end());
  }
  ForgetChanges();
  return out.events.size() > before;
}

}  // namespace pixii::kv
