#include "model/diffusion/tiled_decoder.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "model/diffusion/noise.h"
#include "model/diffusion/wan_vae.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using testing::CpuOperators;
using testing::TinyWan;

Tile Plain(std::int32_t height, std::int32_t width, float value) {
  Tile tile{.volume = {2, height, width}, .rgb = {}};
  tile.rgb.assign(static_cast<std::size_t>(tile.volume.pixels() * 3), value);
  return tile;
}

float At(const Tile& tile, std::int32_t frame, std::int32_t y, std::int32_t x) {
  return tile.rgb[static_cast<std::size_t>(
      ((frame * tile.volume.height + y) * tile.volume.width + x) * 3)];
}

TEST(Blend, PassesFromOneTileToTheNext) {
  Tile to = Plain(6, 3, 1.0F);
  BlendDown(Plain(5, 3, 0.0F), 4, to);
  for (const std::int32_t frame : {0, 1}) {
    EXPECT_EQ(At(to, frame, 0, 2), 0.0F);
    EXPECT_EQ(At(to, frame, 1, 0), 0.25F);
    EXPECT_EQ(At(to, frame, 3, 1), 0.75F);
    EXPECT_EQ(At(to, frame, 4, 1), 1.0F);
  }
  to = Plain(3, 6, 1.0F);
  BlendAcross(Plain(3, 2, 0.0F), 4, to);  // no wider than the narrower tile
  EXPECT_EQ(At(to, 1, 2, 0), 0.0F);
  EXPECT_EQ(At(to, 1, 2, 1), 0.5F);
  EXPECT_EQ(At(to, 0, 0, 2), 1.0F);
}

struct Loaded {
  TinyWan folder;
  std::unique_ptr<kernels::Operators> operators = CpuOperators();
  std::unique_ptr<WanVae> vae;

  Loaded() {
    auto open = CheckpointFolder::Open(folder.path() + "/vae");
    vae = std::move(*WanVae::Load(*open, *operators, kernels::ComputeType::kF32));
  }
};

/// [4, height, width] of noise.
std::vector<float> Latent(std::uint64_t seed, std::int32_t height, std::int32_t width) {
  std::vector<float> out(static_cast<std::size_t>(4 * height * width));
  FillNoise(seed, out);
  return out;
}

TEST(TiledDecoder, GivesTheWholePictureWhereATileHoldsIt) {
  const Loaded loaded;
  TiledDecoder whole(*loaded.vae, {}, 3, 5);
  TiledDecoder large(*loaded.vae, {.size = 20, .stride = 12}, 3, 5);
  EXPECT_EQ(large.tile_count(), 1U);
  VaeStream stream = loaded.vae->NewStream();
  for (const std::uint64_t seed : {1U, 2U}) {
    const std::vector<float> latent = Latent(seed, 3, 5);
    WanVae::Pictures plain = std::move(*loaded.vae->Decode(stream, latent, 3, 5));
    for (float& value : plain.rgb) {
      value = std::clamp(value, -1.0F, 1.0F);
    }
    EXPECT_EQ(whole.Decode(latent)->rgb, plain.rgb);
    EXPECT_EQ(large.Decode(latent)->rgb, plain.rgb);
  }
}

TEST(TiledDecoder, DecodesEachTileAloneAndBlendsTheSeams) {
  const Loaded loaded;
  // Tiles of 4 x 4 latents, 3 apart, of 6 x 5: four, of which the lower ones have 3 rows.
  TiledDecoder tiled(*loaded.vae, {.size = 16, .stride = 12}, 6, 5);
  EXPECT_EQ(tiled.tile_count(), 4U);
  VaeStream first = loaded.vae->NewStream();
  VaeStream last = loaded.vae->NewStream();
  for (const std::uint64_t seed : {1U, 2U}) {
    const std::vector<float> latent = Latent(seed, 6, 5);
    const auto cut = [&](std::int32_t top, std::int32_t left, std::int32_t height,
                         std::int32_t width) {
      std::vector<float> part;
      for (std::int32_t c = 0; c < 4; ++c) {
        for (std::int32_t y = top; y < top + height; ++y) {
          const auto row = latent.begin() + (c * 6 + y) * 5 + left;
          part.insert(part.end(), row, row + width);
        }
      }
      return part;
    };
    const WanVae::Pictures all = *tiled.Decode(latent);
    ASSERT_EQ(all.volume.height, 24);
    ASSERT_EQ(all.volume.width, 20);
    const WanVae::Pictures corner = *loaded.vae->Decode(first, cut(0, 0, 4, 4), 4, 4);
    const WanVae::Pictures end = *loaded.vae->Decode(last, cut(3, 3, 3, 2), 3, 2);
    const std::int32_t frame = all.volume.frames - 1;
    EXPECT_EQ(At(all, frame, 0, 0), std::clamp(At(corner, frame, 0, 0), -1.0F, 1.0F));
    EXPECT_EQ(At(all, frame, 11, 11), std::clamp(At(corner, frame, 11, 11), -1.0F, 1.0F));
    // Past the seams, which are four pixels wide, the last tile is alone.
    EXPECT_EQ(At(all, frame, 16, 16), std::clamp(At(end, frame, 4, 4), -1.0F, 1.0F));
    EXPECT_EQ(At(all, frame, 23, 19), std::clamp(At(end, frame, 11, 7), -1.0F, 1.0F));
    EXPECT_NE(At(all, frame, 13, 16), std::clamp(At(end, frame, 1, 4), -1.0F, 1.0F));
  }
}

}  // namespace
}  // namespace pixii::model
