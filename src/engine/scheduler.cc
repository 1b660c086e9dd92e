#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/checked.h"

namespace pixii::engine {

namespace {

/// Of a batch, the part whose successors are near their turn.
constexpr std::uint32_t kNearShare = 8;
constexpr std::size_t kLookahead = 16;  // waiting sequences that are looked at out of order

bool BetterRank(const Sequence* a, const Sequence* b) { return a->rank < b->rank; }

bool WorseRank(const Sequence* a, const Sequence* b) { return b->rank < a->rank; }

template <class Order>
void InsertSorted(std::vector<Sequence*>& list, Sequence& sequence, Order order) {
  list.insert(std::ranges::upper_bound(list, &sequence, order), &sequence);
}

void EraseFrom(std::vector<Sequence*>& list, Sequence& sequence) {
  auto found = std::ranges::find(list, &sequence);
  PX_ASSERT(found != list.end());
  list.erase(found);
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, kv::BlockCache& cache, AdapterStore* adapters)
    : options_(options),
      cache_(cache),
      adapters_(adapters),
      block_tokens_(cache.block_tokens()),
      shares_(options.priority_head_start_tokens),
      output_tokens_x16_(options.output_tokens_forecast * 16) {
  waiting_.reserve(std::size_t{options.queue_length_max} + options.batch_sequences_max);
  running_.reserve(options.batch_sequences_max);
  plan_.reserve(options.batch_sequences_max);
  copies_.reserve(options.host_slots);
  scratch_.reserve(block_tokens_);
  for (std::uint32_t slot = options.host_slots; slot-- > 0;) {
    free_slots_.push_back(slot);
  }
}

Result<void> Scheduler::CheckRoom(std::uint32_t count) const {
  std::uint64_t held = std::uint64_t{running_count()} + queued_count();
  if (held + count > std::uint64_t{options_.queue_length_max} + options_.batch_sequences_max) {
    return Fail(
        Code::kResourceExhausted,
        fmt::format(
            "the engine holds {} sequences and {} more do not fit: queue_length_max is {} beyond a "
            "batch of {}",
            held, count, options_.queue_length_max, options_.batch_sequences_max));
  }
  return {};
}

void Scheduler::Register(Sequence& sequence, const Claim& claim) {
  // Of the prompt nobody knows yet how much is cached; the refund at the end puts it right.
  std::uint32_t prompt =
      claim.shares_prompt ? 1 : static_cast<std::uint32_t>(sequence.prompt.size());
  std::uint32_t output =
      std::min(sequence.tokens_max - std::min(sequence.tokens_max, sequence.token_count()),
               ForecastOutput());
  std::int64_t cost =
      std::int64_t{prompt} + static_cast<std::int64_t>(sequence.generated.size()) + output;
  sequence.ticket = shares_.Enter(claim.tenant, std::max<std::int64_t>(1, cost), claim.priority);
  sequence.rank = {sequence.ticket.rank, claim.order};
}

void Scheduler::Hold(Sequence& sequence) {
  sequence.phase = SequencePhase::kHeld;
  ++held_count_;
}

void Scheduler::Enqueue(Sequence& sequence) {
  if (sequence.phase == SequencePhase::kHeld) {
    --held_count_;
  }
  sequence.phase = SequencePhase::kWaiting;
  sequence.blocked_version = 0;
  sequence.chain_broken = !options_.reuse_blocks || sequence.whole_text || sequence.cold;
  // As far as one allocation is worth saving; whoever grows longer pays for it then.
  std::uint32_t reserve_max = static_cast<std::uint32_t>(sequence.prompt.size()) + 4096;
  std::uint32_t blocks = BlocksFor(std::min(sequence.tokens_max, reserve_max));
  sequence.blocks.reserve(blocks);
  sequence.swapped.slots.reserve(std::min(blocks, options_.host_slots));
  InsertSorted(waiting_, sequence, WorseRank);
}

bool Scheduler::IsNear(const Rank& rank, std::uint32_t others) const {
  const auto better = std::ranges::partition_point(
      waiting_, [&](const Sequence* sequence) { return sequence->rank > rank; });
  const auto ahead = static_cast<std::uint64_t>(waiting_.end() - better) + others;
  return running_.size() + ahead < std::uint64_t{options_.batch_sequences_max} +
                                       options_.batch_sequences_max / kNearShare + 1;
}

void Scheduler::Park(Sequence& sequence) {
  PX_ASSERT(sequence.phase == SequencePhase::kRunning && sequence.in_flight_tokens == 0);
  EraseFrom(running_, sequence);
  ReleaseBlocks(sequence);
  ReleaseSlots(sequence);
  ReleaseSlot(sequence);
  sequence.preempted = true;  // what it finds when it comes back it had computed itself
  Hold(sequence);
}

void Scheduler::Remove(Sequence& sequence) {
  switch (sequence.phase) {
    case SequencePhase::kHeld:
      --held_count_;
      break;
    case SequencePhase::kWaiting:
      EraseFrom(waiting_, sequence);
      break;
    case SequencePhase::kRunning:
      EraseFrom(running_, sequence);
      break;
    case SequencePhase::kEnded:
      return;
  }
  ReleaseBlocks(sequence);
  ReleaseSlots(sequence);
  ReleaseSlot(sequence);
  sequence.phase = SequencePhase::kEnded;
  if (sequence.ticket.account != nullptr) {
    shares_.Leave(sequence.ticket, static_cast<std::int64_t>(sequence.computed_total));
  }
  auto output = static_cast<std::uint32_t>(sequence.generated.size());
  if (output > 0) {
    output_tokens_x16_ = output_tokens_x16_ - output_tokens_x16_ / 16 + output;
  }
}

void Scheduler::Distrust(const Sequence& sequence) {
  for (const kv::BlockPin& pin : sequence.blocks) {
    cache_.Forget(pin);
  }
}

std::span<const Chunk> Scheduler::Plan() {
  ahead_ = false;
  StartPlan();
  PlanDecodes();
  PlanDrafts();
  PlanPrompts();
  PlanAdmissions();
  return plan_;
}

std::span<const Chunk> Scheduler::PlanAhead() {
  ahead_ = true;
  StartPlan();
  PlanDecodes();
  if (ahead_blocked_) {
    plan_.clear();
    return plan_;
  }
  PlanPrompts();
  PlanAdmissions();
  PX_ASSERT(!ahead_blocked_);
  return plan_;
}

void Scheduler::StartPlan() {
  plan_.clear();
  copies_.clear();
  ahead_blocked_ = false;
  tokens_left_ = options_.batch_tokens_max;
  prompt_rows_left_ = options_.prompt_logprob_rows_max;
  ++plan_count_;
}

void Scheduler::PlanDecodes() {
  // By index: making room may take sequences off the end, all of worse rank than this one.
  for (std::size_t i = 0; i < running_.size() && tokens_left_ > 0 && !ahead_blocked_; ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.unplanned_tokens() == 1) {
      AddChunk(sequence);
    }
  }
}

// Guesses behind every planned decode, after all of these have their place. Half of the rows beyond
// one a sequence stay for prompt logprobs, and tokens for a picture that cannot be cut.
void Scheduler::PlanDrafts() {
  std::uint32_t rows_left = prompt_rows_left_ / 2;
  const std::uint32_t held = std::min(tokens_left_, UncutTokens());
  tokens_left_ -= held;
  for (Chunk& chunk : plan_) {
    Sequence& sequence = *chunk.sequence;
    auto wanted = static_cast<std::uint32_t>(sequence.draft.size());
    std::uint32_t end = chunk.begin + chunk.count;
    std::uint32_t room = std::min({wanted, tokens_left_, rows_left});
    if (chunk.sample_rows != 1 || room == 0) {
      continue;
    }
    std::uint32_t guesses = TokensThatFit(sequence, end + room) - end;
    chunk.count += guesses;
    chunk.sample_rows += guesses;
    tokens_left_ -= guesses;
    rows_left -= guesses;
    prompt_rows_left_ -= guesses;
  }
  tokens_left_ += held;
}

// What the first running prompt that needs more than a token at once needs.
std::uint32_t Scheduler::UncutTokens() const {
  for (const Sequence* sequence : running_) {
    if (sequence->media != nullptr && sequence->unplanned_tokens() > 1) {
      const auto begin = static_cast<std::int32_t>(sequence->planned_tokens());
      const auto least = static_cast<std::uint32_t>(sequence->media->ChunkMin(begin));
      if (least > 1) {
        return least;
      }
    }
  }
  return 0;
}

void Scheduler::PlanPrompts() {
  for (std::size_t i = 0; i < running_.size() && tokens_left_ > 0; ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.unplanned_tokens() > 1) {
      TakeFoundBlocks(sequence);
      AddChunk(sequence);
    }
  }
}

