// How the engine runs its steps: plan, begin, plan the next meanwhile, end, recover from faults.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "engine/engine.h"
#include "engine/request_state.h"
#include "engine/step_builder.h"

namespace pixii::engine {

namespace {

/// How often a chunk of a failed batch is run alone before its request fails, and how often the
/// only chunk of one is: a fault that passes costs nobody an answer.
constexpr int kAttemptsOfMany = 2;
constexpr int kAttemptsOfOne = 1;

/// Steps of grammars that one step's masks may cost beside it, some 20 ms; who has none then waits.
constexpr std::uint64_t kMaskStepsOfStep = 150'000;

}  // namespace

StepReport Engine::Step(rt::Time now, std::vector<wire::TokenFrame>& frames) {
  StepReport report;
  now_ = now;
  Poll(now);
  Expire(now);
  if (!in_flight_) {
    StartLoads();
  }
  mask_work_ = kMaskStepsOfStep;
  bool overlaps = executor_->overlaps() && !drafter_ && !JumpsAhead();
  if (in_flight_ || BeginPlanned()) {
    if (overlaps) {
      PlanAhead();
    }
    if (executor_->overlaps()) {
      PrepareMasks(current_->chunks);
    }
    FinishStep(report);
    TellPublished();
    if (overlaps) {
      std::swap(current_, ahead_);
      DropEnded(*current_);
      StartLoads();
      if (Begin(*current_)) {
        ++counters_.steps_ahead;
      } else {
        BeginPlanned();
      }
    }
  }
  DrawAwaited(report);
  std::ranges::move(frames_, std::back_inserter(frames));
  frames_.clear();
  if (!in_flight_) {
    ended_.clear();
    ApplyAdapters(nullptr);
    if (!report.ran || !has_work()) {
      executor_->Rest();
    }
    stalled_ = traffic_ && !report.ran && !requests_.empty() && awaited_.empty() &&
               !scheduler_.holds_admissions();
  }
  return report;
}

// Plans with nothing in flight and begins. False: there is nothing to compute.
bool Engine::BeginPlanned() {
  GuessTokens();
  HoldPrompts();
  TakePlan(scheduler_.Plan(), *current_);
  return Begin(*current_);
}

void Engine::TakePlan(std::span<const Chunk> plan, PlannedStep& step) {
  step.chunks.assign(plan.begin(), plan.end());
  step.copies.assign(scheduler_.copies().begin(), scheduler_.copies().end());
  BuildStep(step.chunks, limits_.block_tokens, step.batch);
}

void Engine::HoldPrompts() {
  scheduler_.HoldAdmissions(executor_->HoldsPrompts(
      {.prompts = scheduler_.waiting_count(), .decodes = scheduler_.running_count()}));
}

void Engine::PlanAhead() {
  HoldPrompts();
  TakePlan(scheduler_.PlanAhead(), *ahead_);
  tables_changed_ = false;
}

// Takes out of a step that was planned ahead what ended meanwhile, and puts in the tokens that the
// step before it gave.
void Engine::DropEnded(PlannedStep& step) {
  std::size_t planned = step.chunks.size();
  std::erase_if(step.chunks, [](const Chunk& chunk) {
    return chunk.sequence->phase != SequencePhase::kRunning;
  });
  std::erase_if(step.copies,
                [](const SwapCopy& copy) { return copy.sequence->phase == SequencePhase::kEnded; });
  // Nothing that is left names an ended sequence.
  ended_.clear();
  if (step.chunks.size() != planned || tables_changed_) {
    BuildStep(step.chunks, limits_.block_tokens, step.batch);
  } else {
    PatchTokens(step.chunks, step.batch);
  }
}

bool Engine::Begin(PlannedStep& step) {
  RunCopies(step);
  ApplyAdapters(&step);
  if (media_encoder_) {
    EncodeMedia(step);
  }
  if (step.chunks.empty()) {
    return false;
  }
  for (const Chunk& chunk : step.chunks) {
    scheduler_.Launch(chunk);
    if (RequestState& state = *chunk.sequence->request; state.scheduled == rt::kNever) {
      state.scheduled = now_;
    }
  }
  executor_->Begin(step.batch, LogitsFor(step.batch));
  in_flight_ = true;
  return true;
}

// Sequence by sequence, so that one whose bytes are not what they were is computed again and no
// other is harmed.
void Engine::RunCopies(PlannedStep& step) {
  std::size_t chunk_count = step.chunks.size();
  for (std::size_t begin = 0; begin < step.copies.size();) {
    const SwapCopy& first = step.copies[begin];
    copies_.clear();
    std::size_t end = begin;
    for (; end < step.copies.size() && step.copies[end].sequence == first.sequence &&
           step.copies[end].to_host == first.to_host;
         ++end) {
      const SwapCopy& copy = step.copies[end];
      copies_.push_back({.block = Raw(copy.block),
                         .host_slot = copy.host_slot,
                         .tag = copy.tag,
                         .to_host = copy.to_host});
    }
    Result<void> copied = executor_->CopyBlocks(copies_);
    // What did not get out is found missing, by its tag, when it is to come in.
    if (!first.to_host && copied) {
      scheduler_.SwapInDone(*first.sequence);
    } else if (!first.to_host) {
      scheduler_.SwapInFailed(*first.sequence);
      std::erase_if(step.chunks,
                    [&](const Chunk& chunk) { return chunk.sequence == first.sequence; });
    }
    begin = end;
  }
  step.copies.clear();
  if (step.chunks.size() != chunk_count) {
    BuildStep(step.chunks, limits_.block_tokens, step.batch);
  }
}

// Slots get what the plan, and loads and unloads since, want there. A step in flight still reads
// them: then this waits. Requests whose adapter does not get in end, and leave `step`.
void Engine::ApplyAdapters(PlannedStep* step) {
  if (in_flight_ || asleep() || !adapters_.has_changes()) {
    return;
  }
  for (const AdapterChange& change : adapters_.TakeChanges()) {
    Result<void> set = executor_->SetAdapter(change.slot, change.weights.get());
    if (set) {
      continue;
    }
    std::vector<RequestState*> harmed;
    for (auto& [id, state] : requests_) {
      if (state->adapter && state->adapter->slot == static_cast<std::int32_t>(change.slot) &&
          state->adapter->weights == change.weights) {
        harmed.push_back(state.get());
      }
    }
    adapters_.SlotFailed(change.slot);
    std::ranges::sort(harmed, {}, [](const RequestState* state) { return state->request.id; });
    for (RequestState* state : harmed) {
      ++counters_.failed_requests;
      EndAll(*state, wire::FinishReason::kError, set.error());
    }
  }
  if (step != nullptr && std::erase_if(step->chunks, [](const Chunk& chunk) {
                           return chunk.sequence->phase == SequencePhase::kEnded;
                         }) > 0) {
    BuildStep(step->chunks, limits_.block_tokens, step->batch);
  }
}

std::span<float> Engine::LogitsFor(const kernels::StepBatch& batch) {
  std::size_t wanted = batch.logit_rows.size() * limits_.row_size;
  if (wanted > logits_size_) {
    logits_ = std::make_unique_for_overwrite<float[]>(wanted);
    logits_size_ = wanted;
  }
  return std::span(logits_.get(), wanted);
}

void Engine::FinishStep(StepReport& report) {
  const PlannedStep& step = *current_;
  report.ran = true;
  report.sequences = static_cast<std::uint32_t>(step.chunks.size());
  ++counters_.steps;
  Result<void> executed = executor_->Wait();
  in_flight_ = false;
  device_failed_ = !executed && executed.error().code() != Code::kModelFault;
  report.virtual_time_ns = executor_->virtual_time_ns();
  for (const Chunk& chunk : step.chunks) {
    scheduler_.Land(chunk);
  }
  if (!executed) {
    Recover(step, executed.error(), report);
    return;
  }
  std::size_t row = 0;
  for (const Chunk& chunk : step.chunks) {
    std::size_t rows = LogitRowCount(chunk);
    Finished(chunk,
             std::span(logits_.get(), logits_size_)
                 .subspan(row * limits_.row_size, rows * limits_.row_size),
             report);
    row += rows;
  }
  DrawQueued(report);
  ShowStates(step.chunks);
}

// Whose rows are sound goes on as if nothing had happened; the others are run again alone, and who
// fails alone is the cause. A device that is gone fails all of them anyhow.
void Engine::Recover(const PlannedStep& step, const Error& error, StepReport& report) {
  ++counters_.faults;
  ahead_->chunks.clear();  // it was planned for another outcome
  bool model_fault = error.code() == Code::kModelFault;
  faulty_rows_.assign(step.batch.logit_rows.size(), executor_->faulty_logit_rows().empty());
  for (std::int32_t row : executor_->faulty_logit_rows()) {
    faulty_rows_[static_cast<std::size_t>(row)] = true;
  }
  bool all_faulty = executor_->faulty_logit_rows().empty();
  retries_.clear();
  std::size_t row = 0;
  for (const Chunk& chunk : step.chunks) {
    std::size_t rows = LogitRowCount(chunk);
    auto first = faulty_rows_.begin() + static_cast<std::ptrdiff_t>(row);
    bool faulty = all_faulty || std::find(first, first + static_cast<std::ptrdiff_t>(rows), true) !=
                                    first + static_cast<std::ptrdiff_t>(rows);
    if (faulty || !model_fault) {
      retries_.push_back(chunk.WithoutDraft());  // a guess must not fail a request
    } else {
      Finished(chunk,
               std::span(logits_.get(), logits_size_)
                   .subspan(row * limits_.row_size, rows * limits_.row_size),
               report);
    }
    row += rows;
  }
  DrawQueued(report);  // running others again overwrites the rows
  ShowStates(step.chunks);
  int attempts = !model_fault ? 0 : step.chunks.size() == 1 ? kAttemptsOfOne : kAttemptsOfMany;
  for (const Chunk& chunk : retries_) {
    if (chunk.sequence->phase != SequencePhase::kEnded) {
      Retry(chunk, attempts, error, report);
    }
  }
}

void Engine::Retry(const Chunk& chunk, int attempts, Error error, StepReport& report) {
  for (; attempts > 0; --attempts) {
    ++counters_.retried_chunks;
    Result<void> executed = ExecuteAlone(chunk, report);
    if (executed) {
      Finished(chunk, std::span(logits_.get(), alone_.logit_rows.size() * limits_.row_size),
               report);
      DrawQueued(report);
      ShowStates({&chunk, 1});
      return;
    }
    error = executed.error();
    if (error.code() != Code::kModelFault) {
      break;
    }
  }
  ++counters_.failed_requests;
  // A model may see a fault only where logits are wanted, long after the chunk that caused it.
  if (traffic_) {
    traffic_->Distrust(chunk.sequence->blocks);
  }
  scheduler_.Distrust(*chunk.sequence);
  EndAll(*chunk.sequence->request, wire::FinishReason::kError, error);
}

Result<void> Engine::ExecuteAlone(const Chunk& chunk, StepReport& report) {
  BuildStep(std::span(&chunk, 1), limits_.block_tokens, alone_);
  Result<void> executed = executor_->Execute(alone_, LogitsFor(alone_));
  report.virtual_time_ns += executor_->virtual_time_ns();
  return executed;
}

void Engine::Finished(const Chunk& chunk, std::span<float> rows, StepReport& report) {
  Sequence& sequence = *chunk.sequence;
  if (sequence.phase == SequencePhase::kEnded) {
    return;  // cancelled while the step ran, or its request failed with another choice
  }
  report.tokens += chunk.count;
  if (sequence.request->pooled) {
    ReadPooled(chunk, rows);
    return;
  }
  CollectPromptLogprobs(chunk, rows);
  tables_changed_ = scheduler_.Complete(chunk.WithoutDraft()) || tables_changed_;
  RequestState& state = *sequence.request;
  if (state.siblings_held && !sequence.is_shadow && sequence.choice == state.leader &&
      sequence.computed_tokens >= sequence.prompt.size()) {
    ReleaseSiblings(state);
  }
  if (chunk.sample_rows == 0) {
    TellProgress(sequence);
    return;
  }
  if (sequence.generated.size() >= state.request.stop.max_tokens) {  // echo without generation
    End(sequence, wire::FinishReason::kLength, std::nullopt);
    return;
  }
  QueueRow({.sequence = &sequence,
            .rows = rows.subspan(std::size_t{chunk.prompt_rows_count} * limits_.row_size),
            .count = chunk.sample_rows});
}

}  // namespace pixii::engine
