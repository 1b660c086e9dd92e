// Rows of floats that a diffusion model works on: grown when needed, never cleared.
//
// Thread: one owner.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/tensor.h"

namespace pixii::model {

class RowMemory final {
 public:
  /// [rows, cols]; what was in it is lost where it grows. Valid until it grows again.
  kernels::Matrix At(std::int64_t rows, std::int64_t cols) {
    if (rows * cols > capacity_) {
      capacity_ = rows * cols;
      data_ = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(capacity_));
    }
    return {data_.get(), kernels::DType::kF32, rows, cols, cols};
  }

 private:
  std::unique_ptr<float[]> data_;
  std::int64_t capacity_ = 0;  // floats
};

}  // namespace pixii::model
