// A linear in integers, by plain loops: the definition of ComputeType::kInt8.
//
// For each piece p of K (integer_plan.h), with x the input row and n an output:
//   largest = max |x[k]|;  inverse = 127 / largest;  scale = largest / 127, all in fp32
//   q[k] = x[k] * inverse rounded to a whole number, ties to even
//   sum = sum over k of (code[n][k] - zero) * q[k], exact
//   total = fma(float(sum), s, total), s = weight scale[n][p] * scale, or scale alone where each
//           output has one scale, which then multiplies the shard's total
//   total = fma(offset[n][p], scale * float(sum of q[k]), total), where there are offsets
// Totals start at 0 for each shard; shards are joined ((0+1)+(2+3))+((4+5)+(6+7)), then the bias is
// added. A piece below kPieceMagnitudeMin counts as zeros; one with a value that is not finite gets
// scale NaN, so that the fault shows in its own row. Thread: values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/integer_plan.h"
#include "kernels/operators.h"
#include "kernels/weight_source.h"

namespace pixii::kernels {

class ReferenceIntegers final {
 public:
  ReferenceIntegers(IntegerPlan plan, std::span<const PartRow> rows);

  /// Writes one row of outputs, without bias. `in` [in_features], `out` [out_features].
  void Multiply(const float* in, float* out) const;

 private:
  struct QuantizedRow;

  float ShardTotal(const QuantizedRow& row, std::int64_t output, std::int32_t shard) const;

  IntegerPlan plan_;
  std::int64_t in_features_ = 0;
  std::int64_t out_features_ = 0;
  std::vector<std::int16_t> codes_;  // [out_features, in_features], zero taken
  std::vector<float> scales_;        // [out_features, pieces]
  std::vector<float> offsets_;
};

}  // namespace pixii::kernels
