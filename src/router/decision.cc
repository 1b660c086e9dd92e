// The half of Router that judges ranks and chooses one.
#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "router/router.h"

namespace pixii::router {

std::string_view StandingName(Standing standing) {
  switch (standing) {
    case Standing::kEligible:
      return "eligible";
    case Standing::kDraining:
      return "draining";
    case Standing::kNotPinned:
      return "not_pinned";
    case Standing::kExcluded:
      return "excluded";
    case Standing::kTaint:
      return "taint";
    case Standing::kBusy:
      return "busy";
    case Standing::kOverloaded:
      return "overloaded";
  }
  return "unknown";
}

CostOptions Router::CostsFor(const RouteRequest& request) const {
  CostOptions out = options_.cost;
  const RouteOverride& instead = request.instead;
  out.overlap_credit = instead.overlap_credit.value_or(out.overlap_credit);
  out.prefill_load_scale = instead.prefill_load_scale.value_or(out.prefill_load_scale);
  out.track_prefill_tokens = instead.track_prefill_tokens.value_or(out.track_prefill_tokens);
  out.shared_cache_multiplier =
      instead.shared_cache_multiplier.value_or(out.shared_cache_multiplier);
  return out;
}

// What each rank has of the prompt: stored, predicted, and in use.
void Router::FindOverlaps(const Waiting& waiting, rt::Time now) {
  overlaps_.assign(rank_count_, {});
  overlapping_.clear();
  shared_ = 0;
  if (waiting.block_hashes.empty()) {
    return;
  }
  const auto take_most = [&] {
    for (const RankMatch& match : matches_.ranks) {
      RankMatch& known = overlaps_[static_cast<std::size_t>(match.rank)].match;
      known.device = std::max(known.device, match.device);
      known.host = std::max(known.host, match.host);
      known.disk = std::max(known.disk, match.disk);
      overlapping_.push_back(match.rank);
    }
  };
  if (index_) {
    index_->Find(waiting.block_hashes, matches_);
    shared_ = matches_.shared;
    take_most();
  }
  for (std::optional<ApproximateIndex>* one : {&approximate_, &predicted_}) {
    if (*one) {
      (*one)->Find(waiting.block_hashes, now, matches_);
      take_most();
    }
  }
  if (options_.track_active_blocks &&
      waiting.request.instead.assume_kv_reuse.value_or(options_.assume_kv_reuse)) {
    tracker_.FindActive(waiting.block_hashes, matches_);
    for (const RankMatch& match : matches_.ranks) {
      overlaps_[static_cast<std::size_t>(match.rank)].active = match.device;
      overlapping_.push_back(match.rank);
    }
    if (options_.credit_coming_blocks) {
      for (RankMatch& match : matches_.ranks) {
        match.host = match.disk = match.device;
      }
      take_most();
    }
  }
}

// What it costs everybody if a block of the prompt is computed once more: less, the more requests
// will use the copy.
void Router::SetPrices(const Waiting& waiting) {
  tracker_.FindUses(waiting.block_hashes, uses_);
  prices_.assign(1, 0.0);
  for (const std::uint32_t uses : uses_) {
    prices_.push_back(prices_.back() + 1.0 / (1 + uses));
  }
}

// Of the prompt's first blocks. Pre: SetPrices.
double Router::PriceOf(std::size_t blocks) const {
  const std::size_t used = std::min(blocks, uses_.size());
  return prices_[used] + static_cast<double>(blocks - used);
}

bool Router::limits_load() const {
  return options_.active_decode_blocks_threshold || options_.active_prefill_tokens_threshold ||
         options_.active_prefill_tokens_threshold_frac;
}

void Router::MakeRows() {
  rows_.clear();
  row_of_number_.resize(rank_count_);
  rows_plain_ = true;
  for (auto& [id, worker] : workers_) {
    for (std::size_t i = 0; i < worker.numbers.size(); ++i) {
      rows_.push_back({{id, worker.instance.rank_first + static_cast<std::uint32_t>(i)},
                       worker.numbers[i],
                       &worker,
                       !worker.instance.draining &&
                           worker.loads[i].state == wire::WorkerState::kAwake &&
                           worker.overloaded_until == rt::Time{}});
      rows_plain_ = rows_plain_ && rows_.back().plain;
      row_of_number_[static_cast<std::size_t>(worker.numbers[i])] =
          static_cast<std::uint32_t>(rows_.size() - 1);
    }
  }
  rows_stale_ = false;
}

bool Router::IsBusy(const Worker& worker) const {
  if (!limits_load()) {
    return false;
  }
  const wire::ModelCard& card = worker.instance.card;
  for (std::size_t i = 0; i < worker.numbers.size(); ++i) {
    const RankLoad& load = tracker_.load(worker.numbers[i]);
    // What the worker says it uses is the truth, if it came already.
    const double blocks = std::max<double>(load.blocks(), worker.loads[i].blocks_used);
    const auto tokens = static_cast<double>(load.prefill_tokens);
    const bool busy =
        (options_.active_decode_blocks_threshold && card.block_count > 0 &&
         blocks > *options_.active_decode_blocks_threshold * card.block_count) ||
        (options_.active_prefill_tokens_threshold &&
         load.prefill_tokens > *options_.active_prefill_tokens_threshold) ||
        (options_.active_prefill_tokens_threshold_frac &&
         tokens > *options_.active_prefill_tokens_threshold_frac * card.batch_tokens_max);
    if (!busy) {
      return false;
    }
  }
  return true;
}

Standing Router::StandingOf(const Worker& worker, std::uint32_t rank, const Waiting& waiting,
                            rt::Time now) const {
  const RouteRequest& request = waiting.request;
  const InstanceId id = worker.instance.id;
  const std::size_t index = rank - worker.instance.rank_first;
  if ((request.pinned && *request.pinned != id) || (request.rank && *request.rank != rank)) {
    return Standing::kNotPinned;
  }
  if (std::ranges::find(request.excluded, id) != request.excluded.end()) {
    return Standing::kExcluded;
  }
  if (worker.instance.draining || worker.loads[index].state != wire::WorkerState::kAwake) {
    return Standing::kDraining;
  }
  const std::vector<std::string>& taints = worker.instance.taints;
  for (const std::string& taint : request.required_taints) {
    if (std::ranges::find(taints, taint) == taints.end()) {
      return Standing::kTaint;
    }
  }
  if (now < worker.overloaded_until) {
    return Standing::kOverloaded;
  }
  return worker.busy ? Standing::kBusy : Standing::kEligible;
}

Router::Question Router::QuestionOf(const Waiting& waiting) const {
  const std::uint32_t block_tokens = std::max(block_tokens_, 1U);
  return {.waiting = waiting,
          .costs = CostsFor(waiting.request),
          .block_tokens = block_tokens,
          .blocks = static_cast<std::uint32_t>((waiting.prompt_tokens + block_tokens - 1) /
                                               block_tokens)};
}

// All but the least load of any rank. Pre: FindOverlaps, in kv mode.
CostInput Router::InputOf(const Row& row, const Question& question) const {
  const RankLoad& load = tracker_.load(row.number);
  CostInput out{.block_tokens = question.block_tokens,
                .prompt_tokens = question.waiting.prompt_tokens,
                .active_prefill_tokens = load.prefill_tokens,
                .active_decode_blocks = load.blocks(),
                .active_requests = load.requests};
  if (!kv_mode()) {
    return out;
  }
  const Overlap& overlap = overlaps_[static_cast<std::size_t>(row.number)];
  out.device_blocks = overlap.match.device;
  out.host_blocks = overlap.match.host - overlap.match.device;
  out.disk_blocks = overlap.match.disk - overlap.match.host;
  out.shared_blocks = shared_;
  if (question.costs.recompute_weight > 0) {
    const std::size_t blocks = question.waiting.block_hashes.size();
    const std::uint32_t shared = question.costs.shared_cache_multiplier > 0 ? shared_ : 0;
    out.prompt_price = PriceOf(blocks);
    out.held_price = PriceOf(std::min<std::size_t>(std::max(overlap.match.disk, shared), blocks));
  }
  out.added_decode_blocks = options_.track_active_blocks ? question.blocks - overlap.active : 0;
  for (const PreferredTaint& taint : question.waiting.request.preferred_taints) {
    const std::vector<std::string>& has = row.worker->instance.taints;
    out.preferred_taints += std::ranges::find(has, taint.taint) != has.end() ? taint.weight : 0;
  }
  return out;
}

// Fills candidates_ (every rank) and eligible_, both in the order of targets.
void Router::Evaluate(const Waiting& waiting, rt::Time now) {
  const bool scored = kv_mode();
  if (scored) {
    FindOverlaps(waiting, now);
    SetPrices(waiting);
    EndStage(RouteStage::kMatched);
  }
  if (rows_stale_) {
    MakeRows();
  }
  if (limits_load()) {
    for (auto& [id, worker] : workers_) {
      worker.busy = IsBusy(worker);
    }
  }
  const RouteRequest& request = waiting.request;
  const bool is_plain = !limits_load() && !request.pinned && !request.rank &&
                        request.excluded.empty() && request.required_taints.empty();
  candidates_.resize(rows_.size());
  eligible_.clear();
  std::uint64_t least = ~std::uint64_t{0};
  const Question question = QuestionOf(waiting);
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const Row& row = rows_[i];
    Candidate& one = candidates_[i];
    one.number = row.number;
    one.target = row.target;
    one.standing = is_plain && row.plain ? Standing::kEligible
                                         : StandingOf(*row.worker, row.target.rank, waiting, now);
    one.input = InputOf(row, question);
    if (one.standing == Standing::kEligible) {
      least = std::min(least, one.input.active_prefill_tokens);
    }
  }
  for (Candidate& one : candidates_) {
    one.input.active_prefill_tokens_least = least;
    if (scored) {
      one.terms = CostOf(question.costs, one.input);
    }
    if (one.standing == Standing::kEligible) {
      eligible_.push_back(&one);
    }
  }
}

