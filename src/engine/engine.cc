#include "engine/engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "engine/request_check.h"
#include "engine/request_state.h"
#include "wire/messages/kv_event.h"
#include "wire/public_hash.h"

namespace pixii::engine {

namespace {

constexpr std::uint32_t kGeneratedReserve = 1024;  // tokens

std::string OutOfRange(const char* name, std::uint64_t value, std::uint64_t low,
                       std::uint64_t high) {
  return fmt::format("{} is {}; allowed is {} to {}", name, value, low, high);
}

Result<void> CheckOptions(const EngineOptions& options, const ExecutorLimits& limits) {
  auto check = [](const char* name, std::uint64_t value, std::uint64_t low,
                  std::uint64_t high) -> Result<void> {
    if (value < low || value > high) {
      return Fail(Code::kInvalidArgument, OutOfRange(name, value, low, high), name);
    }
    return {};
  };
  PX_CHECK_OK(check("batch_sequences_max", options.batch_sequences_max, 1,
                    std::min<std::uint64_t>(4096, limits.step_logit_rows_max)));
  PX_CHECK_OK(check("batch_tokens_max", options.batch_tokens_max, 1, limits.step_tokens_max));
  PX_CHECK_OK(check("queue_length_max", options.queue_length_max, 1, 65536));
  PX_CHECK_OK(check("choice_count_max", options.choice_count_max, 1, 65536));
  PX_CHECK_OK(check("prompt_logprob_rows_max", options.prompt_logprob_rows_max, 1, 65536));
  PX_CHECK_OK(
      check("context_tokens_max", options.context_tokens_max, 0, limits.context_tokens_max));
  PX_CHECK_OK(check("input_tokens_max", options.input_tokens_max, 0, limits.context_tokens_max));
  PX_CHECK_OK(check("priority_head_start_tokens",
                    static_cast<std::uint64_t>(options.priority_head_start_tokens), 0,
                    std::uint64_t{1} << 32));
  PX_CHECK_OK(check("output_tokens_forecast", options.output_tokens_forecast, 1, 1U << 24));
  PX_CHECK_OK(check("prefix_wait_plans_max", options.prefix_wait_plans_max, 0, 65536));
  PX_CHECK_OK(check("draft_tokens_max", options.draft_tokens_max, 1, 16));
  PX_CHECK_OK(check("adapters.slot_count", options.adapters.slot_count, 0, limits.adapter_slots));
  PX_CHECK_OK(check("adapters.adapters_max", options.adapters.adapters_max, 1, 65536));
  PX_CHECK_OK(check("vocab_size", limits.vocab_size, 1, 1U << 24));
  return {};
}

// Sampling rows come first: every sequence of a step may want one.
std::uint32_t PromptRows(const EngineOptions& options, const ExecutorLimits& limits) {
  if (limits.task != wire::ModelTask::kGenerate &&
      limits.step_logit_rows_max >= options.batch_tokens_max) {
    return options.batch_tokens_max;  // a row is small, and pooling may want every one
  }
  std::uint32_t spare = limits.step_logit_rows_max - options.batch_sequences_max;
  return std::max(1U, std::min(options.prompt_logprob_rows_max, spare));
}

// What a modest host does: it decides only whether a preempted sequence is copied or computed
// again.
constexpr double kCopyBytesPerSecond = 4e9;
constexpr double kMultiplyAddsPerSecond = 1e11;

std::uint32_t HostSlots(const EngineOptions& options, const ExecutorLimits& limits) {
  if (options.preemption == Preemption::kRecompute) {
    return 0;
  }
  double copy = 2 * static_cast<double>(limits.block_size_bytes) / kCopyBytesPerSecond;
  double compute = static_cast<double>(limits.token_multiply_adds) * limits.block_tokens /
                   kMultiplyAddsPerSecond;
  bool pays = options.preemption == Preemption::kSwap || copy < compute;
  return pays ? limits.host_block_count : 0;
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                               std::unique_ptr<StepExecutor> executor,
                                               std::shared_ptr<ProcessorSet> processors,
                                               std::unique_ptr<Drafter> drafter,
                                               std::unique_ptr<kv::Connector> connector,
                                               std::unique_ptr<MediaEncoder> media_encoder) {
  ExecutorLimits limits = executor->limits();
  PX_CHECK_OK(CheckOptions(options, limits));
  PX_TRY(auto cache, kv::BlockCache::Create({.block_count_max = limits.block_count,
                                             .block_tokens = limits.block_tokens,
                                             .identity_key = options.identity_key,
                                             .event_count_max = options.kv_event_count_max,
                                             .events_have_tokens = options.kv_event_tokens}));
  if (drafter && drafter->hidden_size() > 0 && drafter->hidden_size() != limits.hidden_size) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the draft head reads states of {}, the model gives states of {}",
                            drafter->hidden_size(), limits.hidden_size),
                "draft-model");
  }
  if (connector && executor->block_slices().empty()) {
    return Fail(Code::kUnsupported,
                "KV blocks cannot be moved: the host does not reach the cache of this device");
  }
  std::uint64_t pool_tokens = std::uint64_t{limits.block_count} * limits.block_tokens;
  std::uint64_t context =
      options.context_tokens_max > 0 ? options.context_tokens_max : limits.context_tokens_max;
  context = std::min(context, pool_tokens);
  if (limits.whole_texts) {
    context = std::min<std::uint64_t>(context, options.batch_tokens_max);
  }
  auto bound = static_cast<std::uint32_t>(context);
  auto* made = new Engine(  // tidy: new private constructor
      options, std::move(executor), std::move(cache), bound, std::move(processors),
      std::move(drafter), std::move(connector), std::move(media_encoder));
  return std::unique_ptr<Engine>(made);
}

