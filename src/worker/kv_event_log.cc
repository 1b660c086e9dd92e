#include "worker/kv_event_log.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace pixii::worker {

namespace {

std::size_t BlocksOf(const wire::KvEvent& event) {
  return event.blocks.size() + event.removed.size() + 1;
}

}  // namespace

void KvEventLog::Keep(wire::KvEvent event) {
  event.id = next_id_++;
  kept_blocks_ += BlocksOf(event);
  events_.push_back(std::move(event));
  while (kept_blocks_ > options_.blocks_max && events_.size() > 1) {
    kept_blocks_ -= BlocksOf(events_.front());
    events_.pop_front();
  }
}

void KvEventLog::Add(wire::KvEvent event) {
  if (event.kind == wire::KvEvent::Kind::kCleared) {
    std::erase_if(held_, [&](const auto& one) { return one.first.rank == event.rank; });
    event.parent.reset();
    event.blocks.clear();
    event.removed.clear();
    Keep(std::move(event));
    return;
  }
  Blocks& blocks = held_[{event.rank, event.tier}];
  if (event.kind == wire::KvEvent::Kind::kStored) {
    Store(blocks, std::move(event));
  } else {
    Remove(blocks, std::move(event));
  }
}

// What is new stays in rows: a block that is known already ends one.
void KvEventLog::Store(Blocks& blocks, wire::KvEvent event) {
  std::optional<std::uint64_t> parent = event.parent;
  const std::vector<wire::KvBlock> stored = std::exchange(event.blocks, {});
  wire::KvEvent& row = event;
  row.removed.clear();
  for (const wire::KvBlock& block : stored) {
    Held& held = blocks[block.block_hash];
    if (++held.count == 1) {
      held.tokens_hash = block.tokens_hash;
      held.parent = parent;
      held.order = next_order_++;
      if (row.blocks.empty()) {
        row.parent = parent;
      }
      row.blocks.push_back(block);
    } else if (!row.blocks.empty()) {
      Keep(row);
      row.blocks.clear();
    }
    parent = block.block_hash;
  }
  if (!row.blocks.empty()) {
    Keep(std::move(row));
  }
}

void KvEventLog::Remove(Blocks& blocks, wire::KvEvent event) {
  std::erase_if(event.removed, [&blocks](std::uint64_t hash) {
    const auto found = blocks.find(hash);
    if (found == blocks.end() || --found->second.count > 0) {
      return true;
    }
    blocks.erase(found);
    return false;
  });
  event.parent.reset();
  event.blocks.clear();
  if (!event.removed.empty()) {
    Keep(std::move(event));
  }
}

std::optional<std::vector<wire::KvEvent>> KvEventLog::Since(std::uint64_t from_id,
                                                            std::size_t blocks_max) const {
  if (from_id > next_id_ || (from_id < next_id_ && from_id < events_.front().id)) {
    return std::nullopt;
  }
  std::vector<wire::KvEvent> out;
  std::size_t blocks = 0;
  for (std::size_t at = events_.size() - (next_id_ - from_id);
       at < events_.size() && (out.empty() || blocks < blocks_max); ++at) {
    blocks += BlocksOf(events_[at]);
    out.push_back(events_[at]);
  }
  return out;
}

std::size_t KvEventLog::block_count() const {
  std::size_t count = 0;
  for (const auto& [place, blocks] : held_) {
    count += blocks.size();
  }
  return count;
}

// The block before `block`; nothing if there is none or it is `last`, which was said just now.
const KvEventLog::Blocks::value_type* KvEventLog::LateParent(const Blocks& blocks,
                                                             const Blocks::value_type& block,
                                                             const Blocks::value_type* last) {
  const std::optional<std::uint64_t>& parent = block.second.parent;
  if (!parent || (last != nullptr && *parent == last->first)) {
    return nullptr;
  }
  const auto found = blocks.find(*parent);
  return found == blocks.end() ? nullptr : &*found;
}

// Blocks in the order of their stores, but parents first: a parent may have been stored anew.
std::vector<wire::KvEvent> KvEventLog::Dump() const {
  std::vector<wire::KvEvent> out;
  std::vector<const Blocks::value_type*> order;
  std::vector<const Blocks::value_type*> chain;
  std::unordered_set<std::uint64_t> early;  // orders of those said before their turn
  for (const auto& [place, blocks] : held_) {
    order.clear();
    order.reserve(blocks.size());
    for (const auto& block : blocks) {
      order.push_back(&block);
    }
    std::ranges::sort(order, {}, [](const auto* block) { return block->second.order; });
    early.clear();
    const Blocks::value_type* last = nullptr;  // of the last event
    for (const Blocks::value_type* const wanted : order) {
      if (early.erase(wanted->second.order) > 0) {
        continue;
      }
      chain.assign(1, wanted);
      while (const Blocks::value_type* const parent = LateParent(blocks, *chain.back(), last)) {
        if (parent->second.order <= wanted->second.order ||
            !early.insert(parent->second.order).second) {
          break;  // said already
        }
        chain.push_back(parent);
      }
      for (std::size_t i = chain.size(); i-- > 0;) {
        const auto& [hash, held] = *chain[i];
        if (last == nullptr || held.parent != last->first) {
          wire::KvEvent& event = out.emplace_back();
          event.id = LastId();
          event.rank = place.rank;
          event.tier = place.tier;
          event.parent = held.parent;
        }
        out.back().blocks.push_back({hash, held.tokens_hash});
        last = chain[i];
      }
    }
  }
  return out;
}

}  // namespace pixii::worker