// Whether any rank may take the request and its cost is that of ChoosePlain: so it is for nearly
// all requests of a fleet that is well.
bool Router::IsPlain(const RouteRequest& request) {
  if (rows_stale_) {
    MakeRows();
  }
  const CostOptions& costs = options_.cost;
  return kv_mode() && rows_plain_ && !rows_.empty() && !queues() && !limits_load() &&
         !options_.tells_terms && !request.pinned && !request.rank && request.excluded.empty() &&
         request.required_taints.empty() && request.preferred_taints.empty() &&
         costs.overlap_credit_decay == 0 && costs.policy == SelectionPolicy::kCost &&
         !costs.decode_pool;
}

// What Evaluate and Choose give, without a candidate for each of thousands of ranks: most have
// nothing of the prompt, and differ in their loads alone. Pre: IsPlain.
Candidate Router::ChoosePlain(const Waiting& waiting, rt::Time now) {
  FindOverlaps(waiting, now);
  SetPrices(waiting);
  const Question question = QuestionOf(waiting);
  const CostOptions& costs = question.costs;
  const auto block_tokens = static_cast<double>(question.block_tokens);
  const double added = options_.track_active_blocks ? question.blocks : 0;
  const double recompute = costs.recompute_weight > 0
                               ? costs.recompute_weight * PriceOf(waiting.block_hashes.size())
                               : 0;
  costs_.resize(rows_.size());
  if (shared_ == 0) {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const RankLoad& load = tracker_.load(rows_[i].number);
      const double prefill =
          costs.track_prefill_tokens
              ? static_cast<double>(load.prefill_tokens + waiting.prompt_tokens) / block_tokens +
                    recompute
              : 0;
      costs_[i] = costs.prefill_load_scale * prefill + (load.blocks() + added) +
                  costs.active_request_weight * load.requests;
    }
    for (const RankNumber number : overlapping_) {
      const std::size_t row = row_of_number_[static_cast<std::size_t>(number)];
      costs_[row] = CostOf(costs, InputOf(rows_[row], question)).cost;
    }
  } else {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      costs_[i] = CostOf(costs, InputOf(rows_[i], question)).cost;
    }
  }
  const double temperature = waiting.request.instead.temperature.value_or(options_.temperature);
  const Row& row = rows_[PickByCost(costs_, temperature, random_)];
  Candidate out;
  out.target = row.target;
  out.number = row.number;
  out.input = InputOf(row, question);
  return out;
}

