// From a row of logits to the next token and its logprob: a pure function, bit-reproducible in any
// batch.
//
// Thread: one owner per Sampler (it holds scratch memory and nothing else that outlives a call).
// Order (vLLM's): logprobs of the raw row; then end and stop ids masked while position <
// min_tokens; logit_bias; repetition penalty (prompt and generated); frequency, then presence
// penalty (generated); temperature 0: the largest, lowest id on ties; else divide by temperature,
// min_p, top_k, top_p, one draw. Ties are broken towards lower ids everywhere: top_k keeps exactly
// k tokens. Numerics: own exp on floats, sums in a fixed blocked order, so bits depend on the row
// and the parameters alone. Source: OpenAI API reference (penalties), vLLM's sampler documentation
// (order), philox.h (draws).
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

inline constexpr std::uint32_t kTopLogprobsMax = 20;
/// Below this a temperature counts as 0: dividing by it would only round to the same choice.
inline constexpr float kTemperatureMin = 1e-5F;

struct SampleInput {
  const wire::SamplingParams* params = nullptr;
  const wire::StopConditions* stop = nullptr;
  std::span<const TokenId> prompt;
  std::span<const TokenId> generated;  // its size is the output position
  std::uint32_t choice = 0;
};

/// Highest logit, lowest id on ties; NaN counts as lowest. One pass. Pre: not empty.
TokenId Argmax(std::span<const float> logits);

class Sampler final {
 public:
  /// Chooses the next token. `logits` [vocab] is used as scratch: it may hold anything afterwards.
  /// Cost: greedy without penalties one pass; else a few passes, and O(prompt + generated) with
  /// penalties.
  TokenId Sample(const SampleInput& input, std::span<float> logits);

  /// Natural logarithm of softmax(logits) at `token`, and the `top_count` best, best first (lower
  /// id on ties). Pre: top_count <= kTopLogprobsMax.
  wire::TokenLogprob Logprob(std::span<const float> logits, TokenId token, std::uint32_t top_count);

 private:
  struct Candidate {
    float weight = 0;
    float logit = 0;
    TokenId id = 0;
  };

  struct Bucket {
    double mass = 0;
    std::uint32_t count = 0;
  };

  static bool IsBetter(const Candidate& a, const Candidate& b);

  void Penalize(const SampleInput& input, std::span<float> logits);
  TokenId Draw(const SampleInput& input, std::span<const float> logits);
  void FindCandidates(const wire::SamplingParams& params, std::span<const float> logits,
                      double total, bool has_top_k);
  void KeepBest(std::uint32_t count_max, double mass);
  double CandidateMass() const;
  TokenId PickCandidate(double target) const;
  TokenId PickFromAll(double target) const;

  std::vector<float> weights_;         // [vocab] exp((logit - max) / temperature)
  std::vector<double> block_sums_;     // of kRowBlock weights each
  std::vector<float> block_max_;       // of kRowBlock logits each
  std::vector<Candidate> candidates_;  // in the order of ids
  std::vector<Candidate> edge_;        // those of the bucket in which a limit falls
  std::vector<Bucket> buckets_;
  std::vector<std::uint32_t> counts_;  // [vocab], zero between calls
  std::vector<TokenId> touched_;
};

}  // namespace pixii::engine
