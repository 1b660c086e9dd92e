#include "control/membership.h"

#include <algorithm>
#include <utility>

namespace pixii::control {

bool Membership::IsStale(const Instance& instance) const {
  const auto withdrawn = withdrawn_.find(instance.id);
  if (withdrawn != withdrawn_.end() && instance.generation <= withdrawn->second) {
    return true;
  }
  const auto known = instances_.find(instance.id);
  return known != instances_.end() && instance.generation < known->second.generation;
}

void Membership::Take(const Instance& instance) {
  const auto [known, added] = instances_.try_emplace(instance.id, instance);
  if (added) {
    standings_.try_emplace(instance.id);
    changes_.push_back({MembershipChange::Kind::kAdded, instance});
  } else if (instance.generation > known->second.generation) {
    known->second = instance;
    changes_.push_back({MembershipChange::Kind::kChanged, instance});
  }
}

void Membership::OnView(const std::vector<SeenInstance>& seen, rt::Time now) {
  std::map<InstanceId, const SeenInstance*> by_id;
  for (const SeenInstance& one : seen) {
    by_id[one.id] = &one;
  }
  for (const auto& [id, one] : by_id) {
    if (one->instance && !IsStale(*one->instance)) {
      Take(*one->instance);
    }
  }
  for (auto& [id, standing] : standings_) {
    const bool was_in_store = std::exchange(standing.in_store, by_id.contains(id));
    if (!standing.in_store && (was_in_store || frozen_)) {
      // While the store was away nobody could have come back: the time starts anew.
      standing.absent_since = now;
    }
  }
  frozen_ = false;
  OnTime(now);
}

void Membership::OnTrouble() { frozen_ = true; }

void Membership::OnConnection(InstanceId id, bool connected, rt::Time now) {
  const auto found = standings_.find(id);
  if (found == standings_.end()) {
    return;
  }
  if (found->second.connected && !connected && !found->second.in_store) {
    found->second.absent_since = now;
  }
  found->second.connected = connected;
}

void Membership::OnGoingAway(InstanceId id) {
  const auto found = standings_.find(id);
  if (found != standings_.end()) {
    found->second.goes_away = true;
  }
}

void Membership::OnTime(rt::Time now) {
  if (frozen_) {
    return;
  }
  std::vector<InstanceId> withdrawn;
  for (const auto& [id, standing] : standings_) {
    if (!standing.in_store && GoesAway(id, standing)) {
      withdrawn.push_back(id);
    }
  }
  for (const InstanceId id : withdrawn) {
    Withdraw(id);
  }
  std::vector<InstanceId> gone;
  for (const auto& [id, standing] : standings_) {
    if (!standing.in_store && !standing.connected &&
        now - standing.absent_since >= options_.absence_grace) {
      gone.push_back(id);
    }
  }
  for (const InstanceId id : gone) {
    Remove(id);
  }
}

rt::Time Membership::next_deadline() const {
  rt::Time next = rt::kNever;
  if (!frozen_) {
    for (const auto& [id, standing] : standings_) {
      if (!standing.in_store && GoesAway(id, standing)) {
        next = std::min(next, standing.absent_since);
      } else if (!standing.in_store && !standing.connected) {
        next = std::min(next, standing.absent_since + options_.absence_grace);
      }
    }
  }
  return next;
}

// What it said last of itself is that it drains: of that generation, seen here or not.
void Membership::Withdraw(InstanceId id) {
  const Instance& instance = instances_.at(id);
  const std::uint64_t last = instance.generation + (instance.draining ? 0 : 1);
  if (withdrawn_.insert_or_assign(id, last).second) {
    withdrawn_order_.push_back(id);
    if (withdrawn_order_.size() > options_.withdrawn_max) {
      withdrawn_.erase(withdrawn_order_.front());
      withdrawn_order_.pop_front();
    }
  }
  Remove(id);
}

void Membership::Remove(InstanceId id) {
  auto removed = instances_.extract(id);
  standings_.erase(id);
  changes_.push_back({MembershipChange::Kind::kRemoved, std::move(removed.mapped())});
}

std::vector<MembershipChange> Membership::TakeChanges() { return std::exchange(changes_, {}); }

}  // namespace pixii::control
