// The half of Router that others need: what they sent, what this one sent, what is cached where.
#include <utility>

#include "router/router.h"

namespace pixii::router {

std::optional<RankNumber> Router::Find(const Target& target) const {
  const auto found = workers_.find(target.instance);
  if (found == workers_.end()) {
    return std::nullopt;
  }
  const std::uint32_t first = found->second.instance.rank_first;
  if (target.rank < first || target.rank - first >= found->second.numbers.size()) {
    return std::nullopt;
  }
  return found->second.numbers[target.rank - first];
}

bool Router::Count(RequestId id, const Placement& placement, rt::Time now) {
  const std::optional<RankNumber> number = Find(placement.target);
  if (!number) {
    return false;
  }
  tracker_.Add(id, *number,
               {.block_hashes = placement.prompt.block_hashes,
                .prompt_tokens = placement.prompt.token_count,
                .prefill_tokens = placement.prefill_tokens,
                .block_tokens = std::max(block_tokens_, 1U),
                .expected_output_tokens = placement.expected_output_tokens},
               now);
  if (sessions_ && !placement.session.empty() &&
      sessions_->Find(placement.session, now).value_or(placement.target) == placement.target &&
      sessions_->Begin(placement.session, placement.target, now)) {
    session_of_.emplace(id, placement.session);
  }
  return true;
}

bool Router::Place(RequestId id, const Placement& placement, rt::Time now) {
  if (!Count(id, placement, now)) {
    return false;
  }
  for (std::optional<ApproximateIndex>* one : {&approximate_, &predicted_}) {
    if (*one) {
      (*one)->OnRouted(id, *Find(placement.target), placement.prompt.block_hashes, now);
    }
  }
  if (options_.tell_load_changes) {
    Tell({.kind = LoadChange::Kind::kAdded, .id = id, .placement = placement});
  }
  return true;
}

void Router::PlaceElsewhere(RequestId id, Placement placement, rt::Time now) {
  const auto [at, is_new] = elsewhere_.emplace(id, std::move(placement));
  if (is_new) {
    Count(id, at->second, now);
  }
}

// What is not counted yet because its rank was not here.
void Router::CountElsewhere(rt::Time now) {
  for (const auto& [id, placement] : elsewhere_) {
    if (!tracker_.Has(id)) {
      Count(id, placement, now);
    }
  }
}

void Router::Tell(LoadChange change) {
  if (options_.tell_load_changes) {
    load_changes_.push_back(std::move(change));
  }
}

std::vector<LoadChange> Router::TakeLoadChanges() { return std::exchange(load_changes_, {}); }

std::vector<TargetMatch> Router::Matches(const std::vector<std::uint64_t>& block_hashes) {
  std::vector<RankMatch> by_number(rank_count_);
  if (index_) {
    index_->Find(block_hashes, matches_);
    for (const RankMatch& match : matches_.ranks) {
      by_number[static_cast<std::size_t>(match.rank)] = match;
    }
  }
  std::vector<TargetMatch> out;
  for (const auto& [id, worker] : workers_) {
    for (std::uint32_t i = 0; i < worker.numbers.size(); ++i) {
      out.push_back({{id, worker.instance.rank_first + i},
                     by_number[static_cast<std::size_t>(worker.numbers[i])]});
    }
  }
  return out;
}

std::vector<wire::KvEvent> Router::DumpKv(const Target& target) const {
  const std::optional<RankNumber> number = Find(target);
  if (!index_ || !number) {
    return {};
  }
  std::vector<wire::KvEvent> out = index_->Dump(*number);
  for (wire::KvEvent& event : out) {
    event.rank = target.rank;
  }
  return out;
}

}  // namespace pixii::router