namespace {

/// Words that no row may choose: they stand for media.
std::vector<TokenId> UnspokenOf(const MediaEncoder* encoder) {
  std::vector<TokenId> out;
  if (encoder != nullptr) {
    for (const TokenId token : {encoder->card().image_token, encoder->card().video_token}) {
      if (token >= 0) {
        out.push_back(token);
      }
    }
  }
  return out;
}

}  // namespace

Engine::Engine(const EngineOptions& options, std::unique_ptr<StepExecutor> executor,
               std::unique_ptr<kv::BlockCache> cache, std::uint32_t context_tokens_max,
               std::shared_ptr<ProcessorSet> processors, std::unique_ptr<Drafter> drafter,
               std::unique_ptr<kv::Connector> connector,
               std::unique_ptr<MediaEncoder> media_encoder)
    : options_(options),
      executor_(std::move(executor)),
      media_encoder_(std::move(media_encoder)),
      media_cache_(options.media_cache_bytes),
      limits_(executor_->limits()),
      pooler_(executor_->pooler()),
      context_tokens_max_(context_tokens_max),
      cache_(std::move(cache)),
      sessions_(
          {.blocks_max = static_cast<std::uint32_t>(options.session_share * limits_.block_count),
           .lifetime = options.session_lifetime},
          *cache_),
      adapters_(options.adapters),
      scheduler_({.batch_sequences_max = options.batch_sequences_max,
                  .batch_tokens_max = options.batch_tokens_max,
                  .prompt_logprob_rows_max = PromptRows(options, limits_),
                  .queue_length_max = options.queue_length_max,
                  .host_slots = HostSlots(options, limits_),
                  .admission = options.admission,
                  .priority_head_start_tokens = options.priority_head_start_tokens,
                  .output_tokens_forecast = options.output_tokens_forecast,
                  .prefix_wait_plans_max = options.prefix_wait_plans_max,
                  .reuse_blocks = options.reuse_blocks},
                 *cache_, &adapters_),
      sampler_(std::move(processors), UnspokenOf(media_encoder_.get())),
      constraints_(options.grammars),
      drafter_(std::move(drafter)) {
  limits_.row_size = limits_.row_size > 0 ? limits_.row_size : limits_.vocab_size;
  if (connector) {
    traffic_ = std::make_unique<BlockTraffic>(*cache_, *executor_, std::move(connector));
    scheduler_.KeepPublished();
  }
}

Engine::~Engine() {
  if (in_flight_) {
    (void)executor_->Wait();  // it writes into our memory
  }
}

Result<Engine::MediaShapes> Engine::Validate(const wire::GenerateRequest& request) const {
  if (asleep()) {
    return Fail(Code::kUnavailable,
                "the engine sleeps, its memory is given back; it has to be woken first");
  }
  if (requests_.contains(request.id)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("request id {} is already running", Raw(request.id)), "id");
  }
  PX_TRY(MediaShapes shapes, CheckMedia(request));
  PX_CHECK_OK(CheckRequest(
      request, {.vocab_size = limits_.vocab_size,
                .context_tokens_max = context_tokens_max_,
                .input_tokens_max = options_.input_tokens_max,
                .choice_count_max = options_.choice_count_max,
                .context_bound_by_blocks = context_tokens_max_ < limits_.context_tokens_max,
                .task = limits_.task,
                .token_type_count = limits_.token_type_count,
                .can_skip_tokens = pooler_ && pooler_->can_skip()}));
  PX_CHECK_OK(scheduler_.CheckRoom(request.choice_count));
  return shapes;
}

