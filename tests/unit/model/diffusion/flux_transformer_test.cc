#include "model/diffusion/flux_transformer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "unit/model/diffusion/golden_folder.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

TEST(FluxRotary, TurnsPicturesByRowAndColumnAndTextsNotAtAll) {
  const std::vector<std::int32_t> axes = {2, 4, 6};
  const RotaryFactors factors = FluxRotary(3, {1, 2, 4}, axes);
  ASSERT_EQ(factors.cos.size(), (3U + 8U) * 6U);
  for (std::size_t i = 0; i < 3 * 6; ++i) {
    EXPECT_EQ(factors.cos[i], 1.0F);
    EXPECT_EQ(factors.sin[i], 0.0F);
  }
  const std::size_t token = 3 + 1 * 4 + 3;  // row 1, column 3
  const float* sin = factors.sin.data() + token * 6;
  EXPECT_EQ(sin[0], 0.0F);
  EXPECT_FLOAT_EQ(sin[1], std::sin(1.0F));
  EXPECT_FLOAT_EQ(sin[2], static_cast<float>(std::sin(std::pow(10000.0, -0.5))));
  EXPECT_FLOAT_EQ(sin[3], std::sin(3.0F));
  EXPECT_FLOAT_EQ(sin[5], static_cast<float>(std::sin(3 * std::pow(10000.0, -4.0 / 6))));
}

TEST(FluxTransformer, RefusesLatentsThatAreNoPatches) {
  const testing::GoldenFolder folder("flux");
  const auto open = CheckpointFolder::Open(folder.path() + "/transformer");
  const auto operators = testing::CpuOperators();
  const auto transformer =
      std::move(*FluxTransformer::Load(*open, *operators, kernels::ComputeType::kF32));
  EXPECT_TRUE(transformer->CheckLatents({1, 4, 6}, 1, 7).has_value());
  for (const kernels::Volume& latents : {kernels::Volume{1, 3, 4}, kernels::Volume{1, 4, 5},
                                         kernels::Volume{2, 4, 4}, kernels::Volume{1, 0, 4}}) {
    const auto fits = transformer->CheckLatents(latents, 1, 7);
    ASSERT_FALSE(fits.has_value());
    EXPECT_EQ(fits.error().code(), Code::kInvalidArgument);
  }
  const auto fits = transformer->CheckLatents({1, 8192, 8192}, 1, 7);
  ASSERT_FALSE(fits.has_value());
  EXPECT_EQ(fits.error().code(), Code::kTooLarge);
}

}  // namespace
}  // namespace pixii::model
