// An inference engine: requests in, frames of tokens out, one step at a time.
// docs/subsystems/engine.md
//
// Thread: one owner (the engine thread). No clock and no I/O of its own but the executor's.
// Owns the block cache, the scheduler, the sampler and every request until each of its choices has
// ended exactly once. With an executor that overlaps, one step is in flight between two calls of
// Step: its successor is planned and packed while it runs, then gets the tokens it gave.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "engine/adapter_store.h"
#include "engine/block_traffic.h"
#include "engine/drafter.h"
#include "engine/executor.h"
#include "engine/media_cache.h"
#include "engine/media_encoder.h"
#include "engine/options.h"
#include "engine/row_sampler.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "kernels/step.h"
#include "kv/block_cache.h"
#include "kv/session_keeper.h"
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
  std::uint64_t faults = 0;              // batches the executor failed
  std::uint64_t retried_chunks = 0;      // run again, alone, after one
  std::uint64_t steps_ahead = 0;         // steps that were planned while another ran
  std::uint64_t media_encoded = 0;       // items that the tower looked at
  std::uint64_t media_cache_hits = 0;    // items whose features were kept
  std::uint64_t media_offered_hits = 0;  // items whose features another worker had made
  std::uint64_t failed_requests = 0;     // ended by kModelFault or a device error
  std::uint64_t expired_requests = 0;    // ended by their deadline
  std::uint64_t cancelled_requests = 0;  // ended because whoever asked wants them no more
  std::uint64_t drafts = 0;              // guesses of one sequence that a step judged together
  std::uint64_t drafted_tokens = 0;
  std::uint64_t accepted_tokens = 0;  // guesses that were what the model's own draw picked
};

class Engine final {
 public:
  /// `processors`: the logits processors that requests may ask for; null: none. `drafter`: who
  /// guesses tokens for the model to judge several at a time; null: nobody. With one, no step is
  /// planned before the last has ended: its tokens are what guesses follow. `connector`: who brings
  /// KV blocks and takes them along; null: nobody.
  /// Errors: kInvalidArgument naming the option, its value and the range; kUnsupported with a
  /// connector if the host cannot reach the blocks.
  static Result<std::unique_ptr<Engine>> Create(
      const EngineOptions& options, std::unique_ptr<StepExecutor> executor,
      std::shared_ptr<ProcessorSet> processors = nullptr,
      std::unique_ptr<Drafter> drafter = nullptr,
      std::unique_ptr<kv::Connector> connector = nullptr,
      std::unique_ptr<MediaEncoder> media_encoder = nullptr);

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

  /// Takes `request`; frames of each choice follow from Step until each has ended. After an error
  /// there are none. Errors: kInvalidArgument naming the field and the limit, kResourceExhausted
  /// naming the full queue. `cold`: it uses nothing of the prefix cache and gives nothing to it.
  Result<void> Submit(wire::GenerateRequest request, rt::Time now, bool cold = false);

  /// What another worker's tower, one of the same bits, made of the item with this digest. As long
  /// as somebody holds it, this engine's tower is not asked for it.
  void OfferFeatures(std::string digest,
                     const std::shared_ptr<const model::VisionFeatures>& features);

  /// Ends the choices asked for; their blocks are free at once and their last frames come with the
  /// next Step. What a step in flight computes for them is dropped. Unknown or ended ids have no
  /// effect.
  void Cancel(const wire::CancelRequest& cancel);

  /// Ends every request with `error`.
  void AbortAll(const Error& error);

  /// Requests may name `name` from now on. Errors: AdapterStore::Load's.
  Result<void> LoadAdapter(std::string name, std::shared_ptr<const AdapterWeights> weights,
                           bool pinned);
  /// New requests for it are refused; those that have it go on. Errors: kNotFound.
  Result<void> UnloadAdapter(std::string_view name);

  const AdapterStore& adapters() const { return adapters_; }

  /// Gives the memory of `parts` back to the system, the draft model's too. The prefix cache
  /// forgets everything with the KV cache. Until all is restored Submit answers kUnavailable.
  /// Nobody finds what the prefix cache holds any more, nor what the connector keeps in memory; if
  /// `lasting`, nor what it has put elsewhere. What runs goes on with its own.
  void ClearCache(bool lasting = false);

  /// As kv::BlockCache; nothing without EngineOptions::kv_event_count_max.
  bool DrainKvEvents(kv::CacheChanges& out);

  void ResyncKvEvents() { cache_->ResyncEvents(); }

  /// Errors: kUnavailable while busy(); those of StepExecutor::Release.
  Result<void> Release(const MemoryParts& parts);
  /// Takes it again; the answers are what they were. Errors: those of StepExecutor::Restore; then
  /// it sleeps on and may be asked again.
  Result<void> Restore(const MemoryParts& parts);

  /// Whether some of its memory is given back.
  bool asleep() const { return released_.any(); }

