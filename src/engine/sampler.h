// From a row of logits to the next token and its logprob: a pure function, bit-reproducible in any
// batch.
//
// Thread: one owner per Sampler (it holds scratch memory and nothing else that outlives a call).
// Order: Prepare applies what row_rules.h lists; logits processors come between the halves; then
// temperature 0: the largest, lowest id on ties; else divide by temperature, then mirostat or
// min_p and top_a (both of the whole row), top_k, top_p, typical_p, XTC, one draw. Each filter sees
// what the ones before left. Ties are broken towards lower ids everywhere: top_k keeps exactly k
// tokens. Numerics: own exp and log, sums in a fixed blocked order, so bits depend on the row and
// the parameters alone.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "engine/candidates.h"
#include "engine/row_rules.h"
#include "engine/sample_input.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

inline constexpr std::uint32_t kTopLogprobsMax = 20;
/// Below this a temperature counts as 0: dividing by it would only round to the same choice.
inline constexpr float kTemperatureMin = 1e-5F;

/// Highest logit, lowest id on ties; NaN counts as lowest. One pass. Pre: not empty.
TokenId Argmax(std::span<const float> logits);

class Sampler final {
 public:
  /// Prepare, then Draw.
  TokenId Sample(const SampleInput& input, std::span<float> logits);

  /// Changes `logits` [vocab] by the request's rules for single tokens.
  void Prepare(const SampleInput& input, std::span<float> logits);

  /// Chooses the next token of a prepared row; kNoToken if every token is excluded. Cost: greedy
  /// one pass; else a few.
  TokenId Draw(const SampleInput& input, std::span<const float> logits);

  /// Natural logarithm of softmax(logits) at `token`, and the `top_count` best, best first (lower
  /// id on ties). Pre: top_count <= kTopLogprobsMax.
  wire::TokenLogprob Logprob(std::span<const float> logits, TokenId token, std::uint32_t top_count);

 private:
  TokenId DrawMirostat(const SampleInput& input, std::span<const float> logits, double total);

  RowRules rules_;
  Candidates candidates_;
  std::vector<float> block_max_;  // of kRowBlock logits each
};

}  // namespace pixii::engine
