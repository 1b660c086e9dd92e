// The feed-forward of one layer: gated (feed_forward.cc) or a mixture of experts (experts.cc).
//
// Thread: one caller. Memory: scratch only, FeedForwardRowFloats a row.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/decoder_spec.h"
#include "model/weight_loader.h"

namespace pixii::model {

class FeedForward {
 public:
  virtual ~FeedForward() = default;

  /// Writes the feed-forward of `normed` [T, hidden] to `out` [T, hidden].
  virtual void Run(const kernels::Matrix& normed, const kernels::Matrix& out,
                   const Scratch& scratch) = 0;
};

/// `spec` outlives the result.
Result<std::unique_ptr<FeedForward>> MakeFeedForward(const DecoderSpec& spec, std::size_t layer,
                                                     WeightLoader& loader);

/// The mixture. Pre: spec.layers[layer].experts.
Result<std::unique_ptr<FeedForward>> MakeExperts(const DecoderSpec& spec, std::size_t layer,
                                                 WeightLoader& loader);

/// What a rank has of gates and ups, whose products are summed as `cut` says; empty: all.
std::vector<RowRange> RowsOfBoth(const SumCut& cut);

/// Floats of scratch that each row takes in the layer that takes most.
std::int64_t FeedForwardRowFloats(const DecoderSpec& spec);

/// `pattern` with "{}" replaced by the layer's index and "{e}" by the expert's.
std::string ExpertName(const std::string& pattern, std::size_t layer, std::int32_t expert);

}  // namespace pixii::model
