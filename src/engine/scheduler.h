// Which tokens of which sequences the next step computes, and in which blocks: pure decisions.
// docs/subsystems/engine.md
//
// Thread: the engine thread. No clock, no I/O; no allocation in steady state.
// A plan: every running sequence that needs one token (decode), then the rest of running prompts in
// chunks, then new sequences, up to batch_tokens_max tokens. Order inside each group is Rank: first
// come, first served, with a head start per priority level. Blocks for all tokens a sequence has
// are taken when it is admitted, so only decoding can run out; then the running sequence of highest
// rank number gives its blocks back and is computed again later.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/sequence.h"
#include "kv/block_cache.h"

namespace pixii::engine {

struct SchedulerOptions {
  std::uint32_t batch_sequences_max = 0;      // sequences
  std::uint32_t batch_tokens_max = 0;         // tokens of a step
  std::uint32_t prompt_logprob_rows_max = 0;  // rows of a step beyond one per sequence
  std::uint32_t queue_length_max = 0;         // sequences beyond those of a batch
};

/// Tokens [begin, begin + count) of a sequence, to be computed in this step.
struct Chunk {
  Sequence* sequence = nullptr;
  std::uint32_t begin = 0;
  std::uint32_t count = 0;
  std::uint32_t prompt_rows_begin =
      0;  // rows [prompt_rows_begin, + prompt_rows_count) want logits for prompt_logprobs
  std::uint32_t prompt_rows_count = 0;
  bool samples = false;  // the last row's logits give the next token
};

struct SchedulerCounters {
  std::uint64_t preemptions = 0;
  std::uint64_t cached_tokens = 0;    // tokens not computed because their blocks were found
  std::uint64_t computed_tokens = 0;  // tokens of completed chunks
};

class Scheduler final {
 public:
  Scheduler(const SchedulerOptions& options, kv::BlockCache& cache);

  /// Errors: kResourceExhausted naming queue_length_max if `count` more sequences do not fit batch
  /// and queue together.
  Result<void> CheckRoom(std::uint32_t count) const;

  /// Counts `sequence` against the queue without queueing it. Pre: new, chain set to its root.
  void Hold(Sequence& sequence);
  /// Queues a new or held sequence. It must stay where it is until it has ended.
  void Enqueue(Sequence& sequence);

  /// Takes `sequence` out, whatever its phase; its blocks are free or cached at once. Phase becomes
  /// kEnded. A chunk of it that is planned must not be completed.
  void Remove(Sequence& sequence);

  /// Nobody finds the blocks of `sequence` any more: it failed in the model, so what it computed is
  /// in doubt.
  void Distrust(const Sequence& sequence);

  /// The next step, best rank first within decode and prefill. Valid until the next call. Empty
  /// only if nothing waits.
  std::span<const Chunk> Plan();

  /// The step stored the chunk's KV: full blocks become findable.
  void Complete(const Chunk& chunk);

  std::uint32_t running_count() const { return static_cast<std::uint32_t>(running_.size()); }

  /// Waiting and held.
  std::uint32_t queued_count() const {
    return static_cast<std::uint32_t>(waiting_.size()) + held_count_;
  }

  const SchedulerCounters& counters() const { return counters_; }

  /// Asserts that queues are in order and every sequence's blocks are pinned and enough.
  /// O(sequences * blocks).
  void CheckInvariants() const;

 private:
  void PlanDecodes();
  void PlanPrompts();
  void PlanAdmissions();
  bool Admit(Sequence& sequence);
  bool AddChunk(Sequence& sequence);
  void TakeFoundBlocks(Sequence& sequence);
  bool Reserve(Sequence& sequence, std::uint32_t tokens);
  void Preempt(Sequence& victim);
  void ReleaseBlocks(Sequence& sequence);
  void Unplan(const Sequence& sequence);
  std::uint32_t HitTokensMax(const Sequence& sequence) const;
  std::uint32_t BlocksFor(std::uint32_t tokens) const;
  std::uint32_t Headroom() const;

  SchedulerOptions options_;
  kv::BlockCache& cache_;
  std::uint32_t block_tokens_;
  std::vector<Sequence*> waiting_;  // worst rank first: the next to admit is at the back
  std::vector<Sequence*> running_;  // best rank first: the next to preempt is at the back
  std::uint32_t held_count_ = 0;
  std::vector<Chunk> plan_;
  std::uint32_t tokens_left_ = 0;  // of the step being planned
  std::uint32_t prompt_rows_left_ = 0;
  std::uint64_t version_ = 1;  // raised whenever blocks come back or become findable
  std::vector<TokenId> scratch_;
  SchedulerCounters counters_;
};

}  // namespace pixii::engine
