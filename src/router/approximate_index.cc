#include "router/approximate_index.h"

#include <algorithm>

namespace pixii::router {

using wire::KvEvent;

ApproximateIndex::ApproximateIndex(ApproximateIndexOptions options)
    : options_(options), index_(KvIndexOptions{}) {}

ApproximateIndex::Rank& ApproximateIndex::At(RankNumber rank) {
  const auto index = static_cast<std::size_t>(rank);
  if (index >= ranks_.size()) {
    ranks_.resize(index + 1);
  }
  return ranks_[index];
}

void ApproximateIndex::SetCapacity(RankNumber rank, std::uint32_t blocks) {
  At(rank).capacity = blocks == 0 ? options_.blocks_max : blocks;
}

ApproximateIndex::Order::iterator ApproximateIndex::Drop(Order::iterator block) {
  KvEvent removed;
  removed.kind = KvEvent::Kind::kRemoved;
  removed.removed = {block->key.chain};
  index_.Apply(block->key.rank, removed);
  blocks_.erase(block->key);
  return OrderOf(block->key.rank).erase(block);
}

void ApproximateIndex::Expire(rt::Time now) {
  while (options_.policy == ApproximatePolicy::kTtl && !order_.empty() &&
         order_.front().expires <= now) {
    Drop(order_.begin());
  }
  while (order_.size() > options_.blocks_max) {
    Drop(order_.begin());
  }
}

// Beyond what the rank can hold, what nobody uses goes, the oldest first.
void ApproximateIndex::Shrink(RankNumber rank) {
  Rank& state = At(rank);
  for (auto at = state.order.begin();
       at != state.order.end() && state.order.size() > state.capacity;) {
    at = at->uses == 0 ? Drop(at) : std::next(at);
  }
}

void ApproximateIndex::OnRouted(RequestId id, RankNumber rank,
                                std::span<const std::uint64_t> block_hashes, rt::Time now) {
  Expire(now);
  Running* running = options_.policy == ApproximatePolicy::kLru ? &running_[id] : nullptr;
  if (running != nullptr) {
    running->rank = rank;
  }
  KvEvent stored;
  std::vector<std::uint64_t> chains;
  std::uint64_t chain = 0;
  for (const std::uint64_t block : block_hashes) {
    const std::uint64_t parent = chain;
    chain = ChainHashOf(chain, block);
    chains.push_back(chain);
    if (blocks_.contains({rank, chain})) {
      if (!stored.blocks.empty()) {  // behind a gap: the event names blocks in a row
        index_.Apply(rank, stored);
        stored = {};
      }
      continue;
    }
    if (stored.blocks.empty() && parent != 0) {
      stored.parent = parent;
    }
    stored.blocks.push_back({chain, block});
  }
  if (!stored.blocks.empty()) {
    index_.Apply(rank, stored);
  }
  Order& order = OrderOf(rank);
  // The last one first: of a prefix, the end goes first.
  for (auto at = chains.rbegin(); at != chains.rend(); ++at) {
    const auto [place, is_new] = blocks_.try_emplace({rank, *at});
    if (is_new) {
      place->second = order.insert(order.end(), Block{{rank, *at}, now + options_.ttl, 0});
    } else {
      order.splice(order.end(), order, place->second);
      place->second->expires = now + options_.ttl;
    }
    place->second->uses += running != nullptr ? 1 : 0;
  }
  if (running != nullptr) {
    running->chains = std::move(chains);
    Shrink(rank);
  }
}

void ApproximateIndex::OnEnd(RequestId id) {
  const auto found = running_.find(id);
  if (found == running_.end()) {
    return;
  }
  for (const std::uint64_t chain : found->second.chains) {
    const auto block = blocks_.find({found->second.rank, chain});
    if (block != blocks_.end() && block->second->uses > 0) {
      --block->second->uses;
    }
  }
  const RankNumber rank = found->second.rank;
  running_.erase(found);
  Shrink(rank);
}

void ApproximateIndex::Clear(RankNumber rank) {
  Order& order = OrderOf(rank);
  for (auto at = order.begin(); at != order.end();) {
    if (at->key.rank == rank) {
      blocks_.erase(at->key);
      at = order.erase(at);
    } else {
      ++at;
    }
  }
  std::erase_if(running_, [&](const auto& one) { return one.second.rank == rank; });
  index_.Clear(rank);
}

void ApproximateIndex::Find(std::span<const std::uint64_t> block_hashes, rt::Time now,
                            KvMatches& out) {
  Expire(now);
  index_.Find(block_hashes, out);
}

}  // namespace pixii::router
