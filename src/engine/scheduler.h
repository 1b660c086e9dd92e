// Which tokens of which sequences the next step computes, and in which blocks: pure decisions.
// docs/subsystems/engine.md
//
// Thread: the engine thread. No clock, no I/O; no allocation in steady state.
// A plan: every running sequence that needs one token (decode), then the rest of running prompts in
// chunks, then new sequences, up to batch_tokens_max tokens; a decode that has a draft computes its
// guesses too where tokens, rows and free blocks are left. Order inside each group is Rank: fair
// shares of tenants, with a head start per priority level. Blocks for all tokens a sequence has are
// taken when it is admitted, so only decoding can run out; then the running sequence of highest
// rank number gives its blocks back, and is computed again later or comes back from the host pool.
// A sequence with an adapter holds one of the device's slots while it runs.
// Three things go out of order, all bounded: a sequence waits, at most prefix_wait_plans_max plans,
// for a prefix that another one computes; while blocks are short, a sequence whose prefix is cached
// goes first; and so do those behind one whose adapter finds no slot. Each sequence is passed at
// most kOvertakesMax times, then all behind it wait.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "engine/adapter_store.h"
#include "engine/fair_share.h"
#include "engine/options.h"
#include "engine/sequence.h"
#include "kv/block_cache.h"
#include "kv/connector.h"

namespace pixii::engine {

inline constexpr std::uint32_t kOvertakesMax = 4;

struct SchedulerOptions {
  std::uint32_t batch_sequences_max = 0;      // sequences
  std::uint32_t batch_tokens_max = 0;         // tokens of a step
  std::uint32_t prompt_logprob_rows_max = 0;  // rows of a step beyond one per sequence
  std::uint32_t queue_length_max = 0;         // sequences beyond those of a batch
  std::uint32_t host_slots = 0;               // blocks of the host pool; 0: preempted is recomputed
  Admission admission = Admission::kEager;
  std::int64_t priority_head_start_tokens = 0;
  std::uint32_t output_tokens_forecast = 1;
  std::uint32_t prefix_wait_plans_max = 0;
  bool reuse_blocks = true;
};

/// Tokens [begin, begin + count) of a sequence, to be computed in this step.
struct Chunk {
  Sequence* sequence = nullptr;
  std::uint32_t begin = 0;
  std::uint32_t count = 0;
  std::uint32_t prompt_rows_begin =
      0;  // rows [prompt_rows_begin, + prompt_rows_count) want logits for prompt_logprobs
  std::uint32_t prompt_rows_count = 0;
  std::uint32_t sample_rows = 0;  // the last so many rows' logits give tokens; 0: none

  /// Guesses among its tokens: the last so many.
  std::uint32_t draft_count() const { return sample_rows > 1 ? sample_rows - 1 : 0; }

  /// The chunk without them.
  Chunk WithoutDraft() const {
    Chunk sure = *this;
    sure.count -= draft_count();
    sure.sample_rows -= draft_count();
    return sure;
  }
};

/// A block that goes to the host pool or comes back before the plan's step begins.
struct SwapCopy {
  Sequence* sequence = nullptr;
  BlockId block{};
  std::uint32_t host_slot = 0;
  std::uint64_t tag = 0;
  bool to_host = false;
};

struct SchedulerCounters {
  std::uint64_t preemptions = 0;
  std::uint64_t cached_tokens = 0;    // tokens not computed because their blocks were found
  std::uint64_t computed_tokens = 0;  // tokens of completed chunks
  std::uint64_t swapped_out_blocks = 0;
  std::uint64_t swapped_in_blocks = 0;
  std::uint64_t swap_refusals = 0;  // the host pool was full: recomputed instead
  std::uint64_t swap_failures = 0;  // what came back was not what had left, or did not: recomputed
  std::uint64_t prefix_waits = 0;   // plans in which a sequence waited for another's prefix
};

class Scheduler final {
 public:
  /// `adapters`: whose slots sequences hold; null: no sequence has an adapter.
  Scheduler(const SchedulerOptions& options, kv::BlockCache& cache,
            AdapterStore* adapters = nullptr);

  /// Errors: kResourceExhausted naming queue_length_max if `count` more sequences do not fit batch
  /// and queue together.
  Result<void> CheckRoom(std::uint32_t count) const;

  struct Claim {
    std::string_view tenant;
    std::int32_t priority = 0;   // levels, higher first
    std::uint64_t order = 0;     // of submission
    bool shares_prompt = false;  // a sibling computes the prompt
  };

  /// Gives a new sequence its rank.
  void Register(Sequence& sequence, const Claim& claim);

  /// Counts `sequence` against the queue without queueing it. Pre: new, chain set to its root.
  void Hold(Sequence& sequence);
  /// Queues a new or held sequence. It must stay where it is until it has ended.
  void Enqueue(Sequence& sequence);

  /// Takes a running sequence out of the batch and holds it: it goes on without blocks, by Enqueue.
  /// A chunk of it that is planned must not be completed.
  void Park(Sequence& sequence);

  /// Takes `sequence` out, whatever its phase; its blocks are free or cached at once. Phase becomes
  /// kEnded. A chunk of it that is planned must not be completed.
  void Remove(Sequence& sequence);

  /// Nobody finds the blocks of `sequence` any more: it failed in the model, so what it computed is
  /// in doubt.
  void Distrust(const Sequence& sequence);

  /// The next step, best rank first within decode and prefill. Valid until the next call. Empty
  /// only if nothing waits. Pre: no step is in flight.
  std::span<const Chunk> Plan();

