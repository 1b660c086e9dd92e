#include "model/diffusion/noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace pixii::model {
namespace {

TEST(Philox, GivesTheKnownAnswersOfItsAuthors) {
  using Words = std::array<std::uint32_t, 4>;
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}));
  EXPECT_EQ(Philox({0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}, {0xFFFFFFFF, 0xFFFFFFFF}),
            (Words{0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}));
  EXPECT_EQ(Philox({0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344}, {0xA4093822, 0x299F31D0}),
            (Words{0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}));
}

TEST(FillNoise, GivesEachElementByItsPlaceAndSeedAlone) {
  std::vector<float> longer(1001);
  std::vector<float> shorter(7);
  std::vector<float> other(7);
  FillNoise(99, longer);
  FillNoise(99, shorter);
  FillNoise(100, other);
  for (std::size_t i = 0; i < shorter.size(); ++i) {
    EXPECT_EQ(shorter[i], longer[i]);
    EXPECT_NE(shorter[i], other[i]);
  }
}

TEST(FillNoise, IsNormal) {
  std::vector<float> values(100'000);
  FillNoise(5, values);
  double sum = 0.0;
  double squares = 0.0;
  int within = 0;
  for (const float value : values) {
    ASSERT_TRUE(std::isfinite(value));
    sum += value;
    squares += double{value} * value;
    within += std::abs(value) < 1.0F ? 1 : 0;
  }
  const auto count = static_cast<double>(values.size());
  EXPECT_NEAR(sum / count, 0.0, 0.02);
  EXPECT_NEAR(squares / count, 1.0, 0.02);
  EXPECT_NEAR(within / count, 0.6827, 0.01);
}

}  // namespace
}  // namespace pixii::model
