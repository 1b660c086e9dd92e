// Views of row-major matrices on a backend's memory, and the buffers that own it.
//
// Thread: values. A Matrix borrows; its Buffer lives longer. Shapes are [rows, cols] in elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "base/small_floats.h"

namespace pixii::kernels {

enum class DType : std::uint8_t { kF32, kBf16, kF16 };

constexpr std::size_t SizeOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

using pixii::Bf16FromFloat;
using pixii::F16FromFloat;
using pixii::FloatFromBf16;
using pixii::FloatFromF16;

struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;  // elements from one row to the next, >= cols

  float* f32(std::int64_t row = 0) const { return static_cast<float*>(data) + row * stride; }

  /// Columns [begin, begin + count) of every row: how q, k and v are cut out of a fused projection.
  Matrix Columns(std::int64_t begin, std::int64_t count) const {
    return {static_cast<std::byte*>(data) + begin * static_cast<std::int64_t>(SizeOf(dtype)), dtype,
            rows, count, stride};
  }

  Matrix Rows(std::int64_t begin, std::int64_t count) const {
    return {
        static_cast<std::byte*>(data) + begin * stride * static_cast<std::int64_t>(SizeOf(dtype)),
        dtype, count, cols, stride};
  }
};

/// Memory of a backend, freed with the handle. 64-byte aligned at least.
class Buffer final {
 public:
  Buffer() = default;

  Buffer(void* data, std::size_t size_bytes, std::function<void(void*)> free)
      : data_(data), size_bytes_(size_bytes), free_(std::move(free)) {}

  Buffer(Buffer&& other) noexcept { *this = std::move(other); }

  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    std::swap(free_, other.free_);
    return *this;
  }

  ~Buffer() {
    if (data_ != nullptr) {
      free_(data_);
    }
  }

  void* data() const { return data_; }

  std::size_t size_bytes() const { return size_bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  std::function<void(void*)> free_;
};

}  // namespace pixii::kernels
