#include "model/diffusion/kl_vae.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/diffusion/noise.h"
#include "model/diffusion/tiled_decoder.h"
#include "unit/model/diffusion/golden_folder.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

TEST(GroupNorm, IsOverAllPixelsOfAGroupsChannels) {
  std::vector<float> in = {1, 2, 10, 30, 3, 4, 50, 70};  // two pixels of four channels
  std::vector<float> out(in.size());
  const std::vector<float> weight = {1, 2, 1, 1};
  const std::vector<float> bias = {0, 0, 5, 0};
  GroupNorm({in.data(), kernels::DType::kF32, 2, 4, 4}, 2, weight, bias,
            {out.data(), kernels::DType::kF32, 2, 4, 4});
  const float first = std::sqrt(1.25F + 1e-6F);  // of 1 2 3 4
  EXPECT_NEAR(out[0], -1.5F / first, 1e-6);
  EXPECT_NEAR(out[1], 2 * -0.5F / first, 1e-6);
  EXPECT_NEAR(out[5], 2 * 1.5F / first, 1e-6);
  EXPECT_NEAR(out[2], -30 / std::sqrt(500.0F) + 5, 1e-5);
  EXPECT_NEAR(out[7], 30 / std::sqrt(500.0F), 1e-5);
}

struct Loaded {
  testing::GoldenFolder folder{"flux"};
  std::unique_ptr<kernels::Operators> operators = testing::CpuOperators();
  std::unique_ptr<KlVae> vae;

  Loaded() {
    const auto open = CheckpointFolder::Open(folder.path() + "/vae");
    vae = std::move(*KlVae::Load(*open, *operators, kernels::ComputeType::kF32));
  }
};

TEST(KlVae, UndoesScaleAndShiftOfLatents) {
  const Loaded loaded;
  std::vector<float> latents = {0.0F, 0.3611F};
  loaded.vae->Denormalize(latents);
  EXPECT_FLOAT_EQ(latents[0], 0.1159F);
  EXPECT_FLOAT_EQ(latents[1], 1.1159F);
}

TEST(KlVae, DecodesInTilesThatCoverThePicture) {
  const Loaded loaded;
  std::vector<float> latent(4 * 6 * 9);
  FillNoise(1, latent);
  TiledDecoder whole(*loaded.vae, {}, 6, 9);
  TiledDecoder tiled(*loaded.vae, {.size = 32, .stride = 24}, 6, 9);
  EXPECT_EQ(whole.tile_count(), 1U);
  EXPECT_EQ(tiled.tile_count(), 6U);
  const Pictures picture = *whole.Decode(latent);
  const Pictures parts = *tiled.Decode(latent);
  EXPECT_EQ(picture.volume, (kernels::Volume{1, 48, 72}));
  EXPECT_EQ(parts.volume, picture.volume);
  EXPECT_NE(parts.rgb, picture.rgb) << "tiles do not see each other";
}

}  // namespace
}  // namespace pixii::model
