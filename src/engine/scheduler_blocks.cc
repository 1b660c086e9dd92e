// The scheduler's blocks: found, allocated, given back, moved to the host pool and back.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "engine/scheduler.h"

namespace pixii::engine {

// Takes found and new blocks for all its tokens, or none.
bool Scheduler::Admit(Sequence& sequence) {
  if (sequence.blocked_version == version_ && !running_.empty()) {
    return false;
  }
  std::uint64_t cached_before = counters_.cached_tokens;
  TakeFoundBlocks(sequence);
  std::uint32_t missing =
      BlocksFor(sequence.token_count()) - static_cast<std::uint32_t>(sequence.blocks.size());
  if (!Fits(sequence, missing)) {
    ReleaseBlocks(sequence);
    counters_.cached_tokens = cached_before;
    sequence.cached_tokens = sequence.preempted ? sequence.cached_tokens : 0;
    sequence.blocked_version = version_;
    // With nobody running a connector holds the rest: Engine::Submit refused what cannot fit.
    return false;
  }
  while (missing-- > 0) {
    sequence.blocks.push_back(std::move(*cache_.Allocate()));
  }
  TakeSwappedBlocks(sequence);
  return true;
}

// Whether `missing_blocks` can be handed out now and growth is provided for, by the policy. Alone
// it always fits if it fits at all.
bool Scheduler::Fits(const Sequence& sequence, std::uint32_t missing_blocks) const {
  std::uint64_t needed = missing_blocks;
  if (!running_.empty()) {
    if (options_.admission == Admission::kEager) {
      needed += 1 + cache_.pool().block_count() / 100;  // so that it is not preempted at once
    } else {
      auto growth = [&](const Sequence& of, std::uint64_t held) {
        std::uint64_t forecast = BlocksFor(ForecastTokens(of));
        return forecast - std::min(forecast, held);
      };
      needed += growth(sequence, BlocksFor(sequence.token_count()));
      for (const Sequence* running : running_) {
        needed += growth(*running, running->blocks.size());
      }
    }
  }
  return needed <= cache_.available_count();
}

std::uint32_t Scheduler::ForecastTokens(const Sequence& sequence) const {
  std::uint32_t tokens_max =
      std::min(sequence.tokens_max, cache_.pool().block_count() * block_tokens_);
  if (options_.admission == Admission::kGuaranteed) {
    return tokens_max;
  }
  // Whoever is past the mean goes on for some time yet.
  auto output = static_cast<std::uint32_t>(sequence.generated.size());
  std::uint32_t expected = std::max(ForecastOutput(), output + output / 4 + 1);
  return std::min(tokens_max, static_cast<std::uint32_t>(sequence.prompt.size()) + expected);
}

// Makes blocks for the first `tokens` tokens. False: none is left and all who run have better rank;
// it waits its turn.
bool Scheduler::Reserve(Sequence& sequence, std::uint32_t tokens) {
  while (sequence.blocks.size() < BlocksFor(tokens)) {
    if (std::optional<kv::BlockPin> pin = cache_.Allocate()) {
      sequence.blocks.push_back(std::move(*pin));
      continue;
    }
    if (ahead_) {
      ahead_blocked_ = true;
      return false;
    }
    Sequence& victim = *running_.back();
    if (&victim == &sequence) {
      return false;
    }
    Preempt(victim);
  }
  return true;
}

// How many of its first `tokens` tokens have a place in blocks that it holds or that are free:
// nobody is preempted for a guess.
std::uint32_t Scheduler::TokensThatFit(Sequence& sequence, std::uint32_t tokens) {
  while (sequence.blocks.size() < BlocksFor(tokens)) {
    std::optional<kv::BlockPin> pin = cache_.Allocate();
    if (!pin) {
      break;
    }
    sequence.blocks.push_back(std::move(*pin));
  }
  return std::min(tokens, static_cast<std::uint32_t>(sequence.blocks.size()) * block_tokens_);
}

void Scheduler::Preempt(Sequence& victim) {
  PX_ASSERT(victim.in_flight_tokens == 0);
  Unplan(victim);
  running_.pop_back();
  if (victim.swapped.slots.empty()) {
    SwapOut(victim);
  } else {
    DropCopies(victim);  // it was about to come back: what is in the host pool stays there
  }
  ReleaseBlocks(victim);
  ReleaseSlot(victim);
  victim.preempted = true;
  ++counters_.preemptions;
  victim.phase = SequencePhase::kWaiting;
  // Its rank puts it before all that came later.
  waiting_.insert(std::ranges::upper_bound(
                      waiting_, &victim,
                      [](const Sequence* a, const Sequence* b) { return b->rank < a->rank; }),
                  &victim);
}

void Scheduler::SwapOut(Sequence& victim) {
  std::uint32_t count = BlocksFor(victim.computed_tokens);
  if (options_.host_slots == 0 || count == 0) {
    return;
  }
  if (count > free_slots_.size()) {
    ++counters_.swap_refusals;
    return;
  }
  victim.swapped.tokens = victim.computed_tokens;
  victim.swapped.tag = ++last_swap_tag_;
  for (std::uint32_t i = 0; i < count; ++i) {
    victim.swapped.slots.push_back(free_slots_.back());
    free_slots_.pop_back();
    copies_.push_back({.sequence = &victim,
                       .block = victim.blocks[i].id(),
                       .host_slot = victim.swapped.slots[i],
                       .tag = victim.swapped.tag,
                       .to_host = true});
  }
  counters_.swapped_out_blocks += count;
}

// What the prefix cache did not give comes from the host pool.
void Scheduler::TakeSwappedBlocks(Sequence& sequence) {
  SwappedBlocks& swapped = sequence.swapped;
  if (swapped.tokens <= sequence.computed_tokens) {
    ReleaseSlots(sequence);
    return;
  }
  std::uint32_t first = sequence.computed_tokens / block_tokens_;
  for (std::uint32_t i = first; i < swapped.slots.size(); ++i) {
    copies_.push_back({.sequence = &sequence,
                       .block = sequence.blocks[i].id(),
                       .host_slot = swapped.slots[i],
                       .tag = swapped.tag,
                       .to_host = false});
  }
  counters_.swapped_in_blocks += swapped.slots.size() - first;
  sequence.computed_tokens = swapped.tokens;
}

void Scheduler::DropCopies(const Sequence& sequence) {
  std::erase_if(copies_,
                [&](const SwapCopy& copy) { return copy.sequence == &sequence && !copy.to_host; });
}

void Scheduler::SwapInDone(Sequence& sequence) { ReleaseSlots(sequence); }

void Scheduler::SwapInFailed(Sequence& sequence) {
  PX_ASSERT(sequence.phase == SequencePhase::kRunning && sequence.in_flight_tokens == 0);
  ++counters_.swap_failures;
  ReleaseSlots(sequence);
  sequence.computed_tokens = sequence.chain_blocks * block_tokens_;
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
  sequence.chain_broken = !options_.reuse_blocks || sequence.whole_text || sequence.cold;
}

void Scheduler::ReleaseSlots(Sequence& sequence) {
  for (std::uint32_t slot : sequence.swapped.slots) {
    free_slots_.push_back(slot);
  }
  sequence.swapped.slots.clear();
  sequence.swapped.tokens = 0;
}

// Goes on as far as blocks with this sequence's tokens exist, found by whoever computed them.
void Scheduler::TakeFoundBlocks(Sequence& sequence) {
  if (sequence.chain_broken || sequence.in_flight_tokens > 0 ||
      sequence.computed_tokens != sequence.chain_blocks * block_tokens_) {
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

bool Scheduler::Complete(const Chunk& chunk) {
  Sequence& sequence = *chunk.sequence;
  bool exchanged = false;
  PX_ASSERT(sequence.phase == SequencePhase::kRunning && sequence.computed_tokens == chunk.begin);
  sequence.computed_tokens += chunk.count;
  sequence.computed_total += chunk.count;
  counters_.computed_tokens += chunk.count;
  sequence.prompt_rows_done =
      std::max(sequence.prompt_rows_done, chunk.prompt_rows_begin + chunk.prompt_rows_count);
  while (!sequence.chain_broken &&
         (sequence.chain_blocks + 1) * block_tokens_ <= sequence.computed_tokens) {
    kv::BlockPin& pin = sequence.blocks[sequence.chain_blocks];
    std::span<const TokenId> tokens =
        sequence.tokens(sequence.chain_blocks * block_tokens_, block_tokens_, scratch_);
    BlockId before = pin.id();
    const Hash128 parent = sequence.chain.hash;
    kv::BlockCache::Published published = cache_.Publish(std::move(pin), sequence.chain, tokens);
    exchanged = exchanged || published.pin.id() != before;
    pin = std::move(published.pin);
    if (!published.findable) {
      sequence.chain_broken = true;
      break;
    }
    if (keeps_published_ && pin.id() == before) {
      published_.push_back({.hash = sequence.chain.hash,
                            .parent = parent,
                            .root = sequence.chain.root,
                            .index = sequence.chain_blocks,
                            .tokens = {tokens.begin(), tokens.end()},
                            .bytes = {},
                            .pin = pin.Share()});
    }
    ++sequence.chain_blocks;
    ++version_;
  }
  return exchanged;
}

std::uint32_t Scheduler::BlocksFor(std::uint32_t tokens) const {
  return CeilDiv(tokens, block_tokens_);
}

}  // namespace pixii::engine