Result<void> Engine::Submit(wire::GenerateRequest request, rt::Time now, bool cold) {
  PX_TRY(const MediaShapes shapes, Validate(request));
  stalled_ = false;
  now_ = now;
  auto state = std::make_unique<RequestState>();
  state->begun = now;
  if (!request.media.empty()) {
    state->media = TakeMedia(request, shapes);
  }
  if (!request.adapter.empty()) {
    PX_TRY(state->adapter, adapters_.Open(request.adapter, request.adapter_version));
  }
  if (!request.pool) {  // else nothing is drawn
    PX_TRY(state->chain,
           sampler_.processors().Open(request.processors, {.vocab_size = limits_.vocab_size,
                                                           .prompt = request.prompt,
                                                           .end_ids = request.stop.eos_token_ids}));
  }
  PX_CHECK_OK(CheckSecondPrompt(request, state->chain));
  if (request.constraint) {
    PX_TRY(state->constraint, constraints_.Open(*request.constraint, request.choice_count));
    for (std::uint32_t choice = 0; choice < request.generated.size(); ++choice) {
      PX_CHECK_OK(state->constraint->Resume(choice, request.generated[choice]));
    }
  }
  SamplingState first = RowSampler::FirstState(request, state->chain);
  std::vector<SamplingState> states(request.choice_count, first);
  for (std::size_t choice = 0; choice < request.states.size(); ++choice) {
    PX_CHECK_OK(states[choice].Decode(request.states[choice]));
  }
  state->request = std::move(request);
  const wire::GenerateRequest& r = state->request;
  if (r.deadline_left_ns > 0) {
    state->deadline = now + rt::Duration(r.deadline_left_ns);
    next_deadline_ = std::min(next_deadline_, state->deadline);
  }
  const std::string public_salt =
      cache_->tells_events() ? wire::PublicSalt(r.tenant, r.cache_salt) : std::string();
  // Two that differ only in small pictures must not meet by their few tokens.
  const std::string salt = state->media && !state->media->small_digest.empty()
                               ? r.cache_salt + '\0' + state->media->small_digest
                               : r.cache_salt;
  std::shared_ptr<const kv::BlockRoot> root = cache_->MakeRoot(
      {.model_fingerprint = options_.model_fingerprint,
       .numerics_id = options_.numerics_id,
       .kv_dtype = options_.kv_dtype,
       .adapter = state->adapter ? state->adapter->identity : std::string_view(),
       .tenant = r.tenant,
       .salt = salt,
       .public_seed = cache_->tells_events() ? wire::PublicHashSeed(public_salt, r.adapter) : 0,
       .public_adapter = r.adapter,
       .public_salt = public_salt});
  state->sequences.resize(r.choice_count);
  state->has_frame.resize(r.choice_count);
  state->live_count = r.choice_count;
  for (std::uint32_t choice = 0; choice < r.choice_count; ++choice) {
    Sequence& sequence = state->sequences[choice];
    sequence.request = state.get();
    sequence.choice = choice;
    sequence.cold = cold;
    sequence.adapter = state->adapter.get();
    sequence.prompt = state->media ? std::span<const TokenId>(state->media->prompt) : r.prompt;
    sequence.media = state->media ? &state->media->shown : nullptr;
    sequence.generated.reserve(std::min(r.stop.max_tokens, kGeneratedReserve));
    if (!r.generated.empty()) {
      sequence.generated = r.generated[choice];
    }
    sequence.sampling = std::move(states[choice]);
    sequence.tokens_max = static_cast<std::uint32_t>(std::min<std::uint64_t>(
        context_tokens_max_, std::uint64_t{r.prompt.size()} + r.stop.max_tokens));
    sequence.chain = kv::StartOf(root);
    scheduler_.Register(sequence, {.tenant = r.tenant,
                                   .priority = r.priority,
                                   .order = next_order_++,
                                   .shares_prompt = choice > 0});
  }
  AddShadows(*state);
  if (r.pool) {
    StartPooled(*state);
  }
  RequestState& inserted = *requests_.emplace(r.id, std::move(state)).first->second;
  StartSequences(inserted);
  return {};
}

