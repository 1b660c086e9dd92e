#include "kernels/integer_plan.h"

#include <algorithm>

#include "kernels/weight_source.h"

namespace pixii::kernels {
namespace {

constexpr float kMiddleOfUint4 = 8.0F;

/// Columns that share a scale; all of them where a row has one.
std::int64_t GroupOf(const WeightPart& part) { return std::min(part.scale_cols, part.cols); }

/// Whether every offset says that code 8 is zero, as symmetric four-bit formats do.
bool OffsetsAreMiddle(std::span<const WeightPart> parts) {
  return std::all_of(parts.begin(), parts.end(), [](const WeightPart& part) {
    if (part.offsets == nullptr) {
      return false;
    }
    const std::int64_t count = ScaleRows(part) * ScaleColumns(part);
    for (std::int64_t i = 0; i < count; ++i) {
      if (part.offsets[i] != -kMiddleOfUint4 * part.scales[i]) {
        return false;
      }
    }
    return true;
  });
}

}  // namespace

std::optional<IntegerPlan> PlanIntegers(std::span<const WeightPart> parts,
                                        const LinearOptions& options) {
  const WeightPart& first = parts.front();
  const std::int64_t group = GroupOf(first);
  if ((first.code != WeightCode::kInt8 && first.code != WeightCode::kUint4) ||
      (group < first.cols && group < kIntegerGroupMin)) {
    return std::nullopt;
  }
  IntegerPlan plan;
  plan.code = first.code;
  plan.grouped = group < first.cols;
  for (const WeightPart& part : parts) {
    if (part.code != first.code || GroupOf(part) != group) {
      return std::nullopt;
    }
    plan.offsets = plan.offsets || part.offsets != nullptr;
  }
  if (plan.offsets && plan.code == WeightCode::kUint4 && OffsetsAreMiddle(parts)) {
    plan.offsets = false;
    plan.zero = static_cast<std::int32_t>(kMiddleOfUint4);
  }
  plan.grouped = plan.grouped || plan.offsets;
  const ShardPlan shards = MakeShardPlan(first.cols, options);
  plan.shard_count = shards.count;
  plan.column = shards.column;
  plan.columns = shards.k;
  for (std::int32_t shard = 0; shard < shards.count; ++shard) {
    const std::int64_t end = shards.column + shards.End(shard);
    std::int64_t at = shards.column + shards.Begin(shard);
    do {
      const std::int64_t next = std::min({end, at + kPieceElementsMax, (at / group + 1) * group});
      plan.pieces.push_back({.begin = at, .end = next, .shard = shard});
      at = next;
    } while (at < end);
  }
  return plan;
}

}  // namespace pixii::kernels
