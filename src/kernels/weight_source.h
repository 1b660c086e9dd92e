// What every backend does with a checkpoint's parts before it packs them: check, read rows, cut K
// into shards.
//
// Thread: values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

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
  std::int64_t column = 0;  // of the whole K, where that of a share begins

  std::int64_t Begin(std::int32_t shard) const { return std::min(k, shard * size); }

  std::int64_t End(std::int32_t shard) const { return std::min(k, (shard + 1) * size); }
};

ShardPlan MakeShardPlan(std::int64_t k, std::int32_t k_shards);

/// `sums` of 1, 2, 4 or 8 shards by the tree ((0+1)+(2+3))+((4+5)+(6+7)), in place.
inline float JoinShards(std::span<float> sums, std::int32_t count) {
  for (std::int32_t step = 1; step < count; step *= 2) {
    for (std::int32_t i = 0; i + step < count; i += 2 * step) {
      sums[static_cast<std::size_t>(i)] += sums[static_cast<std::size_t>(i + step)];
    }
  }
  return sums[0];
}

/// The shards that `options` ask for, of a linear whose parts have `k` columns.
ShardPlan MakeShardPlan(std::int64_t k, const LinearOptions& options);

/// A row of stacked parts.
struct PartRow {
  const WeightPart* part = nullptr;
  std::int64_t row = 0;

  float bias() const { return part->bias != nullptr ? part->bias[row] : 0.0F; }
};

/// The rows that `options` ask for, in order.
std::vector<PartRow> RowsOf(std::span<const WeightPart> parts, const LinearOptions& options);

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

/// Rows [rows.begin, rows.end) of `part`. Scales of codes lie in `scales`, which lives as long.
WeightPart SliceRows(const WeightPart& part, const RowRange& rows, std::vector<float>& scales);

/// `value` rounded to bf16 and back.
inline float RoundToBf16(float value) { return FloatFromBf16(Bf16FromFloat(value)); }

}  // namespace pixii::kernels
