#include "kv/prefix_index.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace pixii::kv {

PrefixIndex::PrefixIndex(const PrefixIndexOptions& options)
    : block_tokens_(options.block_tokens),
      entries_(options.block_count_max),
      tokens_(std::size_t{options.block_count_max} * options.block_tokens) {
  // At most half full: probes stay short.
  std::uint32_t size = std::bit_ceil(options.block_count_max * 2);
  table_.assign(size, kEmpty);
  mask_ = size - 1;
}

std::span<TokenId> PrefixIndex::Tokens(std::uint32_t block) {
  return std::span(tokens_).subspan(std::size_t{block} * block_tokens_, block_tokens_);
}

std::uint32_t PrefixIndex::FindSlot(const Hash128& hash) const {
  std::uint32_t slot = SlotOf(hash);
  while (table_[slot] != kEmpty && entries_[table_[slot]].hash != hash) {
    slot = (slot + 1) & mask_;
  }
  return slot;
}

bool PrefixIndex::SameParent(const Entry& entry, const ChainPosition& parent) const {
  if (entry.parent_node != parent.node) {
    return false;
  }
  return parent.node != kRootNode || entry.root == parent.root ||
         entry.root->bytes == parent.root->bytes;
}

bool PrefixIndex::IsStale(const Entry& entry) const {
  return entry.parent_node != kRootNode &&
         entries_[Raw(entry.parent_block)].node != entry.parent_node;
}

bool PrefixIndex::IsLive(const ChainPosition& position) const {
  return position.node == kRootNode || entries_[Raw(position.block)].node == position.node;
}

std::optional<BlockId> PrefixIndex::Find(const ChainPosition& parent, const Hash128& hash,
                                         std::span<const TokenId> tokens) {
  PX_DASSERT(tokens.size() == block_tokens_);
  std::uint32_t block = table_[FindSlot(hash)];
  if (block == kEmpty || !IsLive(parent)) {
    return std::nullopt;
  }
  const Entry& entry = entries_[block];
  if (SameParent(entry, parent) && std::ranges::equal(tokens, Tokens(block))) {
    return BlockId{block};
  }
  if (!IsStale(entry)) {
    ++collision_count_;
  }
  return std::nullopt;
}

PrefixIndex::InsertResult PrefixIndex::Insert(BlockId block, const ChainPosition& parent,
                                              const Hash128& hash,
                                              std::span<const TokenId> tokens) {
  PX_ASSERT(!contains(block) && tokens.size() == block_tokens_);
  if (!IsLive(parent)) {
    return {Insertion::kOrphan, block};
  }
  std::uint32_t slot = FindSlot(hash);
  if (std::uint32_t existing = table_[slot]; existing != kEmpty) {
    const Entry& entry = entries_[existing];
    if (SameParent(entry, parent) && std::ranges::equal(tokens, Tokens(existing))) {
      return {Insertion::kDuplicate, BlockId{existing}};
    }
    if (IsStale(entry)) {
      return {Insertion::kStale, BlockId{existing}};
    }
    ++collision_count_;
    return {Insertion::kCollision, BlockId{existing}};
  }
  table_[slot] = Raw(block);
  Entry& entry = entries_[Raw(block)];
  entry.hash = hash;
  entry.node = NodeId{++last_node_};
  entry.parent_node = parent.node;
  entry.parent_block = parent.block;
  entry.root = parent.node == kRootNode ? parent.root : nullptr;
  std::ranges::copy(tokens, Tokens(Raw(block)).begin());
  ++size_;
  return {Insertion::kInserted, block};
}

void PrefixIndex::Erase(BlockId block) {
  PX_ASSERT(contains(block));
  std::uint32_t hole = FindSlot(entries_[Raw(block)].hash);
  PX_ASSERT(table_[hole] == Raw(block));
  // Close the gap, so that no probe stops short of an entry that was pushed past this slot.
  for (std::uint32_t slot = (hole + 1) & mask_; table_[slot] != kEmpty; slot = (slot + 1) & mask_) {
    std::uint32_t home = SlotOf(entries_[table_[slot]].hash);
    if (((slot - home) & mask_) >= ((slot - hole) & mask_)) {
      table_[hole] = table_[slot];
      hole = slot;
    }
  }
  table_[hole] = kEmpty;
  entries_[Raw(block)] = Entry{};
  --size_;
}

}  // namespace pixii::kv
