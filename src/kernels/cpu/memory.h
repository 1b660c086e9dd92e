// Host memory for weights, caches and scratch: zeroed, aligned, in huge pages where it is large.
//
// Thread: any.
#pragma once

#include <cstddef>

#include "base/result.h"
#include "kernels/tensor.h"

namespace pixii::kernels {

/// Pages are touched on first use only. Errors: kResourceExhausted with the size asked for.
Result<Buffer> AllocateHostMemory(std::size_t size_bytes);

}  // namespace pixii::kernels
