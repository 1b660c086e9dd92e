#include "router/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::router {

Router::Router(RouterOptions options, std::uint64_t seed) : options_(options), random_(seed) {}

void Router::SetWorker(const control::Instance& instance) { workers_[instance.id] = instance; }

void Router::RemoveWorker(InstanceId instance) { workers_.erase(instance); }

void Router::OnLoad(InstanceId, std::uint32_t, const wire::WorkerLoad&, rt::Time) {}

void Router::OnKvEvents(InstanceId, const std::vector<wire::KvEvent>&, rt::Time) {}

void Router::Submit(RouteRequest request, rt::Time) {
  Result<Target> target = Choose(request);
  if (target) {
    running_.emplace(request.id, *target);
    ++requests_[*target];
  }
  dispatches_.push_back({request.id, std::move(target)});
}

void Router::Withdraw(RequestId id, rt::Time) {
  std::erase_if(dispatches_, [&](const Dispatch& one) { return one.id == id; });
  const auto found = running_.find(id);
  if (found == running_.end()) {
    return;
  }
  const auto requests = requests_.find(found->second);
  if (--requests->second == 0) {
    requests_.erase(requests);
  }
  running_.erase(found);
}

void Router::OnFirstToken(RequestId, rt::Time) {}

void Router::OnTokens(RequestId, std::uint32_t, rt::Time) {}

std::vector<Dispatch> Router::TakeDispatches(rt::Time) { return std::exchange(dispatches_, {}); }

Result<std::vector<Router::Candidate>> Router::Eligible(const RouteRequest& request) const {
  std::vector<Candidate> out;
  for (const auto& [id, worker] : workers_) {
    if (worker.draining || (request.pinned && *request.pinned != id) ||
        std::ranges::find(request.excluded, id) != request.excluded.end()) {
      continue;
    }
    for (std::uint32_t i = 0; i < worker.rank_count; ++i) {
      const Target target{id, worker.rank_first + i};
      if (!request.rank || *request.rank == target.rank) {
        const auto requests = requests_.find(target);
        out.push_back({target, requests == requests_.end() ? 0 : requests->second});
      }
    }
  }
  if (!out.empty()) {
    return out;
  }
  if (request.pinned && request.rank && workers_.contains(*request.pinned)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("worker {:x} has no rank {}",
                            static_cast<std::uint64_t>(*request.pinned), *request.rank),
                "dp_rank");
  }
  return Fail(Code::kUnavailable,
              fmt::format("none of {} workers may take the request", workers_.size()));
}

Target Router::NextInCycle(const std::vector<Candidate>& candidates) {
  // Sorted by target: the first one behind the last one that was taken.
  const auto next = std::ranges::find_if(
      candidates, [&](const Candidate& one) { return !last_ || one.target > *last_; });
  last_ = next == candidates.end() ? candidates.front().target : next->target;
  return *last_;
}

Result<Target> Router::Choose(const RouteRequest& request) {
  if (options_.mode == RouterMode::kDirect && !request.pinned) {
    return Fail(Code::kInvalidArgument,
                "this router sends a request where it says, and it names no "
                "worker",
                "worker_id");
  }
  PX_TRY(const std::vector<Candidate> candidates, Eligible(request));
  const auto any = [&] { return candidates[random_.Below(candidates.size())]; };
  switch (options_.mode) {
    case RouterMode::kRoundRobin:
    case RouterMode::kDirect:
      return NextInCycle(candidates);
    case RouterMode::kRandom:
      return any().target;
    case RouterMode::kPowerOfTwo: {
      const std::size_t first = random_.Below(candidates.size());
      if (candidates.size() == 1) {
        return candidates[0].target;
      }
      std::size_t second = random_.Below(candidates.size() - 1);
      second += second >= first ? 1 : 0;
      const bool other = candidates[second].requests < candidates[first].requests;
      return candidates[other ? second : first].target;
    }
    case RouterMode::kLeastLoaded:
    case RouterMode::kKv:
      break;
  }
  const Candidate* best = nullptr;
  std::uint64_t ties = 0;
  for (const Candidate& one : candidates) {
    if (best == nullptr || one.requests < best->requests) {
      best = &one;
      ties = 1;
    } else if (one.requests == best->requests && random_.Below(++ties) == 0) {
      best = &one;  // each of the equal ones alike likely
    }
  }
  return best->target;
}

}  // namespace pixii::router