  /// Runs one step, or ends the one in flight and begins the next, if there is work. Appends
  /// frames, those of requests that ended meanwhile first.
  StepReport Step(rt::Time now, std::vector<wire::TokenFrame>& frames);

  /// Whether Step would do or give anything, now or later.
  bool has_work() const;

  /// All that is there waits for blocks that a connector brings or holds: no Step before Poll.
  bool stalled() const { return stalled_; }

  /// Called once, before all else: the connector calls `wake` from any thread when it wants a Poll.
  void StartConnector(rt::Function<void()> wake);

  /// Takes what the connector has done; Step does, too. No effect without one.
  void Poll(rt::Time now);

  /// When Poll, or a Step of a stalled engine, is due at the latest.
  rt::Time next_poll() const;

  /// Whether memory of the cache is in use: by requests, or by the connector.
  bool busy() const { return has_work() || (traffic_ && !traffic_->idle()); }

  BlockTrafficCounters traffic() const {
    return traffic_ ? traffic_->counters() : BlockTrafficCounters{};
  }

  /// What this engine can take; name, eos and bos are for the caller to fill.
  wire::ModelCard card() const;

  std::uint32_t context_tokens_max() const { return context_tokens_max_; }

  /// Sequences that may be here at a time: a batch and its queue.
  std::uint32_t sequence_count_max() const {
    return options_.batch_sequences_max + options_.queue_length_max;
  }

  /// Whether a step runs between two calls of Step.
  bool in_flight() const { return in_flight_; }

  std::uint32_t request_count() const { return static_cast<std::uint32_t>(requests_.size()); }

  const Scheduler& scheduler() const { return scheduler_; }

  const kv::BlockCache& cache() const { return *cache_; }

  const kv::SessionCounters& sessions() const { return sessions_.counters(); }

  const EngineCounters& counters() const { return counters_; }

  /// The last step failed, and not because of what the model computed: the device is gone.
  bool device_failed() const { return device_failed_; }

  StepExecutor& executor() { return *executor_; }

  /// Asserts that scheduler, cache and requests agree. O(everything).
  void CheckInvariants() const;

 private:
  Engine(const EngineOptions& options, std::unique_ptr<StepExecutor> executor,
         std::unique_ptr<kv::BlockCache> cache, std::uint32_t context_tokens_max,
         std::shared_ptr<ProcessorSet> processors, std::unique_ptr<Drafter> drafter,
         std::unique_ptr<kv::Connector> connector, std::unique_ptr<MediaEncoder> media_encoder);

  /// Rows of one sequence from which tokens are drawn, one after another.
  struct QueuedRows {
    Sequence* sequence = nullptr;
    std::span<float> rows;    // [count, vocab]
    std::uint32_t count = 1;  // one more than its guesses
    std::uint32_t next = 0;
  };

  /// One step from its plan to its end.
  struct PlannedStep {
    std::vector<Chunk> chunks;
    std::vector<SwapCopy> copies;  // to be done before it begins
    kernels::StepBatch batch;
  };

  using MediaShapes = std::vector<MediaEncoder::Shape>;  // of a request's items

  Result<MediaShapes> Validate(const wire::GenerateRequest& request) const;
  void StartSequences(RequestState& state);
  void Expire(rt::Time now);

  // engine_draft.cc
  void GuessTokens();
  bool JumpsAhead() const;
  void PrepareMasks(std::span<const Chunk> chunks);

  // engine_masks.cc
  bool MaskIsReady(Sequence& sequence);
  void AwaitMask(const QueuedRows& queued);
  void DrawAwaited(StepReport& report);
  void Resume(Sequence& sequence);
  void ShowStates(std::span<const Chunk> chunks);
  void JudgeDraft(Sequence& sequence, std::uint32_t guesses, std::uint32_t taken);

  // engine_pairs.cc
  Result<void> CheckSecondPrompt(const wire::GenerateRequest& request,
                                 const ProcessorChain& chain) const;
  void AddShadows(RequestState& state);
  void Start(Sequence& sequence);
  bool HoldRow(QueuedRows& queued);
  void ParkLonely();
  void ContinuePair(Sequence& sequence, TokenId token);
  void EndShadow(Sequence& sequence);

  // engine_pool.cc
  void StartPooled(RequestState& state);
  void ReadPooled(const Chunk& chunk, std::span<const float> rows);

  // engine_blocks.cc
  bool AwaitsBlocks(const RequestState& state);
  void BlocksCame(RequestId id);
  void TellProgress(const Sequence& sequence);
  void EndFetched(RequestState& state);
  void EndTraffic(const Sequence& last, wire::FinishReason reason);
  void KeepForSession(const Sequence& last, wire::FinishReason reason);
  void StartLoads();
  void TellPublished();