void Scheduler::PlanAdmissions() {
  while (!holds_admissions_ && tokens_left_ > 0 && running_.size() < options_.batch_sequences_max) {
    Sequence* sequence = NextWaiting();
    // Who does not fit is not overtaken for ever by smaller ones: everybody waits with it.
    if (sequence == nullptr || (sequence->whole_text && sequence->token_count() > tokens_left_) ||
        !Admit(*sequence)) {
      return;
    }
    TakeSlot(*sequence);
    EraseFrom(waiting_, *sequence);
    sequence->phase = SequencePhase::kRunning;
    InsertSorted(running_, *sequence, BetterRank);
    if (sequence->ticket.account != nullptr) {
      shares_.Admitted(sequence->ticket);
    }
    AddChunk(*sequence);
  }
}

// The first in rank, but for those that wait for a prefix; while blocks are short, the first whose
// prefix is cached, before it is evicted.
Sequence* Scheduler::NextWaiting() {
  Sequence* first = nullptr;
  std::size_t window = std::min(waiting_.size(), kLookahead);
  for (std::size_t i = 0; i < window; ++i) {
    Sequence& sequence = *waiting_[waiting_.size() - 1 - i];
    if (WaitsForPrefix(sequence)) {
      continue;
    }
    if (WaitsForSlot(sequence)) {
      if (sequence.overtaken >= kOvertakesMax) {
        break;
      }
      continue;
    }
    if (first == nullptr) {
      first = &sequence;
      bool short_of_blocks = cache_.pool().free_count() < BlocksFor(first->token_count());
      if (!short_of_blocks || !first->swapped.slots.empty() || HasCachedPrefix(*first)) {
        return first;
      }
    } else if (HasCachedPrefix(sequence)) {
      for (std::size_t k = 0; k < i; ++k) {
        ++waiting_[waiting_.size() - 1 - k]->overtaken;
      }
      return &sequence;
    }
    if (sequence.overtaken >= kOvertakesMax) {
      break;
    }
  }
  return first;
}