void Engine::StartSequences(RequestState& state) {
  const wire::GenerateRequest& request = state.request;
  Sequence& first = state.sequences[0];
  // A continued choice has sent its first frame, and the prompt's logprobs with it.
  if (request.prompt_logprobs && first.generated.empty()) {
    first.prompt_rows_end = static_cast<std::uint32_t>(request.prompt.size()) - 1;
    state.prompt_logprobs.reserve(request.prompt.size());
    state.prompt_logprobs.emplace_back();
  }
  for (Sequence& sequence : state.sequences) {
    scheduler_.Hold(sequence);
  }
  for (Sequence& shadow : state.shadows) {
    scheduler_.Hold(shadow);
  }
  state.siblings_held = true;
  state.leader = 0;
  for (Sequence& sequence : state.sequences) {
    bool wants_prompt = sequence.choice == 0 && !state.prompt_logprobs.empty();
    bool is_full = !request.pool && sequence.token_count() >= sequence.tokens_max;
    if (is_full && !wants_prompt) {
      End(sequence, wire::FinishReason::kLength, std::nullopt);
    }
  }
  if (state.live_count == 0 || state.sequences[state.leader].phase != SequencePhase::kHeld) {
    return;
  }
  state.awaited_blocks = AwaitsBlocks(state);
  if (!state.awaited_blocks) {
    state.queued = now_;
    if (request.fetch_only) {
      EndFetched(state);
    } else {
      Start(state.sequences[state.leader]);
    }
  }
}

// The prompt's full blocks are findable now: the other choices start from them.
void Engine::ReleaseSiblings(RequestState& state) {
  state.siblings_held = false;
  for (Sequence& sequence : state.sequences) {
    if (sequence.phase == SequencePhase::kHeld) {
      Start(sequence);
    }
  }
}

void Engine::Cancel(const wire::CancelRequest& cancel) {
  auto found = requests_.find(cancel.id);
  if (found == requests_.end()) {
    return;
  }
  stalled_ = false;
  RequestState& state = *found->second;
  const std::size_t before = requests_.size();
  if (!cancel.choice) {
    EndAll(state, wire::FinishReason::kCancelled, std::nullopt);
  } else if (*cancel.choice < state.sequences.size()) {
    End(state.sequences[*cancel.choice], wire::FinishReason::kCancelled, std::nullopt);
  }
  counters_.cancelled_requests += before - requests_.size();
}

Result<void> Engine::LoadAdapter(std::string name, std::shared_ptr<const AdapterWeights> weights,
                                 bool pinned) {
  PX_CHECK_OK(adapters_.Load(std::move(name), std::move(weights), pinned));
  ApplyAdapters(nullptr);
  return {};
}

Result<void> Engine::UnloadAdapter(std::string_view name) {
  PX_CHECK_OK(adapters_.Unload(name));
  ApplyAdapters(nullptr);
  return {};
}

void Engine::AbortAll(const Error& error) {
  stalled_ = false;
  while (!requests_.empty()) {
    EndAll(*requests_.begin()->second, wire::FinishReason::kError, error);
  }
}

void Engine::Expire(rt::Time now) {
  if (now < next_deadline_) {
    return;
  }
  next_deadline_ = rt::kNever;
  std::vector<RequestState*> expired;
  for (auto& [id, state] : requests_) {
    if (state->deadline <= now) {
      expired.push_back(state.get());
    } else {
      next_deadline_ = std::min(next_deadline_, state->deadline);
    }
  }
  std::ranges::sort(expired, {}, [](const RequestState* state) { return state->request.id; });
  for (RequestState* state : expired) {
    ++counters_.expired_requests;
    EndAll(*state, wire::FinishReason::kError,
           Error(Code::kDeadlineExceeded, "the request's deadline passed"));
  }
}

bool Engine::has_work() const { return !requests_.empty() || !frames_.empty() || in_flight_; }

void Engine::CollectPromptLogprobs(const Chunk& chunk, std::span<const float> rows) {
  RequestState& state = *chunk.sequence->request;
  auto top = static_cast<std::uint32_t>(std::max(state.request.top_logprobs, 0));
  for (std::uint32_t i = 0; i < chunk.prompt_rows_count; ++i) {
    TokenId next = state.request.prompt[chunk.prompt_rows_begin + i + 1];
    state.prompt_logprobs.push_back(sampler_.Logprob(
        rows.subspan(std::size_t{i} * limits_.row_size, limits_.row_size), next, top));
  }
}

