#include "kv/tiers/prefetch_planner.h"

#include <algorithm>
#include <utility>

namespace pixii::kv {

void PrefetchPlanner::Expect(std::span<const ExpectedRequest> waiting) {
  std::unordered_map<RequestId, Waiting> known;
  for (Waiting& one : waiting_) {
    const RequestId id = one.request->id;
    known.emplace(id, std::move(one));
  }
  waiting_.clear();
  ahead_ = 0;
  for (const ExpectedRequest& expected : waiting) {
    const auto found = known.find(expected.request->id);
    waiting_.push_back(found == known.end()
                           ? Waiting{.request = expected.request, .next = expected.first}
                           : std::move(found->second));
    ahead_ += waiting_.back().ahead;
  }
}

void PrefetchPlanner::Forget(RequestId id) {
  if (const Waiting* one = Find(id)) {
    ahead_ -= one->ahead;
    waiting_.erase(waiting_.begin() + (one - waiting_.data()));
  }
}

PrefetchPlanner::Waiting* PrefetchPlanner::Find(RequestId id) {
  const auto found =
      std::ranges::find(waiting_, id, [](const Waiting& one) { return one.request->id; });
  return found == waiting_.end() ? nullptr : &*found;
}

std::optional<PrefetchPlanner::Wish> PrefetchPlanner::Next() {
  if (full()) {
    return std::nullopt;
  }
  for (const Waiting& one : waiting_) {
    if (one.next < one.request->chain.hashes.size()) {
      return Wish{.request = one.request, .number = one.next};
    }
  }
  return std::nullopt;
}

void PrefetchPlanner::Advance(const Wish& wish) {
  Waiting& one = *Find(wish.request->id);
  ++one.next;
  ++one.ahead;
  ++ahead_;
}

void PrefetchPlanner::Near(const Wish& wish) { Advance(wish); }

void PrefetchPlanner::Missing(const Wish& wish) {
  Find(wish.request->id)->next = static_cast<std::uint32_t>(wish.request->chain.hashes.size());
}

void PrefetchPlanner::Began(const Wish& wish) {
  Advance(wish);
  moving_.insert(wish.request->chain.hashes[wish.number]);
}

void PrefetchPlanner::Done(const Hash128& hash) { moving_.erase(hash); }

}  // namespace pixii::kv
