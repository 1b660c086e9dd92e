#include "kv/handover.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/assert.h"

namespace pixii::kv {

const char* NameOf(HandoverState state) {
  static constexpr std::array<const char*, kHandoverStateCount> kNames = {
      "offered", "claimed", "moving", "done", "failed", "expired", "cancelled"};
  return kNames[static_cast<std::size_t>(state)];
}

bool OfferTable::Offer(const Hash128& transfer, rt::Time lease_ends) {
  if (offers_.size() >= offers_max_) {
    return false;
  }
  const auto [one, is_new] = offers_.try_emplace(transfer);
  PX_ASSERT(is_new);
  one->second.lease = leases_.emplace(lease_ends, transfer);
  return true;
}

void OfferTable::Renew(const Hash128& transfer, rt::Time lease_ends) {
  One& one = offers_.at(transfer);
  leases_.erase(one.lease);
  one.lease = leases_.emplace(lease_ends, transfer);
}

void OfferTable::OnClaim(const Hash128& transfer) {
  if (const auto found = offers_.find(transfer); found != offers_.end()) {
    found->second.state = HandoverState::kClaimed;
  }
}

void OfferTable::OnRelease(const Hash128& transfer, bool done) {
  Finish(transfer, done ? HandoverState::kDone : HandoverState::kFailed);
}

void OfferTable::Cancel(const Hash128& transfer) { Finish(transfer, HandoverState::kCancelled); }

void OfferTable::OnTime(rt::Time now) {
  while (!leases_.empty() && leases_.begin()->first <= now) {
    Finish(Hash128(leases_.begin()->second), HandoverState::kExpired);
  }
}

bool OfferTable::ExpireOne(const Hash128& newest) {
  for (const auto& [ends, transfer] : leases_) {
    if (transfer != newest && offers_.at(transfer).state == HandoverState::kOffered) {
      Finish(Hash128(transfer), HandoverState::kExpired);
      return true;
    }
  }
  return false;
}

// What comes twice, or after the end, changes nothing.
void OfferTable::Finish(const Hash128& transfer, HandoverState state) {
  const auto found = offers_.find(transfer);
  if (found == offers_.end()) {
    return;
  }
  leases_.erase(found->second.lease);
  offers_.erase(found);
  ended_.push_back({.transfer = transfer, .state = state});
}

void FetchTable::Begin(LoadId load, Size size, rt::Time deadline) {
  PX_ASSERT(size.block_count > 0);
  const auto [one, is_new] = loads_.try_emplace(load);
  PX_ASSERT(is_new);
  one->second.block_count = size.block_count;
  OnMore(load, size.available, deadline);
}

void FetchTable::OnMore(LoadId load, std::uint32_t available, rt::Time deadline) {
  const auto found = loads_.find(load);
  if (found == loads_.end() || IsEnd(found->second.state)) {
    return;
  }
  One& one = found->second;
  PX_ASSERT(available <= one.block_count);
  one.deadline = deadline;
  const bool had_turn = one.posted < one.available;
  one.available = std::max(one.available, available);
  if (!had_turn && one.posted < one.available) {
    turns_.push_back(load);
  }
}

void FetchTable::Fail(LoadId load, Error error) {
  if (const auto found = loads_.find(load); found != loads_.end()) {
    Stop(load, found->second, HandoverState::kFailed, std::move(error));
    EndIfQuiet(load);
  }
}

void FetchTable::OnChunk(LoadId load, std::uint32_t first, std::uint32_t proven,
                         const std::optional<Error>& error) {
  const auto found = loads_.find(load);
  PX_ASSERT(found != loads_.end());
  One& one = found->second;
  const auto chunk = one.running.find(first);
  PX_ASSERT(chunk != one.running.end() && proven <= chunk->second);
  if (proven > 0) {
    one.proven.emplace(first, proven);
  }
  const bool whole = proven == chunk->second;
  one.running.erase(chunk);
  --running_;
  if (!whole) {
    Stop(load, one, HandoverState::kFailed,
         error.value_or(Error(Code::kDataCorrupt, "a block is not what was handed over")));
  }
  EndIfQuiet(load);
}

void FetchTable::Cancel(LoadId load) {
  if (const auto found = loads_.find(load); found != loads_.end()) {
    Stop(load, found->second, HandoverState::kCancelled,
         Error(Code::kCancelled, "nobody waits for the blocks any more"));
    EndIfQuiet(load);
  }
}

void FetchTable::OnTime(rt::Time now) {
  std::vector<LoadId> late;
  for (const auto& [load, one] : loads_) {
    if (one.deadline <= now && !IsEnd(one.state)) {
      late.push_back(load);
    }
  }
  for (const LoadId load : late) {
    Stop(load, loads_.at(load), HandoverState::kExpired,
         Error(Code::kDeadlineExceeded, "the blocks did not come in time"));
    EndIfQuiet(load);
  }
}

// The first reason counts.
void FetchTable::Stop(LoadId load, One& one, HandoverState state, Error error) {
  if (IsEnd(one.state)) {
    return;
  }
  one.state = state;
  one.error = std::move(error);
  std::erase(turns_, load);
  if (!one.running.empty()) {
    actions_.push_back({.kind = Action::Kind::kCancel, .load = load, .error = {}});
  }
}

std::uint32_t FetchTable::PrefixOf(const One& one) {
  std::uint32_t blocks = 0;
  for (const auto& [first, count] : one.proven) {
    if (first != blocks) {
      break;
    }
    blocks += count;
  }
  return blocks;
}

void FetchTable::EndIfQuiet(LoadId load) {
  const One& one = loads_.at(load);
  const bool all = one.posted == one.block_count;
  if (!one.running.empty() || (!IsEnd(one.state) && !all)) {
    return;
  }
  actions_.push_back({.kind = Action::Kind::kEnd,
                      .load = load,
                      .count = PrefixOf(one),
                      .state = IsEnd(one.state) ? one.state : HandoverState::kDone,
                      .error = one.error});
  loads_.erase(load);
}

std::vector<FetchTable::Action> FetchTable::TakeActions() {
  std::size_t waiting = turns_.size();  // that could not take their turn in a row
  while (running_ < options_.chunks_together && waiting > 0) {
    const LoadId load = turns_.front();
    turns_.pop_front();
    One& one = loads_.at(load);
    if (one.running.size() >= options_.chunks_running) {
      turns_.push_back(load);
      --waiting;
      continue;
    }
    const std::uint32_t first = one.posted;
    const std::uint32_t count = std::min(options_.chunk_blocks, one.available - first);
    one.posted += count;
    one.running.emplace(first, count);
    one.state = HandoverState::kMoving;
    ++running_;
    actions_.push_back(
        {.kind = Action::Kind::kPost, .load = load, .first = first, .count = count, .error = {}});
    if (one.posted < one.available) {
      turns_.push_back(load);
    }
    waiting = turns_.size();
  }
  return std::exchange(actions_, {});
}

rt::Time FetchTable::next_time() const {
  rt::Time out = rt::kNever;
  for (const auto& [load, one] : loads_) {
    if (!IsEnd(one.state)) {
      out = std::min(out, one.deadline);
    }
  }
  return out;
}

}  // namespace pixii::kv
