#include <unordered_map>
#include <utility>

#include "router/kv_index.h"

namespace pixii::router {

using wire::KvEvent;
using wire::KvTier;

std::vector<KvEvent> KvIndex::Dump(RankNumber rank) const {
  const auto index = static_cast<std::uint32_t>(rank);
  if (index >= slot_of_rank_.size() || slot_of_rank_[index] == kNoSlot) {
    return {};
  }
  const std::uint32_t slot = slot_of_rank_[index];
  std::unordered_map<BlockTable::Id, std::uint64_t> own_names;
  slots_[slot].opaque.ForEach([&](std::uint64_t hash, OpaqueHashes::Block block) {
    const BlockNode& node = table_.at(block.id);
    if (OpaqueHashes::CheckOf(ChainHashOf(node.parent, node.tokens)) == block.check) {
      own_names.emplace(block.id, hash);
    }
  });

  struct Block {
    BlockTable::Id id;
    std::uint64_t chain;
    std::uint32_t counts;
  };

  std::unordered_multimap<std::uint64_t, Block> by_parent;
  std::unordered_map<std::uint64_t, BlockTable::Id> by_chain;
  table_.ForEach([&](BlockTable::Id id) {
    const BlockNode& node = table_.at(id);
    Holder pair[2];
    for (const Holder holder : HoldersOf(node, pair)) {
      if (SlotOf(holder) == slot) {
        const std::uint64_t chain = ChainHashOf(node.parent, node.tokens);
        by_parent.emplace(node.parent, Block{id, chain, CountsOf(holder)});
        by_chain.emplace(chain, id);
      }
    }
  });
  // First what follows nothing that is here, then what follows that, and so on.
  std::vector<Block> order;
  for (const auto& [parent, block] : by_parent) {
    if (parent == 0 || !by_chain.contains(parent)) {
      order.push_back(block);
    }
  }
  const auto name_of = [&](BlockTable::Id id, std::uint64_t chain) {
    const auto own = own_names.find(id);
    return own == own_names.end() ? chain : own->second;
  };
  std::vector<KvEvent> out;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Block block = order[i];
    const BlockNode& node = table_.at(block.id);
    KvEvent event;
    if (node.parent != 0) {
      const auto parent = by_chain.find(node.parent);
      event.parent = parent == by_chain.end() ? node.parent : name_of(parent->second, node.parent);
    }
    event.blocks = {{name_of(block.id, block.chain), node.tokens}};
    for (std::uint32_t tier = 0; tier < 4; ++tier) {
      event.tier = static_cast<KvTier>(tier);
      out.insert(out.end(), block.counts >> (4 * tier) & kStoreCountMax, event);
    }
    const auto [begin, end] = by_parent.equal_range(block.chain);
    for (auto child = begin; child != end; ++child) {
      order.push_back(child->second);
    }
  }
  return out;
}

}  // namespace pixii::router