void Engine::QueueRow(QueuedRows queued) {
  if (queued.sequence->partner != nullptr && !HoldRow(queued)) {
    return;
  }
  if (MaskIsReady(*queued.sequence)) {
    AddRow(queued);
  } else {
    AwaitMask(queued);
  }
}

void Engine::AddRow(const QueuedRows& queued) {
  Sequence& sequence = *queued.sequence;
  RequestState& state = *sequence.request;
  std::span<const float> second;
  if (sequence.partner != nullptr) {
    second = sequence.partner->held_row;
  }
  sample_rows_.push_back({.request = &state.request,
                          .chain = &state.chain,
                          .constraint = state.constraint.get(),
                          .state = &sequence.sampling,
                          .generated = sequence.generated,
                          .choice = sequence.choice,
                          .logits = queued.rows.subspan(
                              std::size_t{queued.next} * limits_.vocab_size, limits_.vocab_size),
                          .second = second});
  queued_rows_.push_back(queued);
}

// Draws the next token of every row of the step together: processors see them as one batch. Where
// the token is the one guessed, the row behind it counts too, in the next round.
void Engine::DrawQueued(StepReport& report) {
  while (!sample_rows_.empty()) {
    report.sampled += static_cast<std::uint32_t>(sample_rows_.size());
    sampler_.Run(sample_rows_);
    next_rows_.clear();
    for (std::size_t i = 0; i < sample_rows_.size(); ++i) {
      Sequence& sequence = *queued_rows_[i].sequence;
      if (sequence.phase == SequencePhase::kEnded) {
        continue;
      }
      TakeToken(sequence, sample_rows_[i]);
      if (TookGuess(queued_rows_[i])) {
        next_rows_.push_back(queued_rows_[i]);
        ++next_rows_.back().next;
      }
    }
    sample_rows_.clear();
    queued_rows_.clear();
    for (const QueuedRows& queued : next_rows_) {
      QueueRow(queued);
    }
  }
  ParkLonely();
}

void Engine::TakeToken(Sequence& sequence, SampleRow& row) {
  const wire::StopConditions& stop = sequence.request->request.stop;
  if (row.error) {
    ++counters_.failed_requests;
    EndAll(*sequence.request, wire::FinishReason::kError, *row.error);
    return;
  }
  ++counters_.sampled_tokens;
  wire::TokenFrame frame = MakeFrame(sequence);
  TokenId token = row.token;
  auto is_in = [&](const std::vector<TokenId>& ids) {
    return std::ranges::find(ids, token) != ids.end();
  };
  if ((!stop.ignore_eos && is_in(stop.eos_token_ids)) || is_in(stop.stop_token_ids)) {
    frame.finish = wire::FinishReason::kStop;
    frame.stop_token = token;
    if (row.logprob) {
      frame.stop_logprob = row.logprob->logprob;
    }
    EndWithFrame(sequence, std::move(frame));
    return;
  }
  sequence.generated.push_back(token);
  frame.tokens.push_back(token);
  frame.state = sequence.sampling.Encode();
  if (row.logprob) {
    frame.logprobs.push_back(std::move(*row.logprob));
  }
  if (sequence.token_count() >= sequence.tokens_max) {
    frame.finish = wire::FinishReason::kLength;
    EndWithFrame(sequence, std::move(frame));
    return;
  }
  frames_.push_back(std::move(frame));
  if (sequence.partner != nullptr) {
    ContinuePair(sequence, token);
  } else if (!sequence.held_row.empty()) {
    Resume(sequence);
  }
}

wire::TokenFrame Engine::MakeFrame(Sequence& sequence) {
  RequestState& state = *sequence.request;
  wire::TokenFrame frame;
  frame.id = state.request.id;
  frame.choice = sequence.choice;
  if (!state.has_frame[sequence.choice]) {
    state.has_frame[sequence.choice] = true;
    frame.cached_tokens = sequence.cached_tokens;
    if (state.adapter) {
      frame.adapter_version = state.adapter->weights->fingerprint();
    }
    // A prompt cut short by an early end has no complete list, so none is sent.
    if (sequence.choice == 0 && state.prompt_logprobs.size() == state.request.prompt.size()) {
      frame.prompt_logprobs = std::move(state.prompt_logprobs);
    }
  }
  return frame;
}

void Engine::End(Sequence& sequence, wire::FinishReason reason, const std::optional<Error>& error) {
  if (sequence.phase == SequencePhase::kEnded) {
    return;
  }
  wire::TokenFrame frame = MakeFrame(sequence);
  frame.finish = reason;
  frame.error = error;
  EndWithFrame(sequence, std::move(frame));
}