  // engine_media.cc
  Result<void> CheckMutual(const wire::GenerateRequest& request, const MediaEncoder::Shape& shape,
                           std::size_t index) const;
  Result<MediaShapes> CheckMedia(const wire::GenerateRequest& request) const;
  std::unique_ptr<RequestMedia> TakeMedia(wire::GenerateRequest& request,
                                          const MediaShapes& shapes) const;
  void EncodeMedia(PlannedStep& step);
  std::shared_ptr<const model::VisionFeatures> KnownFeatures(const wire::MediaItem& item,
                                                             bool cold);
  Result<std::shared_ptr<const model::VisionFeatures>> Encode(const wire::MediaItem& item,
                                                              bool cold);

  // engine_step.cc
  void TakePlan(std::span<const Chunk> plan, PlannedStep& step);
  void HoldPrompts();
  void PlanAhead();
  bool Begin(PlannedStep& step);
  bool BeginPlanned();
  void ApplyAdapters(PlannedStep* step);
  void RunCopies(PlannedStep& step);
  void DropEnded(PlannedStep& step);
  void FinishStep(StepReport& report);
  void Recover(const PlannedStep& step, const Error& error, StepReport& report);
  void Retry(const Chunk& chunk, int attempts, Error error, StepReport& report);
  Result<void> ExecuteAlone(const Chunk& chunk, StepReport& report);
  std::span<float> LogitsFor(const kernels::StepBatch& batch);
  void Finished(const Chunk& chunk, std::span<float> rows, StepReport& report);

  // engine.cc
  void CollectPromptLogprobs(const Chunk& chunk, std::span<const float> rows);
  void QueueRow(QueuedRows queued);
  void AddRow(const QueuedRows& queued);
  bool TookGuess(const QueuedRows& queued);
  void DrawQueued(StepReport& report);
  void TakeToken(Sequence& sequence, SampleRow& row);
  void ReleaseSiblings(RequestState& state);
  wire::TokenFrame MakeFrame(Sequence& sequence);
  void End(Sequence& sequence, wire::FinishReason reason, const std::optional<Error>& error);
  void EndWithFrame(Sequence& sequence, wire::TokenFrame frame);
  wire::WorkerTimes TimesOf(const Sequence& sequence) const;
  void EndAll(RequestState& state, wire::FinishReason reason, const std::optional<Error>& error);

  EngineOptions options_;
  std::unique_ptr<StepExecutor> executor_;
  std::unique_ptr<MediaEncoder> media_encoder_;  // null: the model reads text alone
  MediaCache media_cache_;
  std::unordered_map<std::string, std::weak_ptr<const model::VisionFeatures>>
      offered_;  // by digest
  ExecutorLimits limits_;
  std::shared_ptr<const TextPooler> pooler_;  // null: rows are logits of a vocabulary
  std::uint32_t context_tokens_max_;
  std::unique_ptr<kv::BlockCache> cache_;
  kv::SessionKeeper sessions_;
  AdapterStore adapters_;
  Scheduler scheduler_;
  RowSampler sampler_;
  Constraints constraints_;
  std::vector<SampleRow> sample_rows_;   // of the step at hand
  std::vector<QueuedRows> queued_rows_;  // [sample_rows_]
  std::vector<QueuedRows> next_rows_;
  std::vector<Sequence*> lonely_;   // whose row of this step waits for the partner's
  std::vector<Sequence*> awaited_;  // held with their rows until their masks are made; first come
  std::uint64_t mask_work_ = 0;     // steps of grammars that are left to the step at hand
  std::unique_ptr<Drafter> drafter_;
  std::vector<DraftRequest> drafts_;
  std::vector<ObservedRows> observed_;
  std::vector<TokenId> observed_tokens_;
  std::unordered_map<RequestId, std::unique_ptr<RequestState>> requests_;
  std::vector<std::unique_ptr<RequestState>>
      ended_;  // kept to the end of the step: a plan may still name them
  std::uint64_t next_order_ = 0;
  rt::Time next_deadline_ = rt::kNever;
  rt::Time now_{};        // of the last call that said it
  PlannedStep steps_[2];  // the one in flight or next, and the one planned meanwhile
  PlannedStep* current_ = &steps_[0];
  PlannedStep* ahead_ = &steps_[1];
  bool in_flight_ = false;
  bool device_failed_ = false;
  MemoryParts released_;
  bool tables_changed_ = false;  // since ahead_ was packed
  bool stalled_ = false;
  kernels::StepBatch alone_;  // of a chunk that is run again
  std::vector<BlockCopy> copies_;
  std::vector<Chunk> retries_;
  std::vector<bool> faulty_rows_;
  std::unique_ptr<float[]> logits_;  // [rows of a step, row_size], grown to what was needed so far
  std::size_t logits_size_ = 0;
  std::vector<wire::TokenFrame> frames_;
  EngineCounters counters_;
  std::vector<RequestId> ready_;
  std::unique_ptr<BlockTraffic> traffic_;  // null: no connector. Last: it holds blocks
};

}  // namespace pixii::engine
