// Seeded inputs of the operator cases: matrices with room around them, weights in any dtype, filled
// KV caches.
//
// Thread: values.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "kernels/operators.h"

namespace pixii::kernels::testing {

class Inputs final {
 public:
  explicit Inputs(std::string_view seed) : engine_(Hash64(std::as_bytes(std::span(seed)))) {}

  float Uniform(float low, float high) {
    // Not std::uniform_real_distribution: its results differ between libraries.
    return low + (high - low) * static_cast<float>(engine_() >> 40U) * 0x1p-24F;
  }

  std::int32_t Below(std::int32_t bound) {
    return static_cast<std::int32_t>(engine_() % static_cast<unsigned>(bound));
  }

  std::vector<float> Values(std::int64_t count, float low = -1.0F, float high = 1.0F) {
    std::vector<float> out(static_cast<std::size_t>(count));
    for (float& value : out) {
      value = Uniform(low, high);
    }
    return out;
  }

 private:
  std::mt19937_64 engine_;
};

/// A matrix with `margin` floats of a canary value right of each row and below: writes there show.
class GuardedMatrix final {
 public:
  static constexpr float kCanary = 12345.678F;

  GuardedMatrix(std::int64_t rows, std::int64_t cols, std::int64_t margin)
      : rows_(rows),
        cols_(cols),
        stride_(cols + margin),
        data_(static_cast<std::size_t>((rows + 1) * (cols + margin)), kCanary) {}

  GuardedMatrix(std::int64_t rows, std::int64_t cols, std::int64_t margin, Inputs& inputs,
                float low = -1.0F, float high = 1.0F)
      : GuardedMatrix(rows, cols, margin) {
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t col = 0; col < cols; ++col) {
        data_[static_cast<std::size_t>(row * stride_ + col)] = inputs.Uniform(low, high);
      }
    }
  }

  Matrix view() {
    return {.data = data_.data(),
            .dtype = DType::kF32,
            .rows = rows_,
            .cols = cols_,
            .stride = stride_};
  }

  /// The values row by row, then one value that says whether all canaries live (1) or not (0).
  std::vector<float> Result() const {
    std::vector<float> out;
    bool alive = true;
    for (std::size_t i = 0; i < data_.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i) / stride_;
      const auto col = static_cast<std::int64_t>(i) % stride_;
      if (row < rows_ && col < cols_) {
        out.push_back(data_[i]);
      } else {
        alive = alive && data_[i] == kCanary;
      }
    }
    out.push_back(alive ? 1.0F : 0.0F);
    return out;
  }

 private:
  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t stride_;
  std::vector<float> data_;
};

/// `values` as `dtype`, one byte off any alignment: a mapped checkpoint may be so.
class RawValues final {
 public:
  RawValues(std::span<const float> values, DType dtype)
      : bytes_(values.size() * SizeOf(dtype) + 1) {
    std::byte* at = bytes_.data() + 1;
    for (const float value : values) {
      if (dtype == DType::kF32) {
        std::memcpy(at, &value, sizeof(value));
      } else {
        const std::uint16_t bits =
            dtype == DType::kBf16 ? Bf16FromFloat(value) : F16FromFloat(value);
        std::memcpy(at, &bits, sizeof(bits));
      }
      at += SizeOf(dtype);
    }
  }

  const void* data() const { return bytes_.data() + 1; }

 private:
  std::vector<std::byte> bytes_;
};

/// A weight part of random codes of every value (but NaN), with random scales and maybe offsets;
/// one byte off any alignment. Shape of the blocks: [scale_rows, scale_cols].
class CodedValues final {
 public:
  struct Shape {
    WeightCode code = WeightCode::kInt8;
    std::int64_t rows = 1;
    std::int64_t cols = 1;
    std::int64_t scale_rows = 1;
    std::int64_t scale_cols = 1;
    bool offsets = false;
    bool half_scales = false;  // that fp16 holds exactly
  };

  CodedValues(const Shape& shape, Inputs& inputs) {
    part_ = {.rows = shape.rows,
             .cols = shape.cols,
             .code = shape.code,
             .scale_rows = shape.scale_rows,
             .scale_cols = shape.scale_cols};
    const bool packed = shape.code == WeightCode::kUint4 || shape.code == WeightCode::kFp4E2m1;
    const std::int64_t row_size = packed ? (shape.cols + 1) / 2 : shape.cols;
    bytes_.resize(static_cast<std::size_t>(shape.rows * row_size + 1));
    for (unsigned char& byte : bytes_) {
      byte = static_cast<unsigned char>(inputs.Below(256));
      if (shape.code == WeightCode::kFp8E4m3 && (byte & 0x7F) == 0x7F) {
        byte ^= 1;
      }
    }
    const std::int64_t count = (shape.rows + shape.scale_rows - 1) / shape.scale_rows *
                               ((shape.cols + shape.scale_cols - 1) / shape.scale_cols);
    // Codes of each kind reach to about 127, 15, 448 and 6: results of similar sizes.
    const float unit = shape.code == WeightCode::kInt8      ? 1.0F / 127
                       : shape.code == WeightCode::kUint4   ? 1.0F / 15
                       : shape.code == WeightCode::kFp8E4m3 ? 1.0F / 448
                                                            : 1.0F / 6;
    scales_ = inputs.Values(count, 0.25F * unit, unit);
    if (shape.offsets) {
      offsets_ = inputs.Values(count);
    }
    if (shape.half_scales) {
      for (float& value : scales_) {
        value = FloatFromF16(F16FromFloat(value));
      }
    }
    part_.data = bytes_.data() + 1;
    part_.scales = scales_.data();
    part_.offsets = shape.offsets ? offsets_.data() : nullptr;
  }

  CodedValues(CodedValues&&) = default;

  /// Valid as long as this lives.
  const WeightPart& part() const { return part_; }

  /// Offsets that say that code 8 stands for zero.
  std::vector<float> OffsetsOfMiddle() const {
    std::vector<float> out = scales_;
    for (float& value : out) {
      value *= -8.0F;
    }
    return out;
  }

 private:
  std::vector<unsigned char> bytes_;
  std::vector<float> scales_;
  std::vector<float> offsets_;
  WeightPart part_;
};

/// A cache of one sequence of `context` positions whose blocks lie in reverse order, filled by
/// StoreKv.
struct FilledCache {
  KvCache cache;
  StepBatch batch;  // sequences empty: the case adds its own
  std::vector<std::int32_t> slots;
};

inline FilledCache MakeCache(Operators& operators, const KvLayout& layout, std::int32_t context) {
  FilledCache out;
  out.cache.layout = layout;
  out.cache.block_count = (context + layout.block_tokens - 1) / layout.block_tokens;
  out.cache.buffer = std::move(*operators.Allocate(static_cast<std::size_t>(out.cache.block_count) *
                                                   layout.block_size_bytes()));
  // What no token has written must not matter: NaN in every format.
  std::memset(out.cache.buffer.data(), 0xFF, out.cache.buffer.size_bytes());
  for (std::int32_t block = 0; block < out.cache.block_count; ++block) {
    out.batch.block_table.push_back(out.cache.block_count - 1 - block);
  }
  for (std::int32_t position = 0; position < context; ++position) {
    const std::int32_t block =
        out.batch.block_table[static_cast<std::size_t>(position / layout.block_tokens)];
    out.slots.push_back(block * layout.block_tokens + position % layout.block_tokens);
  }
  return out;
}

}  // namespace pixii::kernels::testing
