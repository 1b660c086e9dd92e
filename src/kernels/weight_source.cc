#include "kernels/weight_source.h"

#include <fmt/format.h>

#include <cstring>

#include "base/checked.h"

namespace pixii::kernels {

ShardPlan MakeShardPlan(std::int64_t k, std::int32_t k_shards) {
  if (k_shards == 1) {
    return {.k = k, .size = k, .count = 1};
  }
  return {.k = k, .size = CeilDiv(CeilDiv(k, k_shards), 2) * 2, .count = k_shards};
}

Result<void> CheckParts(std::span<const WeightPart> parts, const LinearOptions& options) {
  if (options.k_shards != 1 && options.k_shards != 8) {
    return Fail(Code::kInvalidArgument,
                fmt::format("k_shards is {}, must be 1 or 8", options.k_shards), "k_shards");
  }
  if (parts.empty()) {
    return Fail(Code::kInvalidArgument, "a linear needs at least one weight part", "parts");
  }
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const WeightPart& part = parts[i];
    if (part.data == nullptr) {
      return Fail(Code::kInvalidArgument, fmt::format("weight part {} has no data", i), "parts");
    }
    if (part.rows < 1 || part.rows > kWeightExtentMax || part.cols < 1 ||
        part.cols > kWeightExtentMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("weight part {} has shape [{}, {}], each must be 1 .. {}", i,
                              part.rows, part.cols, kWeightExtentMax),
                  "parts");
    }
    if (part.cols != parts.front().cols) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("weight part {} has {} columns, part 0 has {}", i, part.cols,
                              parts.front().cols),
                  "parts");
    }
    rows += part.rows;
    if (rows > kWeightExtentMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("weight parts have more than {} rows together", kWeightExtentMax),
                  "parts");
    }
  }
  return {};
}

void ReadRow(const WeightPart& part, std::int64_t row, float* out) {
  const auto cols = static_cast<std::size_t>(part.cols);
  const auto* bytes = static_cast<const unsigned char*>(part.data) +
                      static_cast<std::size_t>(row) * cols * SizeOf(part.dtype);
  // A mapped checkpoint need not align its tensors.
  if (part.dtype == DType::kF32) {
    std::memcpy(out, bytes, cols * sizeof(float));
    return;
  }
  const bool bf16 = part.dtype == DType::kBf16;
  for (std::size_t i = 0; i < cols; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, bytes + i * sizeof(bits), sizeof(bits));
    out[i] = bf16 ? FloatFromBf16(bits) : FloatFromF16(bits);
  }
}

}  // namespace pixii::kernels
