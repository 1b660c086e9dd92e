// The operators on one NVIDIA GPU, by libpixii_cuda.so, which is loaded when asked for.
//
// Thread: as Operators.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "kernels/operators.h"

namespace pixii::kernels {

struct CudaOptions {
  std::int32_t device = 0;  // index among the GPUs that the driver shows
  /// File to load; empty: libpixii_cuda.so beside the program, in the folder above it, or in
  /// ../lib/pixii.
  std::string library;
};

/// Errors: kNotFound, kUnsupported: what is missing, the library, its ABI, the driver or the GPU.
Result<std::unique_ptr<Operators>> MakeCudaOperators(const CudaOptions& options);

}  // namespace pixii::kernels