bool Scheduler::WaitsForSlot(const Sequence& sequence) const {
  return adapters_ != nullptr && !adapters_->HasSlotFor(sequence.adapter);
}

// `sequence` is admitted: whoever stands before it for want of a slot has been passed once more.
void Scheduler::TakeSlot(Sequence& sequence) {
  for (std::size_t i = waiting_.size();
       adapters_ != nullptr && i-- > 0 && waiting_[i] != &sequence;) {
    waiting_[i]->overtaken += WaitsForSlot(*waiting_[i]) ? 1 : 0;
  }
  if (sequence.adapter != nullptr) {
    adapters_->Acquire(*sequence.adapter);
    sequence.holds_slot = true;
  }
}

void Scheduler::ReleaseSlot(Sequence& sequence) {
  if (std::exchange(sequence.holds_slot, false)) {
    adapters_->Release(*sequence.adapter);
  }
}

bool Scheduler::WaitsForPrefix(Sequence& sequence) {
  if (sequence.prefix_waits >= options_.prefix_wait_plans_max || !sequence.swapped.slots.empty() ||
      std::ranges::none_of(
          running_, [&](const Sequence* other) { return SharesComingBlock(sequence, *other); })) {
    return false;
  }
  if (sequence.prefix_wait_plan != plan_count_) {
    sequence.prefix_wait_plan = plan_count_;
    ++sequence.prefix_waits;
    ++counters_.prefix_waits;
  }
  return true;
}

// Whether `other` has the tokens of a block that `sequence` could use, but has not computed it yet.
bool Scheduler::SharesComingBlock(const Sequence& sequence, const Sequence& other) const {
  if (other.chain_broken || other.prompt.size() / block_tokens_ <= other.chain_blocks ||
      other.chain.root->hash != sequence.chain.root->hash) {
    return false;
  }
  std::uint32_t needed = (other.chain_blocks + 1) * block_tokens_;
  return needed <= HitTokensMax(sequence) && needed <= sequence.prompt.size() &&
         std::ranges::equal(sequence.prompt.first(needed), other.prompt.first(needed));
}

