// Rows whose masks cost more than the steps of a batch can wait for: they are kept, their sequences
// leave the batch, and every step works on their masks for a while, until they can be drawn from.
//
// A sequence that waits is parked as one of a pair is (engine_pairs.cc): held, without blocks,
// which stay findable. Its row's bits are those of the step that computed it.
#include <algorithm>

#include "base/assert.h"
#include "engine/engine.h"
#include "engine/request_state.h"

namespace pixii::engine {

namespace {

/// What who waits gets of every step, whatever the others' masks cost.
constexpr std::uint64_t kAwaitedStepsMin = 50'000;

}  // namespace

bool Engine::MaskIsReady(Sequence& sequence) {
  RequestConstraint* constraint = sequence.request->constraint.get();
  return constraint == nullptr ||
         constraint->MakeReady(sequence.choice, sequence.generated, mask_work_);
}

/// Keeps the row that comes next of `queued`.
void Engine::AwaitMask(const QueuedRows& queued) {
  Sequence& sequence = *queued.sequence;
  if (queued.count > 1) {
    JudgeDraft(sequence, queued.count - 1, queued.next);
    sequence.draft.clear();
  }
  if (sequence.partner == nullptr) {
    std::span<const float> row =
        queued.rows.subspan(std::size_t{queued.next} * limits_.vocab_size, limits_.vocab_size);
    sequence.held_row.assign(row.begin(), row.end());
  }
  awaited_.push_back(&sequence);
  for (Sequence* half : {&sequence, sequence.partner}) {
    if (half != nullptr && half->phase == SequencePhase::kRunning) {
      scheduler_.Park(*half);
    }
  }
}

/// Works on the masks of those who wait, and draws where one is done. Who had its share and is not
/// done goes behind the others.
void Engine::DrawAwaited(StepReport& report) {
  mask_work_ = std::max(mask_work_, kAwaitedStepsMin);
  for (std::size_t left = awaited_.size(); left > 0 && mask_work_ > 0; --left) {
    Sequence& sequence = *awaited_.front();
    PX_ASSERT(sequence.phase == SequencePhase::kHeld);
    awaited_.erase(awaited_.begin());
    if (MaskIsReady(sequence)) {
      AddRow({.sequence = &sequence, .rows = sequence.held_row});
    } else {
      awaited_.push_back(&sequence);
    }
  }
  DrawQueued(report);
}

// A token was drawn from the row that `sequence` kept.
void Engine::Resume(Sequence& sequence) {
  sequence.held_row.clear();
  scheduler_.Enqueue(sequence);
}

}  // namespace pixii::engine
