// An inference engine: requests in, frames of tokens out, one step at a time.
// docs/subsystems/engine.md
//
// Thread: one owner (the engine thread). No clock and no I/O of its own but the executor's.
// Owns the block cache, the scheduler, the sampler and every request until each of its choices has
// ended exactly once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "engine/executor.h"
#include "engine/options.h"
#include "engine/row_sampler.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "kernels/step.h"
#include "kv/block_cache.h"
#include "rt/time.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

/// What one Step did.
struct StepReport {
  bool ran = false;             // the executor was called
  std::uint32_t sequences = 0;  // in the batch
  std::uint32_t tokens = 0;     // computed
  std::uint32_t sampled = 0;    // tokens drawn
  std::int64_t virtual_time_ns = 0;
};

struct EngineCounters {
  std::uint64_t steps = 0;  // steps that ran
  std::uint64_t sampled_tokens = 0;
  std::uint64_t faults = 0;            // batches the executor failed
  std::uint64_t failed_requests = 0;   // ended by kModelFault or a device error
  std::uint64_t expired_requests = 0;  // ended by their deadline
};

class Engine final {
 public:
  /// `processors`: the logits processors that requests may ask for; null: none.
  /// Errors: kInvalidArgument naming the option, its value and the range.
  static Result<std::unique_ptr<Engine>> Create(const EngineOptions& options,
                                                std::unique_ptr<StepExecutor> executor,
                                                std::shared_ptr<ProcessorSet> processors = nullptr);

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

  /// Takes `request`; frames of each choice follow from Step until each has ended. After an error
  /// there are none. Errors: kInvalidArgument naming the field and the limit, kResourceExhausted
  /// naming the full queue.
  Result<void> Submit(wire::GenerateRequest request, rt::Time now);

  /// Ends the choices asked for; their blocks are free at once and their last frames come with the
  /// next Step. Unknown or ended ids have no effect.
  void Cancel(const wire::CancelRequest& cancel);

  /// Ends every request with `error`.
  void AbortAll(const Error& error);

  /// Runs one step if there is work and appends frames, those of requests that ended meanwhile
  /// first.
  StepReport Step(rt::Time now, std::vector<wire::TokenFrame>& frames);

  /// Whether Step would do or give anything.
  bool has_work() const;

  /// What this engine can take; name, eos and bos are for the caller to fill.
  wire::ModelCard card() const;

  std::uint32_t context_tokens_max() const { return context_tokens_max_; }

  /// Sequences that may be here at a time: a batch and its queue.
  std::uint32_t sequence_count_max() const {
    return options_.batch_sequences_max + options_.queue_length_max;
  }

  std::uint32_t request_count() const { return static_cast<std::uint32_t>(requests_.size()); }

  const Scheduler& scheduler() const { return scheduler_; }

  const kv::BlockCache& cache() const { return *cache_; }

  const EngineCounters& counters() const { return counters_; }

  StepExecutor& executor() { return *executor_; }

  /// Asserts that scheduler, cache and requests agree. O(everything).
  void CheckInvariants() const;

 private:
  Engine(const EngineOptions& options, std::unique_ptr<StepExecutor> executor,
         std::unique_ptr<kv::BlockCache> cache, std::uint32_t context_tokens_max,
         std::shared_ptr<ProcessorSet> processors);

  Result<void> Validate(const wire::GenerateRequest& request) const;
  void StartSequences(RequestState& state);
  void Expire(rt::Time now);
  void RunPlan(std::span<const Chunk> plan, StepReport& report);
  Result<void> Execute(std::span<const Chunk> chunks);
  void Finished(const Chunk& chunk, std::span<float> rows, StepReport& report);
  void CollectPromptLogprobs(const Chunk& chunk, std::span<const float> rows);
  void QueueRow(Sequence& sequence, std::span<float> row);
  void DrawQueued(StepReport& report);
  void TakeToken(Sequence& sequence, SampleRow& row);
  void ReleaseSiblings(RequestState& state);
  wire::TokenFrame MakeFrame(Sequence& sequence);
  void End(Sequence& sequence, wire::FinishReason reason, const std::optional<Error>& error);
  void EndWithFrame(Sequence& sequence, wire::TokenFrame frame);
  void EndAll(RequestState& state, wire::FinishReason reason, const std::optional<Error>& error);

  EngineOptions options_;
  std::unique_ptr<StepExecutor> executor_;
  ExecutorLimits limits_;
  std::uint32_t context_tokens_max_;
  std::unique_ptr<kv::BlockCache> cache_;
  Scheduler scheduler_;
  RowSampler sampler_;
  std::vector<SampleRow> sample_rows_;        // of the step at hand
  std::vector<Sequence*> sampled_sequences_;  // [sample_rows_]
  std::unordered_map<RequestId, std::unique_ptr<RequestState>> requests_;
  std::vector<std::unique_ptr<RequestState>>
      ended_;  // kept to the end of the step: a plan may still name them
  std::uint64_t next_order_ = 0;
  rt::Time next_deadline_ = rt::kNever;
  kernels::StepBatch batch_;
  std::unique_ptr<float[]> logits_;  // [rows of a step, vocab], grown to what was needed so far
  std::size_t logits_size_ = 0;
  std::vector<wire::TokenFrame> frames_;
  EngineCounters counters_;
};

}  // namespace pixii::engine
