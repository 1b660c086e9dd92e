#include "worker/rank_placement.h"

namespace pixii::worker {

RankPlacement::Decision RankPlacement::Place(const Wish& wish, rt::Duration waited) {
  const bool named = wish.rank && exists(*wish.rank) && !dead(*wish.rank);
  const bool of_session = options_.session_affinity && !wish.session.empty();
  if (of_session && (options_.session_first || !named)) {
    return OfSession(wish.session);
  }
  if (named) {
    if (!wish.wait || !saturated(*wish.rank, wish.sequences)) {
      return {Decision::Kind::kGo, *wish.rank};
    }
    if (waited < *wish.wait) {
      return {Decision::Kind::kWait, *wish.rank};
    }
  }
  const std::optional<std::uint32_t> least = LeastBusy();
  return least ? Decision{Decision::Kind::kGo, *least} : Decision{};
}

std::optional<std::uint32_t> RankPlacement::LeastBusy() {
  std::optional<std::uint32_t> least;
  const auto count = static_cast<std::uint32_t>(ranks_.size());
  for (std::uint32_t i = 1; i <= count; ++i) {
    const std::uint32_t rank = (last_ + i) % count;
    if (!ranks_[rank].dead && (!least || ranks_[rank].sequences < ranks_[*least].sequences)) {
      least = rank;
    }
  }
  last_ = least.value_or(last_);
  return least;
}

RankPlacement::Decision RankPlacement::OfSession(std::string_view session) {
  const auto found = sessions_.find(session);
  if (found != sessions_.end()) {
    by_use_.splice(by_use_.begin(), by_use_, found->second);
    if (!dead(by_use_.front().second)) {
      return {Decision::Kind::kGo, by_use_.front().second};
    }
  }
  const std::optional<std::uint32_t> rank = LeastBusy();
  if (!rank) {
    return {};
  }
  if (found != sessions_.end()) {
    by_use_.front().second = *rank;
    return {Decision::Kind::kGo, *rank};
  }
  by_use_.emplace_front(session, *rank);
  sessions_.emplace(by_use_.front().first, by_use_.begin());
  if (sessions_.size() > options_.sessions_max) {
    sessions_.erase(by_use_.back().first);
    by_use_.pop_back();
  }
  return {Decision::Kind::kGo, *rank};
}

}  // namespace pixii::worker
