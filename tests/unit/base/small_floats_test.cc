#include "base/small_floats.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace pixii {
namespace {

TEST(Bf16, EveryBf16ComesBackUnchangedAndNanStaysNan) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = FloatFromBf16(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FloatFromBf16(Bf16FromFloat(value)))) << bits;
    } else {
      EXPECT_EQ(Bf16FromFloat(value), bits);
    }
  }
}

TEST(Bf16, RoundsTiesToEvenAndOverflowsToInfinity) {
  EXPECT_EQ(Bf16FromFloat(std::bit_cast<float>(0x3F808000U)), 0x3F80);  // halfway, even below
  EXPECT_EQ(Bf16FromFloat(std::bit_cast<float>(0x3F818000U)), 0x3F82);  // halfway, even above
  EXPECT_EQ(Bf16FromFloat(std::bit_cast<float>(0x3F808001U)), 0x3F81);
  EXPECT_EQ(Bf16FromFloat(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_TRUE(std::isnan(FloatFromBf16(Bf16FromFloat(std::bit_cast<float>(0x7F800001U)))));
}

TEST(F16, EveryF16ComesBackUnchangedAndNanStaysNan) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = FloatFromF16(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FloatFromF16(F16FromFloat(value)))) << bits;
    } else {
      EXPECT_EQ(F16FromFloat(value), bits);
    }
  }
}

TEST(F16, RoundsTiesToEvenAlsoAmongSubnormalsAndOverflowsAt65520) {
  EXPECT_EQ(F16FromFloat(1.0F + 0x1p-11F), 0x3C00);
  EXPECT_EQ(F16FromFloat(1.0F + 0x3p-11F), 0x3C02);
  EXPECT_EQ(F16FromFloat(0x1p-25F), 0x0000);
  EXPECT_EQ(F16FromFloat(0x3p-25F), 0x0002);
  EXPECT_EQ(F16FromFloat(-0x1p-24F), 0x8001);
  EXPECT_EQ(F16FromFloat(65519.0F), 0x7BFF);
  EXPECT_EQ(F16FromFloat(65520.0F), 0x7C00);
}

}  // namespace
}  // namespace pixii
