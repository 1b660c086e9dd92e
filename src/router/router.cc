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
                .count_uses = kv_mode() && options_.cost.recompute_weight > 0,
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
  Worker& worker = workers_[instance.id];
  SetRanks(worker, instance);
  worker.instance = instance;
  if (block_tokens_ == 0) {
    block_tokens_ = instance.card.block_tokens;
  }
  rows_stale_ = true;
  changed_ = true;
}

// Ranks that it had keep what they hold and run.
void Router::SetRanks(Worker& worker, const control::Instance& instance) {
  const std::uint32_t old_first = worker.instance.rank_first;
  std::vector<RankNumber> old = std::exchange(worker.numbers, {});
  std::vector<wire::WorkerLoad> old_loads = std::exchange(worker.loads, {});
  for (std::uint32_t i = 0; i < old.size(); ++i) {
    if (old_first + i < instance.rank_first ||
        old_first + i - instance.rank_first >= instance.rank_count) {
      RemoveRank(old[i]);
    }
  }
  for (std::uint32_t i = 0; i < instance.rank_count; ++i) {
    const std::uint32_t rank = instance.rank_first + i;
    if (rank >= old_first && rank - old_first < old.size()) {
      worker.numbers.push_back(old[rank - old_first]);
      worker.loads.push_back(old_loads[rank - old_first]);
      if (approximate_) {
        approximate_->SetCapacity(worker.numbers.back(), instance.card.block_count);
      }
      continue;
    }
    if (free_numbers_.empty()) {
      if (rank_count_ == kRankCountMax) {
        break;  // more ranks than one router knows get nothing
      }
      free_numbers_.push_back(RankNumber{rank_count_++});
    }
    worker.numbers.push_back(free_numbers_.back());
    worker.loads.emplace_back();
    ranks_came_ = true;
    free_numbers_.pop_back();
    if (approximate_) {
      approximate_->SetCapacity(worker.numbers.back(), instance.card.block_count);
    }
  }
}

