// The first half of sampling: everything a request says about single tokens, applied to a row.
//
// Thread: one owner per RowRules (scratch memory only).
// Order: end and stop ids excluded while position < min_tokens; all but allowed_token_ids excluded;
// logit_bias; the last token of each bad word whose beginning was just generated excluded;
// repetition penalty (prompt and generated); frequency, then presence penalty (generated); DRY
// (prompt and generated). Excluded = -infinity.
// Source: vLLM's sampler documentation (order, bad words), OpenAI API reference (penalties), DRY as
// in the text-generation-webui pull request 5677 that proposed it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sample_input.h"

namespace pixii::engine {

class RowRules final {
 public:
  /// Changes `logits` [vocab] in place. Pre: every token id in `input` is below vocab. Cost: O(1)
  /// without rules; O(prompt + generated) with penalties or DRY; O(vocab) with allowed_token_ids.
  void Apply(const SampleInput& input, std::span<float> logits);

 private:
  void KeepAllowed(std::span<const TokenId> allowed, std::span<float> logits);
  void Penalize(const SampleInput& input, std::span<float> logits);
  void PenalizeRepetitions(const SampleInput& input, std::span<float> logits);
  /// Raises the counter of `id` to at least `value` and remembers it.
  void Raise(TokenId id, std::uint32_t value);

  std::vector<std::uint32_t> counts_;  // [vocab], zero between calls
  std::vector<TokenId> touched_;
  std::vector<float> kept_;
  std::vector<TokenId> backwards_;      // the context, last token first
  std::vector<std::uint32_t> matches_;  // [context] see PenalizeRepetitions
};

}  // namespace pixii::engine