Result<void> Router::SomebodyEligible(const RouteRequest& request) const {
  if (!eligible_.empty()) {
    return {};
  }
  if (const bool is_there = !request.pinned || workers_.contains(*request.pinned);
      request.rank && is_there && !candidates_.empty() &&
      std::ranges::none_of(candidates_, [&](const Candidate& one) {
        return one.target.rank == *request.rank &&
               (!request.pinned || one.target.instance == *request.pinned);
      })) {
    return Fail(Code::kInvalidArgument,
                request.pinned
                    ? fmt::format("worker {} has no rank {}", Raw(*request.pinned), *request.rank)
                    : fmt::format("no worker has a rank {}", *request.rank),
                "dp_rank");
  }
  const auto is_full = [](const Candidate& one) {
    return one.standing == Standing::kBusy || one.standing == Standing::kOverloaded;
  };
  if (std::ranges::any_of(candidates_, is_full)) {
    return Fail(Code::kResourceExhausted,
                request.pinned ? fmt::format("worker {} is busy", Raw(*request.pinned))
                               : "every worker that may take the request is busy");
  }
  return Fail(Code::kUnavailable,
              request.pinned
                  ? fmt::format("worker {} cannot take the request", Raw(*request.pinned))
                  : fmt::format("none of {} workers may take the request", workers_.size()));
}