void Router::RemoveRank(RankNumber number) {
  for (const RequestId id : tracker_.RemoveRank(number)) {
    if (!elsewhere_.contains(id)) {
      Tell({.kind = LoadChange::Kind::kFreed, .id = id, .placement = {}});
    }
  }
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

void Router::RemoveWorker(InstanceId instance) {
  const auto found = workers_.find(instance);
  if (found == workers_.end()) {
    return;
  }
  for (const RankNumber number : found->second.numbers) {
    RemoveRank(number);
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
      using Kind = wire::KvEvent::Kind;
      ++(event.kind == Kind::kStored    ? kv_event_counts_.stored
         : event.kind == Kind::kRemoved ? kv_event_counts_.removed
                                        : kv_event_counts_.cleared);
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

void Router::SetBusyThresholds(std::optional<double> decode_blocks,
                               std::optional<std::uint64_t> prefill_tokens,
                               std::optional<double> prefill_tokens_frac) {
  options_.active_decode_blocks_threshold = decode_blocks;
  options_.active_prefill_tokens_threshold = prefill_tokens;
  options_.active_prefill_tokens_threshold_frac = prefill_tokens_frac;
  changed_ = true;
}

std::unique_ptr<Waiting> Router::Prepare(RouteRequest request, rt::Time now) const {
  auto out = std::make_unique<Waiting>();
  out->request = std::move(request);
  out->arrived = now;
  out->prompt_tokens = out->request.tokens.size();
  if (out->request.hashed) {
    out->prompt_tokens = out->request.hashed->token_count;
    out->block_hashes = out->request.hashed->block_hashes;
  } else if (kv_mode() && block_tokens_ > 0) {
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

void Router::EndStage(RouteStage stage) const {
  if (on_stage_) {
    on_stage_(stage);
  }
}

void Router::Submit(RouteRequest request, rt::Time now) {
  Bind(request, now);
  std::unique_ptr<Waiting> waiting = Prepare(std::move(request), now);
  EndStage(RouteStage::kHashed);
  Decide(std::move(waiting), now);
}

Result<void> Router::NamesItsWorker(const RouteRequest& request) const {
  if (options_.mode != RouterMode::kDirect || request.pinned || request.anywhere) {
    return {};
  }
  return Fail(Code::kInvalidArgument,
              "this router sends a request where it says, and it names no worker", "worker_id");
}

void Router::Refuse(RequestId id, const Error& error) {
  dispatches_.push_back(
      {.id = id,
       .target = Fail(error),
       .candidates = options_.tells_terms ? candidates_ : std::vector<Candidate>()});
}

// Goes now, waits, or fails.
void Router::Decide(std::unique_ptr<Waiting> waiting, rt::Time now) {
  const RequestId id = waiting->request.id;
  if (const Result<void> named = NamesItsWorker(waiting->request); !named) {
    candidates_.clear();
    Refuse(id, named.error());
    return;
  }
  if (IsPlain(waiting->request)) {
    Send(*waiting, ChoosePlain(*waiting, now), now);
    return;
  }
  Evaluate(*waiting, now);
  const Result<void> somebody = SomebodyEligible(waiting->request);
  if (!somebody && !(queues() && somebody.error().code() == Code::kResourceExhausted)) {
    Refuse(id, somebody.error());
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
        Refuse(id, pushed.error());
      }
      changed_ = true;
      return;
    }
  }
  Send(*waiting, Choose(*waiting), now);
}

void Router::Send(const Waiting& waiting, const Candidate& chosen, rt::Time now) {
  const RouteRequest& request = waiting.request;
  const CostOptions costs = CostsFor(request);
  const std::uint64_t cached = CachedTokens(costs, chosen.input);
  const std::uint64_t prefill = costs.track_prefill_tokens ? waiting.prompt_tokens - cached : 0;
  tracker_.Add(request.id, chosen.number,
               {.block_hashes = waiting.block_hashes,
                .prompt_tokens = waiting.prompt_tokens,
                .prefill_tokens = prefill,
                .block_tokens = std::max(block_tokens_, 1U),
                .expected_output_tokens = request.expected_output_tokens},
               now);
  if (options_.tell_load_changes) {
    Tell({.kind = LoadChange::Kind::kAdded,
          .id = request.id,
          .placement = {.target = chosen.target,
                        .prompt = {waiting.block_hashes, waiting.prompt_tokens},
                        .prefill_tokens = prefill,
                        .expected_output_tokens = request.expected_output_tokens,
                        .session = request.session}});
  }
  for (std::optional<ApproximateIndex>* one : {&approximate_, &predicted_}) {
    if (*one) {
      (*one)->OnRouted(request.id, chosen.number, waiting.block_hashes, now);
    }
  }
  if (sessions_ && !request.session.empty() &&
      sessions_->Begin(request.session, chosen.target, now)) {
    session_of_.emplace(request.id, request.session);
  }
  dispatches_.push_back(
      {.id = request.id,
       .target = chosen.target,
       .overlap_tokens = static_cast<std::uint32_t>(cached),
       .candidates = options_.tells_terms ? candidates_ : std::vector<Candidate>()});
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
  const bool is_elsewhere = elsewhere_.erase(id) > 0;
  if (tracker_.Remove(id)) {
    changed_ = true;
    if (!is_elsewhere) {
      Tell({.kind = LoadChange::Kind::kFreed, .id = id, .placement = {}});
    }
  }
}

void Router::OnFirstToken(RequestId id, rt::Time now) {
  const auto elsewhere = elsewhere_.find(id);
  if (elsewhere != elsewhere_.end()) {
    elsewhere->second.prefill_tokens = 0;
  }
  if (tracker_.OnPrefillDone(id, now)) {
    changed_ = true;
    if (elsewhere == elsewhere_.end()) {
      Tell({.kind = LoadChange::Kind::kPrefilled, .id = id, .placement = {}});
    }
  }
}

void Router::OnTokens(RequestId id, std::uint32_t count, rt::Time now) {
  tracker_.OnTokens(id, count, now);
}

std::vector<Dispatch> Router::TakeDispatches(rt::Time now) {
  if (std::exchange(ranks_came_, false)) {
    CountElsewhere(now);
  }
  for (const RequestId id : tracker_.Expire(now)) {
    if (!elsewhere_.contains(id)) {
      Tell({.kind = LoadChange::Kind::kFreed, .id = id, .placement = {}});
    }
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
      Refuse(next->request.id, somebody.error());
    } else {
      Send(*next, Choose(*next), now);
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

Preview Router::Foresee(const RouteRequest& request, rt::Time now) {
  Preview out{.candidates = {}, .target = Fail(Code::kUnavailable, "nothing is decided")};
  RouteRequest bound = request;
  Bind(bound, now);
  const std::unique_ptr<Waiting> waiting = Prepare(std::move(bound), now);
  Evaluate(*waiting, now);
  out.candidates = candidates_;
  Result<void> somebody = NamesItsWorker(waiting->request);
  somebody = somebody ? SomebodyEligible(waiting->request) : std::move(somebody);
  if (!somebody) {
    out.target = Fail(somebody.error());
    return out;
  }
  const rt::Random random = random_;
  const std::optional<Target> last = last_;
  const Candidate& chosen = Choose(*waiting);
  out.target = chosen.target;
  out.overlap_tokens =
      static_cast<std::uint32_t>(CachedTokens(CostsFor(waiting->request), chosen.input));
  random_ = random;
  last_ = last;
  if (queues()) {
    const std::uint64_t uncached = waiting->prompt_tokens - out.overlap_tokens;
    const PolicyClass& policy_class =
        queue_.policy_class(queue_.ClassOf(waiting->request.policy_class, uncached));
    out.waits = std::ranges::all_of(
        eligible_, [&](const Candidate* one) { return OverThreshold(*one, policy_class); });
  }
  return out;
}

}  // namespace pixii::router
