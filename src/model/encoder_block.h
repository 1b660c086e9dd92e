// The weights of a transformer block that norms before it computes, with biases: those of CLIP's
// text and of the towers that look at pictures.
#pragma once

#include <memory>
#include <span>

#include "kernels/operators.h"

namespace pixii::model {

struct NormWeights {
  std::span<const float> weight;
  std::span<const float> bias;  // empty: none
};

struct EncoderBlock {
  NormWeights attention_norm;
  std::unique_ptr<kernels::LinearWeight> qkv;
  std::unique_ptr<kernels::LinearWeight> out;
  NormWeights feed_forward_norm;
  std::unique_ptr<kernels::LinearWeight> up;
  std::unique_ptr<kernels::LinearWeight> down;
};

}  // namespace pixii::model
