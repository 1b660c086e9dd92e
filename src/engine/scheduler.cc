#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/checked.h"

namespace pixii::engine {

namespace {

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

Scheduler::Scheduler(const SchedulerOptions& options, kv::BlockCache& cache)
    : options_(options), cache_(cache), block_tokens_(cache.block_tokens()) {
  waiting_.reserve(std::size_t{options.queue_length_max} + options.batch_sequences_max);
  running_.reserve(options.batch_sequences_max);
  plan_.reserve(options.batch_sequences_max);
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
  InsertSorted(waiting_, sequence, WorseRank);
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
  sequence.phase = SequencePhase::kEnded;
}

void Scheduler::Distrust(const Sequence& sequence) {
  for (const kv::BlockPin& pin : sequence.blocks) {
    cache_.Forget(pin);
  }
}

std::span<const Chunk> Scheduler::Plan() {
  plan_.clear();
  tokens_left_ = options_.batch_tokens_max;
  prompt_rows_left_ = options_.prompt_logprob_rows_max;
  PlanDecodes();
  PlanPrompts();
  PlanAdmissions();
  return plan_;
}

void Scheduler::PlanDecodes() {
  // By index: making room may take sequences off the end, all of worse rank than this one.
  for (std::size_t i = 0; i < running_.size() && tokens_left_ > 0; ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.uncomputed_tokens() == 1) {
      AddChunk(sequence);
    }
  }
}

void Scheduler::PlanPrompts() {
  for (std::size_t i = 0; i < running_.size() && tokens_left_ > 0; ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.uncomputed_tokens() > 1) {
      TakeFoundBlocks(sequence);
      AddChunk(sequence);
    }
  }
}

void Scheduler::PlanAdmissions() {
  // Strictly in order: a large sequence at the head is not overtaken for ever by small ones.
  while (!waiting_.empty() && tokens_left_ > 0 && running_.size() < options_.batch_sequences_max) {
    Sequence& sequence = *waiting_.back();
    if (!Admit(sequence)) {
      return;
    }
    waiting_.pop_back();
    sequence.phase = SequencePhase::kRunning;
    InsertSorted(running_, sequence, BetterRank);
    AddChunk(sequence);
  }
}

// Takes found and new blocks for all its tokens, or none.
bool Scheduler::Admit(Sequence& sequence) {
  if (sequence.blocked_version == version_ && !running_.empty()) {
    return false;
  }
  std::uint64_t cached_before = counters_.cached_tokens;
  TakeFoundBlocks(sequence);
  std::uint32_t missing =
      BlocksFor(sequence.token_count()) - static_cast<std::uint32_t>(sequence.blocks.size());
  if (missing + Headroom() > cache_.available_count()) {
    ReleaseBlocks(sequence);
    counters_.cached_tokens = cached_before;
    sequence.cached_tokens = sequence.preempted ? sequence.cached_tokens : 0;
    sequence.blocked_version = version_;
    // With nobody running every block is available, and Engine::Submit refused what cannot fit.
    PX_ASSERT(!running_.empty());
    return false;
  }
  while (missing-- > 0) {
    sequence.blocks.push_back(std::move(*cache_.Allocate()));
  }
  return true;
}

// Blocks kept for the growth of those that run, so that a new sequence is not preempted at once.
std::uint32_t Scheduler::Headroom() const {
  return running_.empty() ? 0 : 1 + cache_.pool().block_count() / 100;
}

bool Scheduler::AddChunk(Sequence& sequence) {
  Chunk chunk;
  chunk.sequence = &sequence;
  chunk.begin = sequence.computed_tokens;
  chunk.count = std::min(sequence.uncomputed_tokens(), tokens_left_);
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
  if (chunk.count == 0 || !Reserve(sequence, chunk.begin + chunk.count)) {
    return false;
  }
  chunk.samples = chunk.begin + chunk.count == sequence.token_count();
  tokens_left_ -= chunk.count;
  prompt_rows_left_ -= chunk.prompt_rows_count;
  plan_.push_back(chunk);
  return true;
}

// Makes blocks for the first `tokens` tokens. False: none is left and all who run have better rank;
// it waits its turn.
bool Scheduler::Reserve(Sequence& sequence, std::uint32_t tokens) {
  while (sequence.blocks.size() < BlocksFor(tokens)) {
    if (std::optional<kv::BlockPin> pin = cache_.Allocate()) {
      sequence.blocks.push_back(std::move(*pin));
      continue;
    }
    Sequence& victim = *running_.back();
    if (&victim == &sequence) {
      return false;
    }
    Preempt(victim);
  }
  return true;
}

void Scheduler::Preempt(Sequence& victim) {
  Unplan(victim);
  running_.pop_back();
  ReleaseBlocks(victim);
  victim.preempted = true;
  ++counters_.preemptions;
  victim.phase = SequencePhase::kWaiting;
  // Its rank puts it before all that came later.
  InsertSorted(waiting_, victim, WorseRank);
}