bool Scheduler::HasCachedPrefix(const Sequence& sequence) {
  if (!options_.reuse_blocks || HitTokensMax(sequence) < block_tokens_) {
    return false;
  }
  kv::ChainPosition position = kv::StartOf(sequence.chain.root);
  return static_cast<bool>(cache_.Find(position, sequence.tokens(0, block_tokens_, scratch_)));
}

bool Scheduler::AddChunk(Sequence& sequence) {
  Chunk chunk;
  chunk.sequence = &sequence;
  chunk.begin = sequence.planned_tokens();
  chunk.count = std::min(sequence.unplanned_tokens(), tokens_left_);
  std::uint32_t rows_begin = std::max(sequence.prompt_rows_done, chunk.begin);
  if (rows_begin < sequence.prompt_rows_end) {
    std::uint32_t rows_end = std::min(
        {sequence.prompt_rows_end, chunk.begin + chunk.count, rows_begin + prompt_rows_left_});
    if (rows_end < sequence.prompt_rows_end) {
      // Compute no row whose logits this step has no place for.
      chunk.count = std::min(chunk.count, std::max(rows_end, rows_begin) - chunk.begin);
    }
    chunk.prompt_rows_begin = rows_begin;
    chunk.prompt_rows_count = std::max(rows_end, rows_begin) - rows_begin;
  }
  if (sequence.media != nullptr) {
    const auto begin = static_cast<std::int32_t>(chunk.begin);
    const auto end = begin + static_cast<std::int32_t>(chunk.count);
    chunk.count = static_cast<std::uint32_t>(sequence.media->ChunkEnd(begin, end) - begin);
  }
  if (chunk.count == 0 || (sequence.whole_text && chunk.count < sequence.unplanned_tokens()) ||
      !Reserve(sequence, chunk.begin + chunk.count)) {
    return false;
  }
  bool is_last = chunk.begin + chunk.count == sequence.expected_tokens();
  chunk.sample_rows = is_last && sequence.wants_last ? 1 : 0;
  tokens_left_ -= chunk.count;
  prompt_rows_left_ -= chunk.prompt_rows_count;
  plan_.push_back(chunk);
  return true;
}

void Scheduler::Unplan(const Sequence& sequence) {
  auto found =
      std::ranges::find(plan_, &sequence, [](const Chunk& chunk) { return chunk.sequence; });
  if (found != plan_.end()) {
    tokens_left_ += found->count;
    prompt_rows_left_ += found->prompt_rows_count + found->draft_count();
    plan_.erase(found);
  }
}

void Scheduler::Launch(const Chunk& chunk) {
  chunk.sequence->in_flight_tokens = chunk.count;
  chunk.sequence->in_flight_samples = chunk.sample_rows;
}

void Scheduler::Land(const Chunk& chunk) {
  chunk.sequence->in_flight_tokens = 0;
  chunk.sequence->in_flight_samples = 0;
}

void Scheduler::CheckInvariants() const {
  PX_ASSERT(std::ranges::is_sorted(waiting_, WorseRank));
  PX_ASSERT(std::ranges::is_sorted(running_, BetterRank));
  PX_ASSERT(running_.size() <= options_.batch_sequences_max);
  std::size_t slots = free_slots_.size();
  for (const Sequence* sequence : waiting_) {
    PX_ASSERT(sequence->phase == SequencePhase::kWaiting && sequence->blocks.empty() &&
              sequence->computed_tokens == 0);
    PX_ASSERT(sequence->swapped.slots.size() == BlocksFor(sequence->swapped.tokens));
    slots += sequence->swapped.slots.size();
  }
  for (const Sequence* sequence : running_) {
    slots += sequence->swapped.slots.size();
    PX_ASSERT(sequence->phase == SequencePhase::kRunning);
    PX_ASSERT(sequence->holds_slot == (sequence->adapter != nullptr));
    PX_ASSERT(sequence->computed_tokens < sequence->token_count());
    PX_ASSERT(sequence->blocks.size() >= BlocksFor(sequence->planned_tokens()));
    for (const kv::BlockPin& pin : sequence->blocks) {
      PX_ASSERT(pin && cache_.pool().IsCurrent(pin.ref()));
    }
    for (std::size_t i = sequence->chain_blocks; i < sequence->blocks.size(); ++i) {
      PX_ASSERT(cache_.pool().pins(sequence->blocks[i].id()) == 1);  // it will be written
    }
  }
  PX_ASSERT(slots == options_.host_slots);
}

}  // namespace pixii::engine
