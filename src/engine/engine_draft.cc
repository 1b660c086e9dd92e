// How the engine lets several tokens of a sequence be judged in one step: guesses before the plan,
// acceptance after the draw.
#include <algorithm>

#include "engine/engine.h"
#include "engine/request_state.h"

namespace pixii::engine {

namespace {

/// So many drafts in a row without one right guess, and the sequence rests for some tokens.
constexpr std::uint32_t kMissesMax = 4;
constexpr std::uint32_t kRestTokens = 16;

}  // namespace

/// Fills the drafts of the sequences that decode. They are for the next plan alone. What a grammar
/// leaves no choice about goes first: it has to be computed anyhow, in a crowd too.
void Engine::GuessTokens() {
  const bool crowded = scheduler_.running_count() > options_.draft_sequences_max;
  drafts_.clear();
  for (Sequence* sequence : scheduler_.running()) {
    sequence->draft.clear();
    sequence->draft_forced = false;
    RequestConstraint* constraint =
        options_.jump_ahead ? sequence->request->constraint.get() : nullptr;
    const std::uint32_t left = sequence->tokens_max - sequence->token_count();
    // The step gives one token by itself; of a pair, both rows would have to be judged together.
    if ((constraint == nullptr && !drafter_) || sequence->partner != nullptr || left < 2 ||
        sequence->uncomputed_tokens() != 1) {
      continue;
    }
    const std::uint32_t count_max = std::min(options_.draft_tokens_max, left - 1);
    const auto rests = [&](bool forced) {
      return sequence->generated.size() < sequence->misses[forced ? 1 : 0].pause_end;
    };
    if (constraint != nullptr && !rests(true)) {
      constraint->Guess(sequence->choice, sequence->generated, count_max, sequence->draft);
      sequence->draft_forced = !sequence->draft.empty();
    }
    if (!sequence->draft.empty() || !drafter_ || crowded || rests(false)) {
      continue;
    }
    drafts_.push_back({.key = DraftKey{sequence->rank.order},
                       .request = &sequence->request->request,
                       .choice = sequence->choice,
                       .generated = sequence->generated,
                       .count_max = count_max,
                       .guesses = &sequence->draft});
  }
  if (!drafts_.empty()) {
    drafter_->Draft(drafts_);
  }
}

/// Whether a sequence of the batch may get guesses of its grammar: they need the token before.
bool Engine::JumpsAhead() const {
  return options_.jump_ahead &&
         std::ranges::any_of(scheduler_.running(), [](const Sequence* sequence) {
           return sequence->request->constraint != nullptr;
         });
}

/// Makes the masks of the rows that the step in flight computes, meanwhile.
void Engine::PrepareMasks(std::span<const Chunk> chunks) {
  for (const Chunk& chunk : chunks) {
    const Sequence& sequence = *chunk.sequence;
    RequestConstraint* constraint = sequence.request->constraint.get();
    if (constraint != nullptr && chunk.sample_rows > 0 && !sequence.is_shadow &&
        sequence.phase == SequencePhase::kRunning) {
      constraint->Prepare(sequence.choice, sequence.generated,
                          std::span(sequence.draft).first(chunk.draft_count()), mask_work_);
    }
  }
}

/// Gives the drafter the states that the step at hand computed for `chunks`, all of its rows in
/// order: those of guesses that were taken, and none of the others.
void Engine::ShowStates(std::span<const Chunk> chunks) {
  if (!drafter_ || drafter_->hidden_size() == 0) {
    return;
  }
  const std::span<const float> states = executor_->hidden_rows();
  const std::size_t hidden = limits_.hidden_size;
  std::size_t row_count = 0;
  for (const Chunk& chunk : chunks) {
    row_count += chunk.count;
  }
  if (states.size() != row_count * hidden) {
    return;  // the step failed before it had them
  }
  observed_.clear();
  observed_tokens_.resize(row_count);
  std::size_t row = 0;
  for (const Chunk& chunk : chunks) {
    const Sequence& sequence = *chunk.sequence;
    const std::size_t end =
        std::min({std::size_t{chunk.begin} + chunk.count, std::size_t{sequence.computed_tokens},
                  std::size_t{sequence.token_count()} - 1});
    if (sequence.phase == SequencePhase::kRunning && sequence.partner == nullptr &&
        !sequence.request->pooled && end > chunk.begin) {
      const std::size_t count = end - chunk.begin;
      for (std::size_t i = 0; i < count; ++i) {
        observed_tokens_[row + i] = sequence.token(static_cast<std::uint32_t>(chunk.begin + i + 1));
      }
      observed_.push_back({.key = DraftKey{sequence.rank.order},
                           .begin = chunk.begin,
                           .after = std::span(observed_tokens_).subspan(row, count),
                           .states = states.subspan(row * hidden, count * hidden)});
    }
    row += chunk.count;
  }
  drafter_->Observe(observed_);
}

/// Whether the token just drawn is the guess whose row follows; then that row's tokens are computed
/// already.
bool Engine::TookGuess(const QueuedRows& queued) {
  Sequence& sequence = *queued.sequence;
  std::uint32_t guesses = queued.count - 1;
  bool goes_on = sequence.phase == SequencePhase::kRunning;
  bool took =
      goes_on && queued.next < guesses && sequence.generated.back() == sequence.draft[queued.next];
  if (took) {
    Chunk one{.sequence = &sequence, .begin = sequence.computed_tokens, .count = 1};
    tables_changed_ = scheduler_.Complete(one) || tables_changed_;
    return true;
  }
  if (guesses > 0) {
    JudgeDraft(sequence, guesses, queued.next);
  }
  return false;
}

void Engine::JudgeDraft(Sequence& sequence, std::uint32_t guesses, std::uint32_t taken) {
  ++counters_.drafts;
  counters_.drafted_tokens += guesses;
  counters_.accepted_tokens += taken;
  Sequence::Misses& misses = sequence.misses[sequence.draft_forced ? 1 : 0];
  misses.count = taken > 0 ? 0 : misses.count + 1;
  if (misses.count >= kMissesMax) {
    misses.count = 0;
    misses.pause_end = static_cast<std::uint32_t>(sequence.generated.size()) + kRestTokens;
  }
}

}  // namespace pixii::engine
