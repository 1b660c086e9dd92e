// The second half of sampling: which tokens may be drawn, and the draw.
//
// Thread: one owner per Candidates (scratch memory only). One row at a time: Weigh, then the
// filters, then Pick.
// A weight is exp((logit - max) / temperature), so the best token weighs 1. Ties are broken towards
// lower ids everywhere. Sources: min_p (Nguyen et al. 2024), typical_p (Meister et al. 2022), top_a
// and XTC as in the text-generation projects that introduced them, mirostat 2 (Basu et al. 2020).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/ids.h"

namespace pixii::engine {

/// What Candidates::Find may leave out without changing what the filters keep.
struct CandidateFloor {
  float weight = 0.0F;      // no filter keeps a token that weighs less
  std::uint32_t top_k = 0;  // only the best so many matter; 0: all
  double tail_mass = 0.0;   // the least tokens may go if together they weigh less
};

class Candidates final {
 public:
  /// Weighs a row. Returns the sum of weights, or nothing was weighed: 0, if no logit is finite.
  double Weigh(std::span<const float> logits, float temperature);

  /// Lists, in the order of ids, every token that the filters could keep, and as few others as is
  /// cheap. Pre: Weigh gave more than 0.
  void Find(std::span<const float> logits, const CandidateFloor& floor);

  /// Keeps the best, at most `count_max`, and no more than needed to reach `mass`.
  void KeepBest(std::uint32_t count_max, double mass);
  /// Keeps the fewest of the most typical that make up `share` of the mass: those whose surprise is
  /// nearest to the entropy.
  void KeepTypical(double share);
  /// Takes away all that hold at least `threshold` of the mass, but the least of them.
  void DropTop(double threshold);

  double Mass() const;
  /// The first candidate, by id, at which the running sum passes `target`.
  TokenId Pick(double target) const;
  /// The same over the whole row, without Find.
  TokenId PickFromAll(double target) const;

  float weight(TokenId id) const { return weights_[static_cast<std::size_t>(id)]; }

  std::uint32_t count() const { return static_cast<std::uint32_t>(list_.size()); }

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

  std::vector<float> weights_;      // [vocab]
  std::vector<double> block_sums_;  // of kRowBlock weights each
  std::vector<float> block_max_;    // of kRowBlock logits each
  std::vector<Candidate> list_;     // in the order of ids
  std::vector<Candidate> edge_;     // those of the bucket in which a limit falls
  std::vector<Bucket> buckets_;
  std::vector<std::pair<float, std::uint32_t>> typical_;  // distance from the entropy, index
};

}  // namespace pixii::engine
