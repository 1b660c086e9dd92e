// How a weight of integer codes is multiplied as integers (ComputeType::kInt8): which weights can
// be, and into which pieces K is cut.
//
// Thread: values. Input rows are rounded to int8 with a scale of their own for each piece; a
// piece's products are summed exactly in 32 bits and scaled in fp32 (ref/reference_integer.h has
// the formulas).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/operators.h"

namespace pixii::kernels {

/// A piece of K ends where a shard or a scale group ends, and after this many elements at most: so
/// one large input spoils the rounding of its neighbours only, and sums of products fit 32 bits.
inline constexpr std::int64_t kPieceElementsMax = 128;

/// Smaller scale groups cost more scaling than multiplying: such weights are not multiplied as
/// integers.
inline constexpr std::int64_t kIntegerGroupMin = 16;

/// Inputs whose largest magnitude is below count as zeros: 127 / magnitude must be finite.
inline constexpr float kPieceMagnitudeMin = 0x1p-100F;

/// Columns [begin, end) of the whole K; empty where a shard is.
struct IntegerPiece {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int32_t shard = 0;
};

struct IntegerPlan {
  WeightCode code = WeightCode::kInt8;  // or kUint4
  /// Each piece has its own scale for each output; else one scale for each output, which multiplies
  /// a shard's sum.
  bool grouped = false;
  /// What is taken from each code: value = (code - zero) * scale; 0 with offsets.
  std::int32_t zero = 0;
  bool offsets = false;
  std::int32_t shard_count = 1;
  std::int64_t column = 0;           // where the share of K begins that is multiplied
  std::int64_t columns = 0;          // how many it has
  std::vector<IntegerPiece> pieces;  // ascending; every shard has one at least
};

/// None where `parts` are to be multiplied as ComputeType::kBf16 says: values, float codes, parts
/// of different codes or scale groups, groups below kIntegerGroupMin. Pre: CheckParts passed.
std::optional<IntegerPlan> PlanIntegers(std::span<const WeightPart> parts,
                                        const LinearOptions& options);

/// Scale, or offset (0 where there are none), of `row` at column `col`.
inline float ScaleAt(const WeightPart& part, std::int64_t row, std::int64_t col) {
  const std::int64_t columns = (part.cols + part.scale_cols - 1) / part.scale_cols;
  return part.scales[row / part.scale_rows * columns + col / part.scale_cols];
}

inline float OffsetAt(const WeightPart& part, std::int64_t row, std::int64_t col) {
  const std::int64_t columns = (part.cols + part.scale_cols - 1) / part.scale_cols;
  return part.offsets == nullptr
             ? 0.0F
             : part.offsets[row / part.scale_rows * columns + col / part.scale_cols];
}

}  // namespace pixii::kernels
