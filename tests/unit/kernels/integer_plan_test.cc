#include "kernels/integer_plan.h"

#include <gtest/gtest.h>

#include <vector>

namespace pixii::kernels {
namespace {

/// A part of zeros with one scale and maybe one offset everywhere; owns its memory.
struct TestPart {
  std::vector<unsigned char> bytes;
  std::vector<float> scales;
  std::vector<float> offsets;
  WeightPart part;

  TestPart(WeightCode code, std::int64_t cols, std::int64_t group, float offset)
      : bytes(static_cast<std::size_t>(4 * cols)),
        scales(static_cast<std::size_t>(4 * ((cols + group - 1) / group)), 0.5F),
        offsets(scales.size(), offset) {
    part = {.data = bytes.data(),
            .rows = 4,
            .cols = cols,
            .code = code,
            .scales = scales.data(),
            .offsets = offset == 0.0F ? nullptr : offsets.data(),
            .scale_rows = 1,
            .scale_cols = group};
  }
};

TEST(PlanIntegers, CutsKWhereShardsAndGroupsEndAndAtTheLargestPiece) {
  const TestPart weight(WeightCode::kInt8, 1000, 300, 0.0F);
  const auto plan = PlanIntegers({&weight.part, 1}, {.k_shards = 8});
  ASSERT_TRUE(plan.has_value());
  EXPECT_TRUE(plan->grouped);
  std::int64_t at = 0;
  for (const IntegerPiece& piece : plan->pieces) {
    EXPECT_EQ(piece.begin, at);
    at = piece.end;
    EXPECT_LE(piece.end - piece.begin, kPieceElementsMax);
    EXPECT_EQ(piece.begin / 300, (piece.end - 1) / 300) << "a piece has one scale";
    EXPECT_EQ(piece.begin / 126, (piece.end - 1) / 126) << "shards are 126 elements";
    EXPECT_EQ(piece.shard, piece.begin / 126);
  }
  EXPECT_EQ(at, 1000);
  EXPECT_EQ(plan->pieces.size(), 11U);  // eight shards, three group ends inside
}

TEST(PlanIntegers, EveryShardHasAPieceEvenWithoutElements) {
  const TestPart weight(WeightCode::kInt8, 6, 6, 0.0F);
  const auto plan = PlanIntegers({&weight.part, 1}, {.k_shards = 8});
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->pieces.size(), 8U);
  EXPECT_EQ(plan->pieces.back().begin, plan->pieces.back().end);
}

TEST(PlanIntegers, OffsetsOfEightScalesAreAZeroPoint) {
  const TestPart middle(WeightCode::kUint4, 64, 32, -4.0F);
  const auto plan = PlanIntegers({&middle.part, 1}, {});
  ASSERT_TRUE(plan.has_value());
  EXPECT_FALSE(plan->offsets);
  EXPECT_EQ(plan->zero, 8);
  const TestPart other(WeightCode::kUint4, 64, 32, -3.5F);
  const auto kept = PlanIntegers({&other.part, 1}, {});
  ASSERT_TRUE(kept.has_value());
  EXPECT_TRUE(kept->offsets);
  EXPECT_EQ(kept->zero, 0);
}

TEST(PlanIntegers, ValuesFloatCodesTinyGroupsAndMixedPartsAreNotForIntegers) {
  const std::vector<float> values(64);
  const WeightPart plain{.data = values.data(), .rows = 1, .cols = 64};
  EXPECT_FALSE(PlanIntegers({&plain, 1}, {}).has_value());
  const TestPart fp8(WeightCode::kFp8E4m3, 64, 64, 0.0F);
  EXPECT_FALSE(PlanIntegers({&fp8.part, 1}, {}).has_value());
  const TestPart tiny(WeightCode::kInt8, 64, 8, 0.0F);
  EXPECT_FALSE(PlanIntegers({&tiny.part, 1}, {}).has_value());
  const TestPart whole(WeightCode::kInt8, 64, 64, 0.0F);
  const TestPart halves(WeightCode::kInt8, 64, 32, 0.0F);
  const WeightPart mixed[] = {whole.part, halves.part};
  EXPECT_FALSE(PlanIntegers(mixed, {}).has_value());
  const WeightPart same[] = {whole.part, whole.part};
  EXPECT_TRUE(PlanIntegers(same, {}).has_value());
}

}  // namespace
}  // namespace pixii::kernels
