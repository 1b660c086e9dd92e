#include "kernels/ref/reference_integer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/weight_source.h"

namespace pixii::kernels {

struct ReferenceIntegers::QuantizedRow {
  std::vector<std::int32_t> values;  // [in_features]
  std::vector<float> scales;         // [pieces]
  std::vector<float> sums;           // [pieces], scale times sum of values
};

ReferenceIntegers::ReferenceIntegers(IntegerPlan plan, std::span<const PartRow> rows)
    : plan_(std::move(plan)), in_features_(plan_.columns), out_features_(std::ssize(rows)) {
  std::vector<float> row;
  for (const auto& [part, r] : rows) {
    // The codes themselves are what a part of scale 1 without offsets reads as.
    const float one = 1.0F;
    WeightPart codes = *part;
    codes.scales = &one;
    codes.offsets = nullptr;
    codes.scale_rows = codes.scale_cols = kWeightExtentMax;
    row.resize(static_cast<std::size_t>(part->cols));
    ReadRow(codes, r, row.data());
    for (const float code : std::span(row).subspan(static_cast<std::size_t>(plan_.column),
                                                   static_cast<std::size_t>(in_features_))) {
      codes_.push_back(static_cast<std::int16_t>(static_cast<std::int32_t>(code) - plan_.zero));
    }
    for (const IntegerPiece& piece : plan_.pieces) {
      const std::int64_t column = std::min(piece.begin, part->cols - 1);
      scales_.push_back(ScaleAt(*part, r, column));
      offsets_.push_back(plan_.offsets ? OffsetAt(*part, r, column) : 0.0F);
    }
  }
  // From here on columns count from the share's first.
  for (IntegerPiece& piece : plan_.pieces) {
    piece.begin -= plan_.column;
    piece.end -= plan_.column;
  }
}

void ReferenceIntegers::Multiply(const float* in, float* out) const {
  QuantizedRow row;
  row.values.resize(static_cast<std::size_t>(in_features_));
  for (const IntegerPiece& piece : plan_.pieces) {
    float largest = 0.0F;
    bool finite = true;
    for (std::int64_t k = piece.begin; k < piece.end; ++k) {
      finite = finite && std::isfinite(in[k]);
      largest = std::max(largest, std::abs(in[k]));
    }
    const bool zeros = !finite || largest < kPieceMagnitudeMin;
    const float inverse = zeros ? 0.0F : 127.0F / largest;
    std::int32_t sum = 0;
    for (std::int64_t k = piece.begin; k < piece.end && finite; ++k) {
      const auto value = static_cast<std::int32_t>(std::nearbyint(in[k] * inverse));
      row.values[static_cast<std::size_t>(k)] = value;
      sum += value;
    }
    const float scale = !finite ? std::numeric_limits<float>::quiet_NaN()
                        : zeros ? 0.0F
                                : largest / 127.0F;
    row.scales.push_back(scale);
    row.sums.push_back(scale * static_cast<float>(sum));
  }
  for (std::int64_t n = 0; n < out_features_; ++n) {
    float totals[8] = {};
    for (std::int32_t shard = 0; shard < plan_.shard_count; ++shard) {
      totals[shard] = ShardTotal(row, n, shard);
    }
    out[n] = JoinShards(totals, plan_.shard_count);
  }
}

float ReferenceIntegers::ShardTotal(const QuantizedRow& row, std::int64_t output,
                                    std::int32_t shard) const {
  const std::int16_t* codes = codes_.data() + output * in_features_;
  const float* scales = scales_.data() + output * std::ssize(plan_.pieces);
  const float* offsets = offsets_.data() + output * std::ssize(plan_.pieces);
  float total = 0.0F;
  for (std::size_t p = 0; p < plan_.pieces.size(); ++p) {
    const IntegerPiece& piece = plan_.pieces[p];
    if (piece.shard != shard) {
      continue;
    }
    std::int32_t sum = 0;
    for (std::int64_t k = piece.begin; k < piece.end; ++k) {
      sum += codes[k] * row.values[static_cast<std::size_t>(k)];
    }
    const float scale = plan_.grouped ? scales[p] * row.scales[p] : row.scales[p];
    total = std::fma(static_cast<float>(sum), scale, total);
    if (plan_.offsets) {
      total = std::fma(offsets[p], row.sums[p], total);
    }
  }
  return plan_.grouped ? total : total * scales[0];
}

}  // namespace pixii::kernels
