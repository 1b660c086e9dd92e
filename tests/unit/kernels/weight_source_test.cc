#include "kernels/weight_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace pixii::kernels {
namespace {

using ::testing::HasSubstr;

const float kValues[6] = {1, 2, 3, 4, 5, 6};
const WeightPart kPart{
    .data = kValues, .dtype = DType::kF32, .rows = 2, .cols = 3, .bias = nullptr};

TEST(ShardPlan, EightShardsAreAnEighthEachWhereverKIsAMultipleOfSixteen) {
  for (const std::int64_t k : {16, 896, 4864, 2048}) {
    const ShardPlan plan = MakeShardPlan(k, 8);
    for (std::int32_t i = 0; i < 8; ++i) {
      EXPECT_EQ(plan.Begin(i), k / 8 * i);
      EXPECT_EQ(plan.End(i), k / 8 * (i + 1));
    }
  }
}

TEST(ShardPlan, OddSizesKeepPairsTogetherAndCoverAllOfK) {
  for (const std::int64_t k : {1, 2, 15, 17, 100, 1001}) {
    const ShardPlan plan = MakeShardPlan(k, 8);
    EXPECT_EQ(plan.size % 2, 0);
    std::int64_t covered = 0;
    for (std::int32_t i = 0; i < 8; ++i) {
      EXPECT_EQ(plan.Begin(i), covered);
      covered = plan.End(i);
    }
    EXPECT_EQ(covered, k);
  }
}

TEST(CheckParts, RefusesWithTheValueAndTheLimit) {
  EXPECT_TRUE(CheckParts({&kPart, 1}, {}).has_value());
  const auto detail = [](std::vector<WeightPart> parts, LinearOptions options) {
    const auto result = CheckParts(parts, options);
    return result ? std::string("accepted") : result.error().detail();
  };
  EXPECT_THAT(detail({}, {}), HasSubstr("at least one"));
  EXPECT_THAT(detail({kPart}, {.k_shards = 4}), HasSubstr("k_shards is 4, must be 1 or 8"));
  WeightPart bad = kPart;
  bad.data = nullptr;
  EXPECT_THAT(detail({kPart, bad}, {}), HasSubstr("part 1 has no data"));
  bad = kPart;
  bad.cols = 2;
  EXPECT_THAT(detail({kPart, bad}, {}), HasSubstr("part 1 has 2 columns, part 0 has 3"));
  bad = kPart;
  bad.rows = 0;
  EXPECT_THAT(detail({bad}, {}), HasSubstr("shape [0, 3]"));
  bad.rows = kWeightExtentMax;
  EXPECT_THAT(detail({bad, kPart}, {}), HasSubstr("rows together"));
}

TEST(CheckParts, RefusesCodesWithoutScales) {
  const std::uint8_t codes[6] = {};
  const float scale = 1.0F;
  WeightPart part{.data = codes, .rows = 2, .cols = 3, .code = WeightCode::kInt8};
  EXPECT_THAT(CheckParts({&part, 1}, {}).error().detail(),
              HasSubstr("part 0 has codes but no scales"));
  part.scales = &scale;
  part.scale_rows = 2;
  EXPECT_THAT(CheckParts({&part, 1}, {}).error().detail(), HasSubstr("scale blocks of [2, 0]"));
  part.scale_cols = 3;
  EXPECT_TRUE(CheckParts({&part, 1}, {}).has_value());
}

TEST(ReadRow, Fp8FollowsItsDefinitionAtItsEdges) {
  EXPECT_EQ(FloatFromFp8E4m3(0x00), 0.0F);
  EXPECT_EQ(FloatFromFp8E4m3(0x01), 0x1p-9F);  // the least
  EXPECT_EQ(FloatFromFp8E4m3(0x08), 0x1p-6F);  // the least normal
  EXPECT_EQ(FloatFromFp8E4m3(0x38), 1.0F);
  EXPECT_EQ(FloatFromFp8E4m3(0x7E), 448.0F);  // the largest
  EXPECT_EQ(FloatFromFp8E4m3(0xFE), -448.0F);
  EXPECT_TRUE(std::isnan(FloatFromFp8E4m3(0x7F)));
  EXPECT_TRUE(std::isnan(FloatFromFp8E4m3(0xFF)));
}

TEST(ReadRow, DecodesEachBlockWithItsOwnScaleAndOffset) {
  const std::uint8_t codes[6] = {0x80, 0xFF, 0x7F, 1, 2, 3};  // -128, -1, 127
  const float scales[4] = {1, 2, 4, 8};
  const float offsets[4] = {0.5F, 0, 0, -1};
  const WeightPart part{.data = codes,
                        .rows = 2,
                        .cols = 3,
                        .code = WeightCode::kInt8,
                        .scales = scales,
                        .offsets = offsets,
                        .scale_rows = 1,
                        .scale_cols = 2};
  float row[3];
  ReadRow(part, 0, row);
  EXPECT_THAT(row, ::testing::ElementsAre(-127.5F, -0.5F, 254));
  ReadRow(part, 1, row);
  EXPECT_THAT(row, ::testing::ElementsAre(4, 8, 23));
}

TEST(ReadRow, FourBitRowsBeginAtAByteLowHalfFirst) {
  const std::uint8_t codes[4] = {0x21, 0xF3, 0x9A, 0x0C};
  const float scales[2] = {1, 2};
  WeightPart part{.data = codes,
                  .rows = 2,
                  .cols = 3,
                  .code = WeightCode::kUint4,
                  .scales = scales,
                  .scale_rows = 1,
                  .scale_cols = 3};
  float row[3];
  ReadRow(part, 0, row);
  EXPECT_THAT(row, ::testing::ElementsAre(1, 2, 3));
  ReadRow(part, 1, row);
  EXPECT_THAT(row, ::testing::ElementsAre(20, 18, 24));
  part.code = WeightCode::kFp4E2m1;
  ReadRow(part, 1, row);
  EXPECT_THAT(row, ::testing::ElementsAre(-2, -1, -4));
}

TEST(ReadRow, ReadsUnalignedRowsOfEveryType) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    std::vector<unsigned char> bytes(6 * SizeOf(dtype) + 1);
    for (std::size_t i = 0; i < 6; ++i) {
      if (dtype == DType::kF32) {
        std::memcpy(bytes.data() + 1 + i * 4, &kValues[i], 4);
      } else {
        const std::uint16_t bits =
            dtype == DType::kBf16 ? Bf16FromFloat(kValues[i]) : F16FromFloat(kValues[i]);
        std::memcpy(bytes.data() + 1 + i * 2, &bits, 2);
      }
    }
    float row[3];
    ReadRow({.data = bytes.data() + 1, .dtype = dtype, .rows = 2, .cols = 3, .bias = nullptr}, 1,
            row);
    EXPECT_THAT(row, ::testing::ElementsAre(4, 5, 6));
  }
}

}  // namespace
}  // namespace pixii::kernels
