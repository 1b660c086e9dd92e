#include "router/router.h"

#include <algorithm>
#include <utility>

#include "wire/public_hash.h"

namespace pixii::router {

Router::Router(RouterOptions options, std::uint64_t seed)
    : options_(std::move(options)),
      random_(seed),
      tracker_({.track_blocks = options_.track_active_blocks,
                .track_output_blocks = options_.track_output_blocks,
                .dedup_blocks = options_.assume_kv_reuse,
                .expiry = options_.active_request_expiry}),
      queue_({.policy = options_.queue_policy,
              .config = options_.policy,
              .requests_max = options_.queue_requests_max}) {
  if (kv_mode() && options_.cost.overlap_credit > 0) {
    if (options_.use_kv_events) {
      index_.emplace(KvIndexOptions{options_.index_bytes_max});
    } else {
      approximate_.emplace(ApproximateIndexOptions{.policy = options_.approximate_policy,
                                                   .ttl = options_.approximate_ttl,
                                                   .blocks_max = options_.approximate_blocks_max});
    }
    if (options_.predicted_ttl && index_) {
      predicted_.emplace(ApproximateIndexOptions{.policy = ApproximatePolicy::kTtl,
                                                 .ttl = *options_.predicted_ttl,
                                                 .blocks_max = options_.approximate_blocks_max});
    }
  }
  if (options_.session_affinity_ttl) {
    sessions_.emplace(SessionTableOptions{.ttl = *options_.session_affinity_ttl,
                                          .session_count_max = options_.session_count_max});
  }
}

void Router::SetWorker(const control::Instance& instance) {
  const auto found = workers_.find(instance.id);
  if (found != workers_.end()) {
    const control::Instance& old = found->second.instance;
    if (old.rank_first == instance.rank_first && old.rank_count == instance.rank_count) {
      found->second.instance = instance;
      rows_stale_ = true;
      changed_ = true;
      return;
    }
    RemoveWorker(instance.id);
  }
  Worker worker;
  worker.instance = instance;
  for (std::uint32_t i = 0; i < instance.rank_count; ++i) {
    if (free_numbers_.empty()) {
      if (rank_count_ == kRankCountMax) {
        break;  // more ranks than one router knows get nothing
      }
      free_numbers_.push_back(RankNumber{rank_count_++});
    }
    worker.numbers.push_back(free_numbers_.back());
    free_numbers_.pop_back();
    if (approximate_) {
      approximate_->SetCapacity(worker.numbers.back(), instance.card.block_count);
    }
  }
  worker.loads.resize(worker.numbers.size());
  if (block_tokens_ == 0) {
    block_tokens_ = instance.card.block_tokens;
  }
  workers_.emplace(instance.id, std::move(worker));
  rows_stale_ = true;
  changed_ = true;
}

void Router::RemoveWorker(InstanceId instance) {
  const auto found = workers_.find(instance);
  if (found == workers_.end()) {
    return;
  }
  for (const RankNumber number : found->second.numbers) {
    tracker_.RemoveRank(number);
    if (index_) {
      index_->Clear(number);
    }
    for (std::optional<ApproximateIndex>* one : {&approximate_, &predicted_}) {
      if (*one) {
        (*one)->Clear(number);
      }
    }
    free_numbers_.push_back(number);
  }
  workers_.erase(found);
  rows_stale_ = true;
  if (sessions_) {
    sessions_->Forget(instance);
  }
  changed_ = true;  // who waits for it alone waits for nothing
}

void Router::OnLoad(InstanceId instance, std::uint32_t rank, const wire::WorkerLoad& load,
                    rt::Time) {
  const auto found = workers_.find(instance);
  if (found == workers_.end()) {
    return;
  }
  const std::uint32_t index = rank - found->second.instance.rank_first;
  if (rank >= found->second.instance.rank_first && index < found->second.loads.size()) {
    rows_stale_ = rows_stale_ || found->second.loads[index].state != load.state;
    found->second.loads[index] = load;
    changed_ = true;
  }
}

void Router::OnKvEvents(InstanceId instance, const std::vector<wire::KvEvent>& events, rt::Time) {
  const auto found = workers_.find(instance);
  if (!index_ || found == workers_.end()) {
    return;
  }
  const Worker& worker = found->second;
  for (const wire::KvEvent& event : events) {
    const std::uint32_t index = event.rank - worker.instance.rank_first;
    if (event.rank >= worker.instance.rank_first && index < worker.numbers.size()) {
      index_->Apply(worker.numbers[index], event);
    }
  }
}

void Router::OnOverloaded(InstanceId instance, rt::Time now) {
  const auto found = workers_.find(instance);
  if (found != workers_.end()) {
    found->second.overloaded_until = now + options_.overloaded_hint;
    rows_stale_ = true;
    recheck_at_ = std::min(recheck_at_, found->second.overloaded_until);
  }
}

std::unique_ptr<Waiting> Router::Prepare(RouteRequest request, rt::Time now) const {
  auto out = std::make_unique<Waiting>();
  out->request = std::move(request);
  out->arrived = now;
  out->prompt_tokens = out->request.tokens.size();
  if (kv_mode() && block_tokens_ > 0) {
    out->block_hashes =
        wire::PublicBlockHashes(out->request.tokens, block_tokens_,
                                wire::PublicHashSeed(out->request.salt, out->request.adapter));
  }
  return out;
}

bool Router::queues() const {
  return options_.queue_threshold.has_value() || !options_.policy.classes.empty();
}

// A session's requests go to its worker.
void Router::Bind(RouteRequest& request, rt::Time now) {
  if (!sessions_ || request.session.empty() || request.pinned) {
    return;
  }
  const std::optional<Target> bound = sessions_->Find(request.session, now);
  if (!bound || std::ranges::find(request.excluded, bound->instance) != request.excluded.end()) {
    return;
  }
  const auto worker = workers_.find(bound->instance);
  if (worker == workers_.end() || worker->second.instance.draining) {
    return;
  }
  if (options_.session_affinity_mode == AffinityMode::kSoft &&
      (now < worker->second.overloaded_until || IsBusy(worker->second))) {
    return;
  }
  request.pinned = bound->instance;
  request.rank = bound->rank;
}

void Router::Submit(RouteRequest request, rt::Time now) {
  Bind(request, now);
  Decide(Prepare(std::move(request), now), now);
}

// Goes now, waits, or fails.
void Router::Decide(std::unique_ptr<Waiting> waiting, rt::Time now) {
  const RequestId id = waiting->request.id;
  if (options_.mode == RouterMode::kDirect && !waiting->request.pinned) {
    dispatches_.push_back(
        {id,
         Fail(Code::kInvalidArgument,
              "this router sends a request where it says, and it names no worker", "worker_id"),
         0});
    return;
  }
  Evaluate(*waiting, now);
  const Result<void> somebody = SomebodyEligible(waiting->request);
  if (!somebody && !(queues() && somebody.error().code() == Code::kResourceExhausted)) {
    dispatches_.push_back({id, Fail(somebody.error()), 0});
    return;
  }
  if (queues()) {
    for (const Candidate* one : eligible_) {
      waiting->cached_tokens =
          std::max(waiting->cached_tokens, CachedTokens(options_.cost, one->input));
    }
    const std::size_t index = queue_.ClassOf(waiting->request.policy_class,
                                             waiting->prompt_tokens - waiting->cached_tokens);
    const PolicyClass& policy_class = queue_.policy_class(index);
    const bool all_full = std::ranges::all_of(
        eligible_, [&](const Candidate* one) { return OverThreshold(*one, policy_class); });
    // Inside a class nobody passes those who wait.
    if (all_full || (!options_.policy.classes.empty() && queue_.HasBacklog(index))) {
      const Result<void> pushed = queue_.Push(std::move(waiting), index, workers_.size());
      if (!pushed) {
        dispatches_.push_back({id, Fail(pushed.error()), 0});
      }
      changed_ = true;
      return;
    }
  }
  Send(*waiting, now);
}

// Pre: Evaluate found somebody eligible.
void Router::Send(const Waiting& waiting, rt::Time now) {
  const RouteRequest& request = waiting.request;
  const Candidate& chosen = Choose(waiting);
  const CostOptions costs = CostsFor(request);
  const std::uint64_t cached = CachedTokens(costs, chosen.input);
  tracker_.Add(request.id, chosen.number,
               {.block_hashes = waiting.block_hashes,
                .prompt_tokens = waiting.prompt_tokens,
                .prefill_tokens = costs.track_prefill_tokens ? waiting.prompt_tokens - cached : 0,
                .block_tokens = std::max(block_tokens_, 1U),
                .expected_output_tokens = request.expected_output_tokens},
               now);
  for (std::optional<ApproximateIndex>* one : {&approximate_, &predicted_}) {
    if (*one) {
      (*one)->OnRouted(request.id, chosen.number, waiting.block_hashes, now);
    }
  }
  if (sessions_ && !request.session.empty() &&
      sessions_->Begin(request.session, chosen.target, now)) {
    session_of_.emplace(request.id, request.session);
  }
  dispatches_.push_back({request.id, chosen.target, static_cast<std::uint32_t>(cached)});
}

void Router::Withdraw(RequestId id, rt::Time now) {
  std::erase_if(dispatches_, [&](const Dispatch& one) { return one.id == id; });
  if (queue_.Remove(id) != nullptr) {
    return;
  }
  for (std::optional<ApproximateIndex>* one : {&approximate_, &predicted_}) {
    if (*one) {
      (*one)->OnEnd(id);
    }
  }
  const auto session = session_of_.find(id);
  if (session != session_of_.end()) {
    sessions_->End(session->second, now);
    session_of_.erase(session);
  }
  changed_ = tracker_.Remove(id).has_value() || changed_;
}

void Router::OnFirstToken(RequestId id, rt::Time now) {
  changed_ = tracker_.OnPrefillDone(id, now) || changed_;
}

void Router::OnTokens(RequestId id, std::uint32_t count, rt::Time now) {
  tracker_.OnTokens(id, count, now);
}

std::vector<Dispatch> Router::TakeDispatches(rt::Time now) {
  for (const RequestId id : tracker_.Expire(now)) {
    Withdraw(id, now);
    changed_ = true;
  }
  if (now >= recheck_at_) {
    changed_ = true;
    recheck_at_ = rt::kNever;
    for (const auto& [id, worker] : workers_) {
      if (worker.overloaded_until > now) {
        recheck_at_ = std::min(recheck_at_, worker.overloaded_until);
      }
    }
  }
  while (queue_.size() > 0 && std::exchange(changed_, false)) {
    const std::unique_ptr<Waiting> next =
        queue_.Pop([&](const Waiting& waiting, const PolicyClass& policy_class) {
          return CanGo(waiting, policy_class, now);
        });
    if (next == nullptr) {
      break;
    }
    changed_ = true;
    Evaluate(*next, now);
    if (const Result<void> somebody = SomebodyEligible(next->request); !somebody) {
      dispatches_.push_back({next->request.id, Fail(somebody.error()), 0});
    } else {
      Send(*next, now);
    }
  }
  return std::exchange(dispatches_, {});
}

rt::Time Router::next_time() const {
  return std::min(tracker_.next_expiry(), queue_.size() > 0 ? recheck_at_ : rt::kNever);
}

std::vector<RankLoadRow> Router::Loads() const {
  std::vector<RankLoadRow> out;
  for (const auto& [id, worker] : workers_) {
    for (std::size_t i = 0; i < worker.numbers.size(); ++i) {
      out.push_back({{id, worker.instance.rank_first + static_cast<std::uint32_t>(i)},
                     tracker_.load(worker.numbers[i])});
    }
  }
  return out;
}

std::vector<Candidate> Router::Explain(const RouteRequest& request, rt::Time now) {
  RouteRequest bound = request;
  Bind(bound, now);
  Evaluate(*Prepare(std::move(bound), now), now);
  return candidates_;
}

}  // namespace pixii::router
