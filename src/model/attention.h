// Attention of one layer: projects, turns, stores and attends. Grouped queries (attention.cc) or
// one latent for all heads (latent_attention.cc).
//
// Thread: one caller. Memory: scratch only, AttentionRowFloats a row.
#pragma once

#include <cstdint>
#include <memory>

#include "model/decoder_spec.h"
#include "model/weight_loader.h"

namespace pixii::model {

class Attention {
 public:
  virtual ~Attention() = default;

  /// Returns the output of the rank's heads [T, heads * elements of a head], before its projection.
  /// It lies in `scratch` past as many floats, which are spent.
  virtual kernels::Matrix Run(const kernels::Matrix& normed, const kernels::StepView& step,
                              kernels::KvCache& cache, const Scratch& scratch) = 0;
};

/// `spec` outlives the result, and so does what `rotary` points to.
Result<std::unique_ptr<Attention>> MakeAttention(const DecoderSpec& spec, std::size_t layer,
                                                 const kernels::RotaryTable& rotary,
                                                 WeightLoader& loader);

/// The latent kind. Pre: spec.is_latent().
Result<std::unique_ptr<Attention>> MakeLatentAttention(const DecoderSpec& spec, std::size_t layer,
                                                       const kernels::RotaryTable& rotary,
                                                       WeightLoader& loader);

/// Floats of scratch that each row takes.
std::int64_t AttentionRowFloats(const DecoderSpec& spec);

/// What all layers' options have in common.
kernels::AttentionOptions MakeAttentionOptions(const DecoderSpec& spec, const ModelCut& cut,
                                               std::size_t layer);

}  // namespace pixii::model
