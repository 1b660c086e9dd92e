#include "engine/row_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace pixii::engine {
namespace {

TEST(RowMath, ExponentialIsWithinAFewUnitsInTheLastPlace) {
  for (float x = 0; x > -87; x -= 0.0137F) {
    double exact = std::exp(double{x});
    EXPECT_NEAR(double{ExpNegative(x)} / exact, 1.0, 2e-7) << x;
  }
  EXPECT_EQ(ExpNegative(0), 1.0F);
  EXPECT_EQ(ExpNegative(-200), 0.0F);
  EXPECT_EQ(ExpNegative(-std::numeric_limits<float>::infinity()), 0.0F);
  EXPECT_EQ(ExpNegative(std::numeric_limits<float>::quiet_NaN()), 0.0F);
}

TEST(RowMath, MaximumSkipsNaNAtEveryPlace) {
  for (std::size_t size = 1; size < 40; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      std::vector<float> row(size, -5.0F);
      row[at] = 3.0F;
      row[(at + 1) % size] = size > 1 ? std::numeric_limits<float>::quiet_NaN() : 3.0F;
      EXPECT_EQ(RowMax(row), 3.0F) << size << " " << at;
    }
  }
}

TEST(RowMath, SumsOfAnyLengthAgreeWithDoubleArithmetic) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal(0, 4);
  for (std::size_t size : {1, 7, 8, 63, 64, 65, 500, 4096, 151'936}) {
    std::vector<float> row(size);
    for (float& x : row) {
      x = normal(random);
    }
    float max = RowMax(row);
    std::vector<float> weights(size);
    std::vector<double> blocks((size + kRowBlock - 1) / kRowBlock);
    double total = RowWeights(row, max, 0.7F, weights, blocks);
    double exact = 0;
    double exact_at_one = 0;
    for (std::size_t i = 0; i < size; ++i) {
      exact += std::exp((double{row[i]} - double{max}) / double{0.7F});
      exact_at_one += std::exp(double{row[i]} - double{max});
    }
    EXPECT_NEAR(total / exact, 1.0, 1e-6) << size;
    EXPECT_NEAR(LogSumExp(row, max), double{max} + std::log(exact_at_one), 1e-6) << size;
    double sum_of_blocks = 0;
    for (double block : blocks) {
      sum_of_blocks += block;
    }
    EXPECT_EQ(sum_of_blocks, total);  // the draw walks the blocks in this order
  }
}

TEST(RowMath, BitsAreTheOnesWrittenDown) {
  // One machine, compiler or flag that rounds differently would break bit-equality between workers.
  std::vector<float> row(1000);
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = static_cast<float>(static_cast<int>(i * 7919 % 1000) - 500) / 64.0F;
  }
  EXPECT_EQ(LogSumExp(row, RowMax(row)), 0x1.7ed57c4ccf7fcp+3);
  EXPECT_EQ(ExpNegative(-0.1F), 0x1.cf46dap-1F);
  EXPECT_EQ(ExpNegative(-12.34F), 0x1.257c2ap-18F);
}

}  // namespace
}  // namespace pixii::engine
