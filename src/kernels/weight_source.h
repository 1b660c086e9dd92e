// What every backend does with a checkpoint's parts before it packs them: check, read rows, cut K
// into shards.
//
// Thread: values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/checked.h"
#include "base/result.h"
#include "kernels/operators.h"

namespace pixii::kernels {

/// Largest extent of one side of a weight: keeps every index product inside 64 bits.
inline constexpr std::int64_t kWeightExtentMax = std::int64_t{1} << 30;

/// Where K is cut. Shards hold `size` elements each, an even number (pairs of bf16 stay together);
/// the last ones may be shorter or empty. Equal to k / 8 wherever k is a multiple of 16.
struct ShardPlan {
  std::int64_t k = 0;
  std::int64_t size = 0;
  std::int32_t count = 1;

  std::int64_t Begin(std::int32_t shard) const { return std::min(k, shard * size); }

  std::int64_t End(std::int32_t shard) const { return std::min(k, (shard + 1) * size); }
};

ShardPlan MakeShardPlan(std::int64_t k, std::int32_t k_shards);

/// Errors: kInvalidArgument naming the part, the value and the limit.
Result<void> CheckParts(std::span<const WeightPart> parts, const LinearOptions& options);

/// Bytes of one row of `part`.
std::int64_t RowSizeBytes(const WeightPart& part);

/// Scales (and offsets) of one row of scale blocks, and rows of them; 0 of parts without codes.
inline std::int64_t ScaleColumns(const WeightPart& part) {
  return part.code == WeightCode::kNone ? 0 : CeilDiv(part.cols, part.scale_cols);
}

inline std::int64_t ScaleRows(const WeightPart& part) {
  return part.code == WeightCode::kNone ? 0 : CeilDiv(part.rows, part.scale_rows);
}

/// What a code of an fp8 e4m3 or fp4 e2m1 weight stands for.
float FloatFromFp8E4m3(std::uint8_t bits);
/// Nearest, ties to even; beyond 448 the largest, NaN stays NaN.
std::uint8_t Fp8E4m3FromFloat(float value);
float FloatFromFp4E2m1(std::uint8_t bits);

/// Errors: kInvalidArgument naming what does not fit together, its value and the limit.
Result<void> CheckLoraParts(const WeightPart& down, const WeightPart& up, float scale);

/// Row `row` of `part` as fp32 to `out`, shape [part.cols]; codes are decoded.
void ReadRow(const WeightPart& part, std::int64_t row, float* out);

/// `value` rounded to bf16 and back.
inline float RoundToBf16(float value) { return FloatFromBf16(Bf16FromFloat(value)); }

}  // namespace pixii::kernels
