// The part of `pixii check` that looks at pictures: tower, positions, and what the decoder is
// given.
//
// Thread: one caller.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "model/check.h"
#include "model/config.h"
#include "model/golden_file.h"
#include "model/sequence_media.h"

namespace pixii::model {

/// Runs the tower of `folder` on the pixels of the golden file, so that its errors are not mixed
/// with a resize's, and adds to `lines` how features and positions compare. Returns what the
/// decoder is given besides tokens, for each of golden.logits. Pre: config.vision.
Result<std::vector<SequenceMedia>> CheckVision(const std::string& folder, const ModelConfig& config,
                                               kernels::Operators& operators, const Golden& golden,
                                               const CheckOptions& options,
                                               std::vector<CheckLine>& lines);

}  // namespace pixii::model
