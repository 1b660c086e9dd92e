// From the rows of a step to its tokens: the request's rules, its logits processors, the draw, the
// logprob.
//
// Thread: the engine thread.
// Rows are independent: the same row gives the same token in any batch. Logprobs are of the raw
// row, or with processed_logprobs of the row that the draw saw, before temperature and filters.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/constraint.h"
#include "engine/processor_set.h"
#include "engine/sampler.h"
#include "engine/sampling_state.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

struct SampleRow {
  const wire::GenerateRequest* request = nullptr;
  const ProcessorChain* chain = nullptr;
  RequestConstraint* constraint = nullptr;  // null: any text
  SamplingState* state = nullptr;
  std::span<const TokenId> generated;
  std::uint32_t choice = 0;
  std::span<float> logits;                                   // [vocab], spoilt
  std::span<const float> second;                             // [vocab] of the chain's second prompt
  TokenId token = kNoToken;                                  // drawn
  std::optional<wire::TokenLogprob> logprob = std::nullopt;  // if the request wants any
  std::optional<Error> error = std::nullopt;  // no token: something failed, or none is allowed
};

class RowSampler final {
 public:
  /// `unspoken`: words that are never chosen, whatever a request asks for; a row counts as if the
  /// vocabulary were without them.
  explicit RowSampler(std::shared_ptr<ProcessorSet> processors, std::vector<TokenId> unspoken = {});

  ProcessorSet& processors() { return *processors_; }

  const ProcessorSet& processors() const { return *processors_; }

  /// A state for the request's first token.
  static SamplingState FirstState(const wire::GenerateRequest& request,
                                  const ProcessorChain& chain);

  void Run(std::span<SampleRow> rows);

  /// See Sampler::Logprob.
  wire::TokenLogprob Logprob(std::span<const float> logits, TokenId token,
                             std::uint32_t top_count) {
    return sampler_.Logprob(logits, token, top_count);
  }

 private:
  void Draw(SampleRow& row, std::span<const float> raw);

  std::shared_ptr<ProcessorSet> processors_;
  std::vector<TokenId> unspoken_;
  Sampler sampler_;
  std::vector<ChainRow> chain_rows_;
  std::vector<float> raw_;  // rows before sampling spoilt them, of those that want it
};

}  // namespace pixii::engine