// Its tokens' times are known to who gives them away.
wire::WorkerTimes Engine::TimesOf(const Sequence& sequence) const {
  const RequestState& state = *sequence.request;
  const auto since = [&](rt::Time at) {
    return at == rt::kNever ? std::int64_t{-1} : (at - state.begun).count();
  };
  return {.queued_ns = since(state.queued),
          .scheduled_ns = since(state.scheduled),
          .awaited_blocks = state.awaited_blocks,
          .preempted = sequence.preempted,
          .cached_tokens = sequence.cached_tokens,
          .computed_tokens = static_cast<std::uint32_t>(
              std::min<std::uint64_t>(sequence.computed_total, ~std::uint32_t{0})),
          .brought_bytes = traffic_ ? traffic_->brought_bytes(state.request.id) : 0};
}

void Engine::EndWithFrame(Sequence& sequence, wire::TokenFrame frame) {
  frame.legs.emplace_back().times = TimesOf(sequence);
  frames_.push_back(std::move(frame));
  EndShadow(sequence);
  if (sequence.request->live_count == 1) {
    EndTraffic(sequence, *frames_.back().finish);
    KeepForSession(sequence, *frames_.back().finish);
  }
  scheduler_.Remove(sequence);
  std::erase(awaited_, &sequence);
  if (drafter_) {
    drafter_->Forget(DraftKey{sequence.rank.order});
  }
  RequestState& state = *sequence.request;
  if (--state.live_count == 0) {
    auto found = requests_.find(state.request.id);
    ended_.push_back(std::move(found->second));
    requests_.erase(found);
    return;
  }
  if (state.siblings_held && sequence.choice == state.leader) {
    auto next = std::ranges::find(state.sequences, SequencePhase::kHeld, &Sequence::phase);
    PX_ASSERT(next != state.sequences.end());
    state.leader = next->choice;
    Start(*next);
  }
}

void Engine::EndAll(RequestState& state, wire::FinishReason reason,
                    const std::optional<Error>& error) {
  // Last choice first, so that no sibling is started only to be ended.
  for (std::size_t i = state.sequences.size(); i-- > 0;) {
    End(state.sequences[i], reason, error);
  }
}

wire::ModelCard Engine::card() const {
  wire::ModelCard card;
  card.fingerprint = options_.model_fingerprint;
  card.numerics_id = options_.numerics_id;
  card.vocab_size = limits_.vocab_size;
  card.context_tokens_max = context_tokens_max_;
  card.block_tokens = limits_.block_tokens;
  card.block_count = limits_.block_count;
  card.batch_sequences_max = options_.batch_sequences_max;
  card.batch_tokens_max = options_.batch_tokens_max;
  card.logits_processors = sampler_.processors().names();
  card.adapters = adapters_.List();
  card.task = limits_.task;
  card.feature_count = pooler_ ? pooler_->feature_count() : 0;
  card.token_type_count = limits_.token_type_count;
  if (media_encoder_) {
    card.vision = media_encoder_->card();
  }
  return card;
}

void Engine::CheckInvariants() const {
  scheduler_.CheckInvariants();
  cache_->CheckInvariants();
  adapters_.CheckInvariants();
  std::uint32_t running = 0;
  std::uint32_t queued = 0;
  auto count = [&](const Sequence& sequence) {
    running += sequence.phase == SequencePhase::kRunning ? 1 : 0;
    queued += sequence.phase == SequencePhase::kWaiting || sequence.phase == SequencePhase::kHeld;
    PX_ASSERT(sequence.held_row.empty() || sequence.phase == SequencePhase::kHeld ||
              sequence.phase == SequencePhase::kEnded);
    PX_ASSERT(sequence.phase != SequencePhase::kEnded || sequence.blocks.empty());
  };
  for (const auto& [id, state] : requests_) {
    PX_ASSERT(state->live_count > 0);
    std::uint32_t live = 0;
    for (const Sequence& sequence : state->sequences) {
      count(sequence);
      live += sequence.phase != SequencePhase::kEnded ? 1 : 0;
    }
    std::ranges::for_each(state->shadows, count);
    PX_ASSERT(live == state->live_count);
  }
  PX_ASSERT(running == scheduler_.running_count() && queued == scheduler_.queued_count());
  PX_ASSERT(busy() || cache_->pool().pinned_count() == 0);
}

}  // namespace pixii::engine
