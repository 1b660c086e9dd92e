// The beginning of a safetensors file: everything but the tensors' bytes.
//
// Thread: pure function.
#pragma once

#include <span>
#include <string>

#include "wire/safetensors.h"

namespace pixii::wire {

/// The size field and the header of a file of `tensors`, whose bytes follow in this order without
/// gaps; their file_offset is not looked at.
std::string SafetensorsHead(std::span<const StoredTensor> tensors);

}  // namespace pixii::wire
