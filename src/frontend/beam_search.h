// Beam search: which continuations of which beams go on, and which texts are the best.
//
// Thread: any. Pure: no clock, no I/O, no randomness.
// A round: every live beam offers its best tokens; all offers are ordered by the sum of logprobs,
// then by beam, then by token. In that order a token that ends makes a finished text and any other
// a live beam, until there are `width` live ones. A text's score is sum / length ^ length_penalty,
// over its generated tokens without the one that ended it. The search is over when no live beam can
// beat the finished ones any more, whatever follows; with early_stopping as soon as `width` texts
// are finished. Source: beam search as in vLLM's and Hugging Face's beam search documentation.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

struct BeamOptions {
  std::uint32_t width = 1;
  double length_penalty = 1;
  bool early_stopping = false;
  std::uint32_t max_tokens = 0;    // of a text, at least 1
  std::uint32_t min_tokens = 0;    // nothing ends before
  std::int32_t top_logprobs = -1;  // as in wire::GenerateRequest: what each token carries
  std::vector<TokenId> end_ids;    // tokens that end a text
};

struct Beam {
  std::vector<TokenId> tokens;
  std::vector<wire::TokenLogprob> logprobs;  // [tokens] if asked for
  double sum = 0;                            // of logprobs, the end token's too
  std::optional<TokenId> end_token;          // nothing: cut at max_tokens
  std::string state;                         // wire::TokenFrame::state behind the last token
};

/// What may follow a live beam.
struct BeamOffer {
  std::vector<std::pair<TokenId, float>> top;  // token and logprob, best first
  std::string state;
};

class BeamSearch final {
 public:
  explicit BeamSearch(BeamOptions options);

  bool done() const { return live_.empty(); }

  /// Beams to be continued, best first; one empty beam at the start.
  std::span<const Beam> live() const { return live_; }

  /// One round. `offers` [live()] with at least 2 x width tokens each, if there are so many. Pre:
  /// not done.
  void Advance(std::span<const BeamOffer> offers);

  /// The best texts, at most `count`, best first. Pre: done.
  std::vector<Beam> TakeBest(std::size_t count);

 private:
  struct Child {
    double sum = 0;
    std::uint32_t parent = 0;
    std::uint32_t rank = 0;  // in the parent's offer
    TokenId token = 0;
  };

  Beam Grown(const Child& child, const BeamOffer& offer) const;
  double Score(const Beam& beam) const;
  void Finish(Beam beam);
  bool CanImprove() const;

  BeamOptions options_;
  std::vector<Beam> live_;
  std::vector<std::pair<double, Beam>> finished_;  // score and text, best first, at most width
};

}  // namespace pixii::frontend