bool Router::OverThreshold(const Candidate& candidate, const PolicyClass& policy_class) const {
  const std::uint64_t tokens = candidate.input.active_prefill_tokens;
  if (policy_class.prefill_busy_tokens && tokens > *policy_class.prefill_busy_tokens) {
    return true;
  }
  const std::optional<double> fraction = policy_class.prefill_busy_fraction
                                             ? policy_class.prefill_busy_fraction
                                             : options_.queue_threshold;
  const std::uint32_t batch = workers_.at(candidate.target.instance).instance.card.batch_tokens_max;
  return fraction && static_cast<double>(tokens) > *fraction * batch;
}

// Also if it can go nowhere ever: then it fails.
bool Router::CanGo(const Waiting& waiting, const PolicyClass& policy_class, rt::Time now) {
  Evaluate(waiting, now);
  const Result<void> somebody = SomebodyEligible(waiting.request);
  if (!somebody) {
    return somebody.error().code() != Code::kResourceExhausted;
  }
  return std::ranges::any_of(
      eligible_, [&](const Candidate* one) { return !OverThreshold(*one, policy_class); });
}

const Candidate& Router::NextInCycle(const std::vector<const Candidate*>& candidates) {
  // Sorted by target: the first one behind the last one that was taken.
  const auto next = std::ranges::find_if(
      candidates, [&](const Candidate* one) { return !last_ || one->target > *last_; });
  const Candidate& out = next == candidates.end() ? *candidates.front() : **next;
  last_ = out.target;
  return out;
}

// Pre: somebody is eligible.
const Candidate& Router::Choose(const Waiting& waiting) {
  PX_ASSERT(!eligible_.empty());
  const auto requests = [](const Candidate* one) { return one->input.active_requests; };
  costs_.clear();
  switch (options_.mode) {
    case RouterMode::kRoundRobin:
    case RouterMode::kDirect:
      return NextInCycle(eligible_);
    case RouterMode::kRandom:
      return *eligible_[random_.Below(eligible_.size())];
    case RouterMode::kPowerOfTwo: {
      const std::size_t first = random_.Below(eligible_.size());
      if (eligible_.size() == 1) {
        return *eligible_[0];
      }
      std::size_t second = random_.Below(eligible_.size() - 1);
      second += second >= first ? 1 : 0;
      const bool other = requests(eligible_[second]) < requests(eligible_[first]);
      return *eligible_[other ? second : first];
    }
    case RouterMode::kLeastLoaded:
      std::ranges::transform(eligible_, std::back_inserter(costs_), requests);
      return *eligible_[PickByCost(costs_, 0, random_)];
    case RouterMode::kKv:
      break;
  }
  std::ranges::transform(eligible_, std::back_inserter(costs_),
                         [](const Candidate* one) { return one->terms.cost; });
  const double temperature = waiting.request.instead.temperature.value_or(options_.temperature);
  return *eligible_[PickByCost(costs_, temperature, random_)];
}

}  // namespace pixii::router
