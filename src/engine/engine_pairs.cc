// Choices with a second prompt (classifier-free guidance): a shadow sequence computes the second
// prompt and the same generated tokens; a token is drawn when the logits of both are there.
//
// Who is first keeps its row and is parked: held, without blocks, so that a pair never waits for
// blocks that the other half has. Blocks stay findable, so little is computed again. A step that
// was planned ahead drops whoever was parked meanwhile. Guesses are not made for a pair.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "engine/engine.h"
#include "engine/request_state.h"

namespace pixii::engine {

Result<void> Engine::CheckSecondPrompt(const wire::GenerateRequest& request,
                                       const ProcessorChain& chain) const {
  std::size_t size = chain.second_prompt().size();
  std::size_t generated = 0;
  for (const std::vector<TokenId>& tokens : request.generated) {
    generated = std::max(generated, tokens.size());
  }
  if (size > 0 && size + generated >= context_tokens_max_) {
    return Fail(Code::kInvalidArgument,
                fmt::format("nvext.logits_processors: the negative prompt has {} tokens and {} are "
                            "generated; a context has {}",
                            size, generated, context_tokens_max_),
                "nvext.logits_processors");
  }
  return size > 0 ? scheduler_.CheckRoom(2 * request.choice_count) : Result<void>();
}

/// A shadow has a rank beside its choice's and no place of its own in the shares: what it computes
/// is charged to the choice at its end.
void Engine::AddShadows(RequestState& state) {
  std::span<const TokenId> second = state.chain.second_prompt();
  const std::uint32_t output_max = state.request.stop.max_tokens;
  if (second.empty() || output_max == 0) {
    return;
  }
  const std::size_t longer = std::max(second.size(), state.request.prompt.size());
  const auto output =
      static_cast<std::uint32_t>(std::min<std::size_t>(output_max, context_tokens_max_ - longer));
  state.shadows.resize(state.sequences.size());
  for (Sequence& main : state.sequences) {
    Sequence& shadow = state.shadows[main.choice];
    shadow.request = &state;
    shadow.choice = main.choice;
    shadow.rank = {main.rank.tag, next_order_++};
    shadow.prompt = second;
    shadow.adapter = main.adapter;
    shadow.generated = main.generated;
    shadow.generated.reserve(main.generated.capacity());
    shadow.chain = kv::StartOf(main.chain.root);
    shadow.is_shadow = true;
    shadow.partner = &main;
    main.partner = &shadow;
    main.tokens_max = static_cast<std::uint32_t>(main.prompt.size()) + output;
    shadow.tokens_max = static_cast<std::uint32_t>(second.size()) + output;
  }
}

// Queues a held choice, and what computes its second prompt if a token is to be drawn.
void Engine::Start(Sequence& sequence) {
  scheduler_.Enqueue(sequence);
  if (sequence.partner != nullptr && sequence.token_count() < sequence.tokens_max) {
    scheduler_.Enqueue(*sequence.partner);
  }
}

/// Keeps a row of a pair. False: the partner's is not there yet; else `queued` becomes the choice's
/// own.
bool Engine::HoldRow(QueuedRows& queued) {
  Sequence& sequence = *queued.sequence;
  std::span<const float> row = queued.rows.first(limits_.vocab_size);
  sequence.held_row.assign(row.begin(), row.end());
  if (sequence.partner->held_row.empty()) {
    lonely_.push_back(&sequence);
    return false;
  }
  queued.sequence = sequence.is_shadow ? sequence.partner : &sequence;
  queued.rows = queued.sequence->held_row;
  return true;
}

// After a step's draws: whose partner was not in the step waits for it without blocks.
void Engine::ParkLonely() {
  for (Sequence* sequence : lonely_) {
    if (!sequence->held_row.empty() && sequence->phase == SequencePhase::kRunning) {
      scheduler_.Park(*sequence);
    }
  }
  lonely_.clear();
}

// `token` was drawn for a choice that goes on: both halves go on behind it.
void Engine::ContinuePair(Sequence& sequence, TokenId token) {
  Sequence& shadow = *sequence.partner;
  shadow.generated.push_back(token);
  for (Sequence* half : {&sequence, &shadow}) {
    half->held_row.clear();
    if (half->phase == SequencePhase::kHeld) {
      scheduler_.Enqueue(*half);
    }
  }
}

// The choice ends: so does what computes for it, at the choice's cost.
void Engine::EndShadow(Sequence& sequence) {
  if (sequence.partner != nullptr) {
    sequence.computed_total += sequence.partner->computed_total;
    scheduler_.Remove(*sequence.partner);
  }
}

}  // namespace pixii::engine
