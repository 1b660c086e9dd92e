// What weights may be stored as, beside the format itself. docs/subsystems/model.md
//
// Thread: pure functions.
// f32, f16 and bf16 are values; others are read where a quantisation scheme says how.
#pragma once

#include <optional>

#include "kernels/tensor.h"
#include "wire/safetensors.h"

namespace pixii::model {

using wire::kSafetensorsHeaderSizeMax;
using wire::kSafetensorsValuesMax;
using wire::kTensorNameSizeMax;
using wire::kTensorRankMax;
using wire::ParseSafetensorsHeader;
using wire::SafetensorsHeader;
using wire::StoredTensor;
using wire::StoredType;
using wire::StoredTypeName;
using wire::StoredTypeSize;

/// Whether quantised weights of integers may lie in it: codes, packed codes, GGUF's blocks.
bool HoldsIntegerCodes(StoredType type);
/// The weights' dtype, or nothing if kernels do not read it.
std::optional<kernels::DType> AsWeightType(StoredType type);

}  // namespace pixii::model
