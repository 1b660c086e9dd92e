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
  wire::KvEvent row = event;
  row.removed.clear();
  row.blocks.clear();
  for (const wire::KvBlock& block : event.blocks) {
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

// Blocks in the order of their stores, but parents first: a parent may have been stored anew.
std::vector<wire::KvEvent> KvEventLog::Dump() const {
  std::vector<wire::KvEvent> out;
  for (const auto& [place, blocks] : held_) {
    std::vector<std::uint64_t> order;
    order.reserve(blocks.size());
    for (const auto& [hash, held] : blocks) {
      order.push_back(hash);
    }
    std::ranges::sort(order, {}, [&](std::uint64_t hash) { return blocks.at(hash).order; });
    std::unordered_set<std::uint64_t> said;
    std::vector<std::uint64_t> chain;
    std::optional<std::uint64_t> last;  // block of the last event
    for (const std::uint64_t wanted : order) {
      chain.clear();
      std::optional<std::uint64_t> at = wanted;
      while (at && blocks.contains(*at) && said.insert(*at).second) {
        chain.push_back(*at);
        at = blocks.at(*at).parent;
      }
      for (std::size_t i = chain.size(); i-- > 0;) {
        const Held& held = blocks.at(chain[i]);
        if (out.empty() || !last || held.parent != last || out.back().rank != place.rank ||
            out.back().tier != place.tier) {
          wire::KvEvent& event = out.emplace_back();
          event.id = LastId();
          event.rank = place.rank;
          event.tier = place.tier;
          event.parent = held.parent;
        }
        out.back().blocks.push_back({chain[i], held.tokens_hash});
        last = chain[i];
      }
    }
  }
  return out;
}

}  // namespace pixii::worker