void Scheduler::Unplan(const Sequence& sequence) {
  auto found =
      std::ranges::find(plan_, &sequence, [](const Chunk& chunk) { return chunk.sequence; });
  if (found != plan_.end()) {
    tokens_left_ += found->count;
    prompt_rows_left_ += found->prompt_rows_count;
    plan_.erase(found);
  }
}

// Last block first: the end of a prefix is evicted before its beginning, without which it could not
// be found.
void Scheduler::ReleaseBlocks(Sequence& sequence) {
  if (!sequence.blocks.empty()) {
    ++version_;
  }
  while (!sequence.blocks.empty()) {
    sequence.blocks.pop_back();
  }
  sequence.computed_tokens = 0;
  sequence.chain = kv::StartOf(std::move(sequence.chain.root));
  sequence.chain_blocks = 0;
  sequence.chain_broken = false;
}

// Goes on as far as blocks with this sequence's tokens exist, found by whoever computed them.
void Scheduler::TakeFoundBlocks(Sequence& sequence) {
  if (sequence.chain_broken || sequence.computed_tokens != sequence.chain_blocks * block_tokens_) {
    return;
  }
  std::uint32_t limit = HitTokensMax(sequence);
  while (sequence.computed_tokens + block_tokens_ <= limit) {
    kv::BlockPin pin = cache_.Find(
        sequence.chain, sequence.tokens(sequence.computed_tokens, block_tokens_, scratch_));
    if (!pin) {
      return;
    }
    if (sequence.chain_blocks < sequence.blocks.size()) {
      sequence.blocks[sequence.chain_blocks] = std::move(pin);  // the block kept for it goes back
      ++version_;
    } else {
      sequence.blocks.push_back(std::move(pin));
    }
    ++sequence.chain_blocks;
    sequence.computed_tokens += block_tokens_;
    counters_.cached_tokens += block_tokens_;
    if (!sequence.preempted && sequence.computed_tokens <= sequence.prompt.size()) {
      sequence.cached_tokens += block_tokens_;
    }
  }
}

// The last token is always computed, for its logits; so are prompt rows whose logits are still
// wanted.
std::uint32_t Scheduler::HitTokensMax(const Sequence& sequence) const {
  std::uint32_t limit = sequence.token_count() - 1;
  return sequence.prompt_rows_done < sequence.prompt_rows_end
             ? std::min(limit, sequence.prompt_rows_done)
             : limit;
}

void Scheduler::Complete(const Chunk& chunk) {
  Sequence& sequence = *chunk.sequence;
  PX_ASSERT(sequence.phase == SequencePhase::kRunning && sequence.computed_tokens == chunk.begin);
  sequence.computed_tokens += chunk.count;
  counters_.computed_tokens += chunk.count;
  sequence.prompt_rows_done =
      std::max(sequence.prompt_rows_done, chunk.prompt_rows_begin + chunk.prompt_rows_count);
  while (!sequence.chain_broken &&
         (sequence.chain_blocks + 1) * block_tokens_ <= sequence.computed_tokens) {
    kv::BlockPin& pin = sequence.blocks[sequence.chain_blocks];
    std::span<const TokenId> tokens =
        sequence.tokens(sequence.chain_blocks * block_tokens_, block_tokens_, scratch_);
    kv::BlockCache::Published published = cache_.Publish(std::move(pin), sequence.chain, tokens);
    pin = std::move(published.pin);
    if (!published.findable) {
      sequence.chain_broken = true;
      break;
    }
    ++sequence.chain_blocks;
    ++version_;
  }
}

std::uint32_t Scheduler::BlocksFor(std::uint32_t tokens) const {
  return CeilDiv(tokens, block_tokens_);
}

void Scheduler::CheckInvariants() const {
  PX_ASSERT(std::ranges::is_sorted(waiting_, WorseRank));
  PX_ASSERT(std::ranges::is_sorted(running_, BetterRank));
  PX_ASSERT(running_.size() <= options_.batch_sequences_max);
  for (const Sequence* sequence : waiting_) {
    PX_ASSERT(sequence->phase == SequencePhase::kWaiting && sequence->blocks.empty() &&
              sequence->computed_tokens == 0);
  }
  for (const Sequence* sequence : running_) {
    PX_ASSERT(sequence->phase == SequencePhase::kRunning);
    PX_ASSERT(sequence->computed_tokens < sequence->token_count());
    PX_ASSERT(sequence->blocks.size() >= BlocksFor(sequence->computed_tokens));
    for (const kv::BlockPin& pin : sequence->blocks) {
      PX_ASSERT(pin && cache_.pool().IsCurrent(pin.ref()));
    }
    for (std::size_t i = sequence->chain_blocks; i < sequence->blocks.size(); ++i) {
      PX_ASSERT(cache_.pool().pins(sequence->blocks[i].id()) == 1);  // it will be written
    }
  }
}

}  // namespace pixii::engine
