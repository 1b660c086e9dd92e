// A request while the engine has it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/adapter_store.h"
#include "engine/constraint.h"
#include "engine/processor_set.h"
#include "engine/sequence.h"
#include "engine/text_pooler.h"
#include "model/sequence_media.h"
#include "rt/time.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

/// What a request shows beside words.
struct RequestMedia {
  std::vector<TokenId> prompt;  // with the items' own tokens: what sequences and blocks know
  model::SequenceMedia shown;   // features come when they are needed
  /// Of the items that have too few tokens to be known by them: it stands beside the salt. Empty:
  /// there are none.
  std::string small_digest;
};

struct RequestState {
  wire::GenerateRequest request;        // its prompt is words
  std::unique_ptr<RequestMedia> media;  // null: text alone
  std::shared_ptr<Adapter> adapter;     // null: the model alone
  ProcessorChain chain;
  std::unique_ptr<RequestConstraint> constraint;  // null: any text
  std::vector<Sequence> sequences;  // [choice_count], fixed: the scheduler points into it
  std::vector<Sequence> shadows;    // [choice_count] or empty: see engine_pairs.cc
  std::vector<bool> has_frame;      // [choice_count] a frame of the choice went out
  std::vector<wire::TokenLogprob> prompt_logprobs;
  std::unique_ptr<PooledText> pooled;  // of a request with `pool`
  rt::Time deadline = rt::kNever;
  rt::Time begun{};                 // it came
  rt::Time queued = rt::kNever;     // it waits for nothing but its place
  rt::Time scheduled = rt::kNever;  // first in a step
  bool awaited_blocks = false;      // until `queued`
  std::uint32_t live_count = 0;     // choices not ended
  std::uint32_t leader = 0;  // the choice that computes the prompt while the later ones are held
  bool siblings_held = false;
};

}  // namespace pixii::engine
