// Rope as config.json tells it, in both dialects: rope_theta with rope_scaling, and
// rope_parameters, which may hold one object per layer type.
//
// Thread: pure functions. Source: transformers' modeling_rope_utils.
#pragma once

#include "base/result.h"
#include "model/config_reader.h"
#include "model/decoder_spec.h"

namespace pixii::model {

struct RopeDefaults {
  double theta = 10000.0;
  bool partial = false;  // the family honours partial_rotary_factor
};

/// Sets spec.rope, and window_rope with rope_by_layer_type where the config tells them apart. Pre:
/// head_dim and context_tokens_max are set. Errors: kUnsupported for kinds that are not known,
/// kInvalidArgument for values out of range.
Result<void> ReadRopes(const ConfigReader& config, const RopeDefaults& defaults, DecoderSpec& spec);

/// yarn's growth of attention with the factor, 1 below.
double YarnMagnitude(double factor, double mscale);

}  // namespace pixii::model
