// Looks for NaN and infinity in stored values.
//
// Thread: pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/safetensors.h"

namespace pixii::model {

/// Index of the first NaN or infinity in `bytes`, elements of `type` at any alignment; nothing if
/// there is none, or if the type has none. Runs at the speed of memory.
std::optional<std::size_t> FirstNotFinite(StoredType type, std::span<const std::byte> bytes);

/// Whether `bytes`, all of `tensor` or a matrix of it, hold NaN or infinity: up to 1 MiB each
/// element, above that every 16th piece of 16 KiB, which finds what diverged training and broken
/// conversions leave. A fault elsewhere shows in the results. Errors: kDataCorrupt naming file,
/// offset, tensor and element.
Result<void> CheckFinite(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                         std::span<const std::byte> bytes);

}  // namespace pixii::model
