// One choice of one request while the engine has it: its tokens, its blocks, how far it is
// computed.
//
// Thread: the engine thread.
// tokens = prompt + generated; the KV of the first computed_tokens of them is in `blocks`. A step
// computes [computed_tokens, computed_tokens + n); if it reaches the last token, that row's logits
// give the next one. While a step is in flight, the next may be planned as if it had succeeded:
// then planned_tokens() are computed and expected_tokens() are there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "engine/fair_share.h"
#include "engine/sampling_state.h"
#include "kv/block_pool.h"
#include "kv/prefix_index.h"
#include "model/sequence_media.h"

namespace pixii::engine {

/// Who goes first: the smaller. A total order: `order` differs between any two sequences.
struct Rank {
  std::int64_t tag = 0;     // FairShare's: tokens of virtual time
  std::uint64_t order = 0;  // of submission

  friend auto operator<=>(const Rank&, const Rank&) = default;
};

enum class SequencePhase : std::uint8_t {
  kHeld,     // waits for the request's first choice to compute the prompt, or for its partner's row
  kWaiting,  // in the queue
  kRunning,  // in the batch
  kEnded,
};

struct Adapter;
struct RequestMedia;
struct RequestState;

/// Where the KV of a preempted sequence waits in the host pool.
struct SwappedBlocks {
  std::vector<std::uint32_t> slots;  // of blocks 0, 1, ..
  std::uint32_t tokens = 0;          // whose KV they hold
  std::uint64_t tag = 0;
};

struct Sequence {
  RequestState* request = nullptr;  // the engine's; unknown to the scheduler
  SequencePhase phase = SequencePhase::kHeld;
  Rank rank;
  std::uint32_t choice = 0;
  std::span<const TokenId> prompt;  // of the request, which lives longer
  std::vector<TokenId> generated;
  const model::SequenceMedia* media = nullptr;  // of the request, as `prompt`; null: text alone

  std::uint32_t tokens_max = ~0U;  // token_count never passes it
  ShareTicket ticket;
  std::uint64_t computed_total = 0;  // tokens computed for it, again after preemption included

  std::vector<kv::BlockPin> blocks;  // of all tokens in `tokens`, or as many as it got
  std::uint32_t computed_tokens = 0;
  std::uint32_t in_flight_tokens = 0;   // that the step in flight computes
  std::uint32_t in_flight_samples = 0;  // tokens it is expected to give
  SwappedBlocks swapped;                // empty: none
  kv::ChainPosition chain;              // last of its blocks that is findable
  std::uint32_t chain_blocks = 0;       // how many are; the chain stops for good at a collision
  bool chain_broken = false;
  bool cold = false;  // it uses no block that another computed, and gives none

  std::uint32_t cached_tokens = 0;  // prompt tokens found in the cache before its first preemption
  bool preempted = false;           // ever
  std::uint64_t blocked_version = 0;   // cache state at which it did not fit
  std::uint32_t prefix_waits = 0;      // plans in which it waited for another's blocks
  std::uint64_t prefix_wait_plan = 0;  // the last of them
  std::uint32_t overtaken = 0;         // times a cached prefix went before it

  Adapter* adapter = nullptr;  // of the request; null: the model alone
  bool holds_slot = false;     // of the adapter on the device: while it runs

  SamplingState sampling;  // what tokens cannot give back

  /// How often one who guesses was wrong.
  struct Misses {
    std::uint32_t count = 0;      // drafts in a row of which nothing was taken
    std::uint32_t pause_end = 0;  // generated tokens before which none is made
  };

  std::vector<TokenId> draft;  // guesses of what follows the last token, for the next step
  bool draft_forced = false;   // they are the grammar's, else the drafter's
  Misses misses[2];            // [draft_forced]

  /// The same choice behind a second prompt, or the choice that it computes for; null: none.
  Sequence* partner = nullptr;
  bool is_shadow = false;       // gives logits to its partner and no frames
  std::vector<float> held_row;  // [vocab] logits that wait for the partner's; empty: none

  std::span<const std::int32_t> token_types;  // [prompt] of an encoder, or empty: all 0
  bool whole_text = false;  // its tokens are one chunk, and nobody else can use its blocks
  bool wants_last = true;   // the last token's row is wanted: to draw from, or as the result

  /// Rows of the prompt whose logits are wanted: [prompt_rows_done, prompt_rows_end).
  std::uint32_t prompt_rows_done = 0;
  std::uint32_t prompt_rows_end = 0;

  std::uint32_t token_count() const {
    return static_cast<std::uint32_t>(prompt.size() + generated.size());
  }

  std::uint32_t uncomputed_tokens() const { return token_count() - computed_tokens; }

  std::uint32_t planned_tokens() const { return computed_tokens + in_flight_tokens; }

  std::uint32_t expected_tokens() const { return token_count() + in_flight_samples; }

  /// Tokens that the next step has to compute; 0 if the one in flight will be the last.
  std::uint32_t unplanned_tokens() const {
    return in_flight_samples > 0 && expected_tokens() >= tokens_max
               ? 0
               : expected_tokens() - planned_tokens();
  }

  TokenId token(std::uint32_t index) const {
    return index < prompt.size() ? prompt[index] : generated[index - prompt.size()];
  }

  /// What the next step computes at `index`, which may lie behind the last token: a guess, or 0 for
  /// a token that a step in flight will give.
  TokenId planned_token(std::uint32_t index) const {
    if (index < token_count()) {
      return token(index);
    }
    std::size_t guess = index - token_count();
    return guess < draft.size() ? draft[guess] : 0;
  }

  /// Tokens [begin, begin + count): a view of the prompt if they lie in it, else copied to
  /// `scratch`.
  std::span<const TokenId> tokens(std::uint32_t begin, std::uint32_t count,
                                  std::vector<TokenId>& scratch) const {
    if (begin + count <= prompt.size()) {
      return prompt.subspan(begin, count);
    }
    scratch.resize(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      scratch[i] = token(begin + i);
    }
    return scratch;
  }
};

}  // namespace pixii::engine
