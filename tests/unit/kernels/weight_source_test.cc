#include "kernels/weight_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
