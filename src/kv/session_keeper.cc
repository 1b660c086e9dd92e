#include "kv/session_keeper.h"

#include <algorithm>

namespace pixii::kv {

void SessionKeeper::Keep(std::string_view session, std::span<const BlockPin> blocks, rt::Time now) {
  blocks = blocks.first(std::min<std::size_t>(blocks.size(), options_.blocks_max));
  if (blocks.empty() || options_.sessions_max == 0) {
    return;
  }
  Session fresh{.name = std::string(session), .blocks = {}, .until = now + options_.lifetime};
  fresh.blocks.reserve(blocks.size());
  for (const BlockPin& pin : blocks) {
    cache_.Keep(pin);
    fresh.blocks.push_back(pin.ref());
  }
  if (const auto before = sessions_.find(session); before != sessions_.end()) {
    Remove(before->second);
  } else {
    ++counters_.begun;
  }
  while (counters_.live >= options_.sessions_max ||
         counters_.blocks + fresh.blocks.size() > options_.blocks_max) {
    Remove(by_use_.begin());
    ++counters_.displaced;
  }
  ++counters_.live;
  counters_.blocks += static_cast<std::uint32_t>(fresh.blocks.size());
  by_use_.push_back(std::move(fresh));
  const auto last = std::prev(by_use_.end());
  sessions_.emplace(last->name, last);
}

void SessionKeeper::End(std::string_view session) {
  if (const auto found = sessions_.find(session); found != sessions_.end()) {
    Remove(found->second);
    ++counters_.ended;
  }
}

void SessionKeeper::Expire(rt::Time now) {
  while (!by_use_.empty() && by_use_.front().until <= now) {
    Remove(by_use_.begin());
    ++counters_.expired;
  }
}

rt::Time SessionKeeper::next_expiry() const {
  return by_use_.empty() ? rt::kNever : by_use_.front().until;
}

void SessionKeeper::Clear() {
  while (!by_use_.empty()) {
    Remove(by_use_.begin());
  }
}

// Its last block first: where a prefix is let go, its end is evicted before its beginning.
void SessionKeeper::Remove(Sessions::iterator session) {
  sessions_.erase(session->name);
  --counters_.live;
  counters_.blocks -= static_cast<std::uint32_t>(session->blocks.size());
  for (auto block = session->blocks.rbegin(); block != session->blocks.rend(); ++block) {
    cache_.Unkeep(*block);
  }
  by_use_.erase(session);
}

}  // namespace pixii::kv
