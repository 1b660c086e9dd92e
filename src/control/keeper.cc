#include "control/keeper.h"

#include <algorithm>
#include <set>
#include <utility>

namespace pixii::control {

namespace {

constexpr rt::Duration kDefaultGrace = std::chrono::seconds(30);  // of a part that is gone

}  // namespace

void Keeper::SetParts(std::vector<KeptPart> parts) {
  parts_ = std::move(parts);
  std::erase_if(failures_, [this](const auto& one) { return Find(one.first.first) == nullptr; });
}

void Keeper::OnReady(ReplicaId replica, rt::Time now) {
  const auto found = replicas_.find(replica);
  if (found != replicas_.end() && !std::exchange(found->second.ready, true)) {
    found->second.ready_at = now;
  }
}

void Keeper::OnExit(ReplicaId replica, rt::Time now) {
  const auto found = replicas_.find(replica);
  if (found == replicas_.end()) {
    return;
  }
  const Replica gone = found->second;
  replicas_.erase(found);
  if (gone.stopping) {
    return;
  }
  Failures& failures = failures_[{gone.part, gone.slot}];
  if (gone.ready && now - gone.ready_at >= options_.sound_after) {
    failures.count = 0;
  }
  rt::Duration pause = options_.backoff_min;
  for (std::uint32_t i = 0; i < failures.count && pause < options_.backoff_max; ++i) {
    pause *= 2;
  }
  ++failures.count;
  failures.next_start = now + std::min(pause, options_.backoff_max);
}

const KeptPart* Keeper::Find(const std::string& name) const {
  const auto found = std::ranges::find(parts_, name, &KeptPart::name);
  return found != parts_.end() ? &*found : nullptr;
}

bool Keeper::Settled(const Replica& replica, const KeptPart& part, rt::Time now) const {
  return replica.ready && now - replica.ready_at >= part.settle;
}

Keeper::Census Keeper::Count(const KeptPart& part, rt::Time now) const {
  Census out;
  for (const auto& [id, replica] : replicas_) {
    if (replica.part != part.name) {
      continue;
    }
    if (replica.stopping) {
      ++out.stopping;
    } else if (replica.version == part.version) {
      out.current.push_back(id);
      out.rising = out.rising || !Settled(replica, part, now);
    } else {
      out.old.push_back(id);
    }
  }
  return out;
}

bool Keeper::NeedsMet(const KeptPart& part) const {
  return std::ranges::all_of(part.needs, [&](const std::string& name) {
    const KeptPart* needed = Find(name);
    if (needed == nullptr) {
      return true;
    }
    const auto ready = std::ranges::count_if(replicas_, [&](const auto& one) {
      return one.second.part == name && one.second.ready && !one.second.stopping;
    });
    return static_cast<std::uint32_t>(ready) >= needed->replicas;
  });
}

// Whether one that runs needs it.
bool Keeper::IsNeeded(const std::string& name) const {
  return std::ranges::any_of(replicas_, [&](const auto& one) {
    const KeptPart* part = Find(one.second.part);
    return part != nullptr && std::ranges::find(part->needs, name) != part->needs.end();
  });
}

// `count` that nobody has, those that must wait longest: what fails is not started in another
// one's place.
std::vector<std::uint32_t> Keeper::FreeSlots(const KeptPart& part, std::size_t count) const {
  std::set<std::uint32_t> taken;
  for (const auto& [id, replica] : replicas_) {
    if (replica.part == part.name) {
      taken.insert(replica.slot);
    }
  }
  std::vector<std::pair<rt::Time, std::uint32_t>> free;
  for (std::uint32_t slot = 0; slot < taken.size() + count; ++slot) {
    if (!taken.contains(slot)) {
      const auto failed = failures_.find({part.name, slot});
      free.emplace_back(failed == failures_.end() ? rt::Time::min() : failed->second.next_start,
                        slot);
    }
  }
  std::ranges::sort(free, [](const auto& a, const auto& b) {
    return std::pair(b.first, a.second) < std::pair(a.first, b.second);
  });
  std::vector<std::uint32_t> out;
  for (std::size_t i = 0; i < count; ++i) {
    out.push_back(free[i].second);
  }
  return out;
}

void Keeper::Start(const KeptPart& part, std::size_t count, rt::Time now,
                   std::vector<KeeperAction>& out) {
  for (const std::uint32_t slot : FreeSlots(part, count)) {
    const auto failed = failures_.find({part.name, slot});
    if (failed != failures_.end() && failed->second.next_start > now) {
      continue;
    }
    const ReplicaId id{++last_id_};
    replicas_.emplace(id, Replica{.part = part.name, .version = part.version, .slot = slot});
    out.push_back({.kind = KeeperAction::Kind::kStart,
                   .replica = id,
                   .part = part.name,
                   .version = part.version});
  }
}

void Keeper::Stop(ReplicaId id, rt::Time now, std::vector<KeeperAction>& out) {
  Replica& replica = replicas_.at(id);
  const KeptPart* part = Find(replica.part);
  replica.stopping = true;
  replica.kill_at = now + (part != nullptr ? part->stop_grace : kDefaultGrace);
  out.push_back({.kind = KeeperAction::Kind::kStop,
                 .replica = id,
                 .part = replica.part,
                 .version = replica.version});
}

void Keeper::DecideDrain(rt::Time now, std::vector<KeeperAction>& out) {
  std::vector<ReplicaId> free;
  for (const auto& [id, replica] : replicas_) {
    if (!replica.stopping && !IsNeeded(replica.part)) {
      free.push_back(id);
    }
  }
  for (const ReplicaId id : free) {
    Stop(id, now, out);
  }
}

void Keeper::DecidePart(const KeptPart& part, rt::Time now, std::vector<KeeperAction>& out) {
  const Census census = Count(part, now);
  const std::size_t wanted = part.replicas;
  const std::size_t running = census.current.size() + census.old.size();
  if (census.old.empty()) {
    if (running == 0 && census.stopping == 0 && !NeedsMet(part)) {
      return;
    }
    const std::size_t ending = part.overlaps ? 0 : census.stopping;
    Start(part, wanted - std::min(wanted, running + ending), now, out);
    for (std::size_t i = wanted; i < running; ++i) {
      Stop(census.current[running - 1 - (i - wanted)], now, out);
    }
    return;
  }
  // One that is not ready serves nobody.
  const auto idle =
      std::ranges::find_if(census.old, [&](ReplicaId id) { return !replicas_.at(id).ready; });
  if (idle != census.old.end()) {
    Stop(*idle, now, out);
    return;
  }
  if (census.rising || census.stopping > 0) {
    return;  // one at a time
  }
  if (running > wanted || (!part.overlaps && running == wanted)) {
    Stop(census.old.front(), now, out);
  } else {
    Start(part, 1, now, out);
  }
}

std::vector<KeeperAction> Keeper::Decide(rt::Time now) {
  std::vector<KeeperAction> out;
  for (auto& [id, replica] : replicas_) {
    if (replica.stopping && now >= replica.kill_at) {
      replica.kill_at = rt::kNever;
      out.push_back({.kind = KeeperAction::Kind::kKill,
                     .replica = id,
                     .part = replica.part,
                     .version = replica.version});
    }
  }
  if (draining_) {
    DecideDrain(now, out);
    return out;
  }
  std::vector<ReplicaId> dropped;
  for (const auto& [id, replica] : replicas_) {
    if (!replica.stopping && Find(replica.part) == nullptr) {
      dropped.push_back(id);
    }
  }
  for (const ReplicaId id : dropped) {
    Stop(id, now, out);
  }
  for (const KeptPart& part : parts_) {
    DecidePart(part, now, out);
  }
  return out;
}

rt::Time Keeper::next_time(rt::Time now) const {
  rt::Time next = rt::kNever;
  const auto at = [&](rt::Time time) { next = time > now ? std::min(next, time) : next; };
  for (const auto& [id, replica] : replicas_) {
    if (replica.stopping) {
      at(replica.kill_at);
    } else if (const KeptPart* part = Find(replica.part); part != nullptr && replica.ready) {
      at(replica.ready_at + part->settle);
    }
  }
  for (const auto& [name, failures] : failures_) {
    at(failures.next_start);
  }
  return next;
}

bool Keeper::settled(rt::Time now) const {
  const bool stray = std::ranges::any_of(replicas_, [this](const auto& one) {
    return one.second.stopping || Find(one.second.part) == nullptr;
  });
  return !stray && std::ranges::all_of(parts_, [&](const KeptPart& part) {
    const Census census = Count(part, now);
    return census.old.empty() && !census.rising && census.current.size() == part.replicas;
  });
}

std::vector<ReplicaStatus> Keeper::replicas() const {
  std::vector<ReplicaStatus> out;
  for (const auto& [id, replica] : replicas_) {
    using State = ReplicaStatus::State;
    out.push_back({.replica = id,
                   .part = replica.part,
                   .version = replica.version,
                   .state = replica.stopping ? State::kStopping
                            : replica.ready  ? State::kReady
                                             : State::kStarting});
  }
  return out;
}

}  // namespace pixii::control