  /// The step after the one in flight, as if that one succeeded and each sampling sequence got its
  /// token and went on. Nobody is preempted for it: empty if that would be needed, or if there is
  /// nothing to compute.
  std::span<const Chunk> PlanAhead();

  /// Whether plans admit nobody from now on; what runs goes on.
  void HoldAdmissions(bool hold) { holds_admissions_ = hold; }

  bool holds_admissions() const { return holds_admissions_; }

  /// From now on TakePublished gives what Complete makes findable.
  void KeepPublished() { keeps_published_ = true; }

  std::vector<kv::PublishedBlock> TakePublished() { return std::exchange(published_, {}); }

  /// Blocks were unpinned, or made findable, by others than sequences.
  void BlocksChanged() { ++version_; }

  /// Blocks to move, in order, before the step of the last plan begins and after the one before it
  /// ended.
  std::span<const SwapCopy> copies() const { return copies_; }

  /// The copies back of `sequence` are done: its places in the host pool are free.
  void SwapInDone(Sequence& sequence);
  /// They failed: its chunk in the plan is void, and what they should have brought is computed.
  void SwapInFailed(Sequence& sequence);

  /// The chunk's step began.
  void Launch(const Chunk& chunk);
  /// The chunk's step ended, whatever its result.
  void Land(const Chunk& chunk);
  /// The step stored the chunk's KV: full blocks become findable. Returns whether a block of the
  /// sequence was exchanged for an equal one, so that block tables made before are old.
  bool Complete(const Chunk& chunk);

  /// Best rank first. Valid until the next verb.
  std::span<Sequence* const> running() const { return running_; }

  /// Whether a sequence of this rank, not queued yet, would be admitted now or is among the next
  /// if `others` more stand before it.
  bool IsNear(const Rank& rank, std::uint32_t others) const;

  /// To be admitted.
  std::uint32_t waiting_count() const { return static_cast<std::uint32_t>(waiting_.size()); }

  std::uint32_t running_count() const { return static_cast<std::uint32_t>(running_.size()); }

  /// Waiting and held.
  std::uint32_t queued_count() const {
    return static_cast<std::uint32_t>(waiting_.size()) + held_count_;
  }

  std::uint32_t host_slots_used() const {
    return options_.host_slots - static_cast<std::uint32_t>(free_slots_.size());
  }

  const SchedulerCounters& counters() const { return counters_; }

  const FairShare& shares() const { return shares_; }

  /// Asserts that queues are in order and every sequence's blocks are pinned and enough.
  /// O(sequences * blocks).
  void CheckInvariants() const;

 private:
  void StartPlan();
  void PlanDecodes();
  void PlanDrafts();
  std::uint32_t UncutTokens() const;
  void PlanPrompts();
  void PlanAdmissions();
  Sequence* NextWaiting();
  bool WaitsForPrefix(Sequence& sequence);
  bool SharesComingBlock(const Sequence& sequence, const Sequence& other) const;
  bool WaitsForSlot(const Sequence& sequence) const;
  void TakeSlot(Sequence& sequence);
  void ReleaseSlot(Sequence& sequence);
  bool HasCachedPrefix(const Sequence& sequence);
  bool AddChunk(Sequence& sequence);
  void Unplan(const Sequence& sequence);

  // scheduler_blocks.cc
  bool Admit(Sequence& sequence);
  bool Fits(const Sequence& sequence, std::uint32_t missing_blocks) const;
  void TakeFoundBlocks(Sequence& sequence);
  void TakeSwappedBlocks(Sequence& sequence);
  bool Reserve(Sequence& sequence, std::uint32_t tokens);
  std::uint32_t TokensThatFit(Sequence& sequence, std::uint32_t tokens);
  void Preempt(Sequence& victim);
  void SwapOut(Sequence& victim);
  void DropCopies(const Sequence& sequence);
  void ReleaseBlocks(Sequence& sequence);
  void ReleaseSlots(Sequence& sequence);
  std::uint32_t HitTokensMax(const Sequence& sequence) const;
  std::uint32_t ForecastTokens(const Sequence& sequence) const;

  std::uint32_t ForecastOutput() const { return output_tokens_x16_ / 16; }

  std::uint32_t BlocksFor(std::uint32_t tokens) const;

  SchedulerOptions options_;
  kv::BlockCache& cache_;
  AdapterStore* adapters_;
  std::uint32_t block_tokens_;
  FairShare shares_;
  std::vector<Sequence*> waiting_;  // worst rank first: the next to admit is at the back
  std::vector<Sequence*> running_;  // best rank first: the next to preempt is at the back
  std::uint32_t held_count_ = 0;
  std::vector<Chunk> plan_;
  std::vector<SwapCopy> copies_;
  std::vector<std::uint32_t> free_slots_;  // of the host pool
  std::uint64_t last_swap_tag_ = 0;
  std::uint64_t plan_count_ = 0;
  bool holds_admissions_ = false;
  bool ahead_ = false;             // a step is in flight: nobody may be preempted
  bool ahead_blocked_ = false;     // and somebody would have to be
  std::uint32_t tokens_left_ = 0;  // of the step being planned
  std::uint32_t prompt_rows_left_ = 0;
  std::uint32_t output_tokens_x16_;  // running mean of outputs, in sixteenths of a token
  std::uint64_t version_ = 1;        // raised whenever blocks come back or become findable
  std::vector<TokenId> scratch_;
  bool keeps_published_ = false;
  std::vector<kv::PublishedBlock> published_;
  SchedulerCounters counters_;
};

}  // namespace pixii::engine
