// Quantised linears of a checkpoint as kernels read them: codes, scales and offsets.
//
// Thread: pure functions; parts borrow the checkpoint and the memory. Formulas:
// docs/formats/quantized_weights.md. Codes are mapped where the file's layout is the kernels' (FP8,
// int8, compressed-tensors int4, MXFP4), else transposed or repacked.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint.h"
#include "model/part_memory.h"
#include "model/stored_linear.h"

namespace pixii::model {

/// The linear's part; scales, if not mapped, lie in `memory`. O(rows * cols) where codes must be
/// rearranged. Errors: kDataCorrupt naming a scale that is not finite or a bad g_idx.
Result<kernels::WeightPart> MakePart(const Checkpoint& checkpoint, const StoredLinear& linear,
                                     std::int64_t rows, std::int64_t cols, PartMemory& memory);

/// As MakePart, for the slice.
Result<kernels::WeightPart> MakeSlice(const Checkpoint& checkpoint, const StoredStack& stack,
                                      const StackedSlice& slice, PartMemory& memory);

/// A plain tensor's values as fp32. Pre: its type is F32, F16, BF16 or F8_E8M0.
void WidenTo(const CheckpointTensor& tensor, std::span<float> out);

}  // namespace pixii::model
