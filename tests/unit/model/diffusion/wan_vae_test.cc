#include "model/diffusion/wan_vae.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/diffusion/noise.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using kernels::Volume;
using testing::CpuOperators;
using ::testing::HasSubstr;
using testing::TinyWan;

struct Loaded {
  TinyWan folder;
  std::unique_ptr<kernels::Operators> operators;
  std::unique_ptr<WanVae> vae;

  explicit Loaded(int threads = 1) : operators(CpuOperators(threads)) {
    auto open = CheckpointFolder::Open(folder.path() + "/vae");
    vae = std::move(*WanVae::Load(*open, *operators, kernels::ComputeType::kF32));
  }

  /// Pictures of latent frames by seed, of 3 x 2 each.
  std::vector<std::vector<float>> Decode(const std::vector<std::uint64_t>& seeds) const {
    VaeStream stream = vae->NewStream();
    std::vector<std::vector<float>> out;
    for (const std::uint64_t seed : seeds) {
      std::vector<float> latent(4 * 6);
      FillNoise(seed, latent);
      out.push_back(std::move(vae->Decode(stream, latent, 3, 2)->rgb));
    }
    return out;
  }
};

TEST(WanVae, DecodesOneFrameThenPairs) {
  const Loaded loaded;
  EXPECT_EQ(loaded.vae->config().space_scale(), 4);
  EXPECT_EQ(loaded.vae->config().time_scale(), 2);
  const auto pictures = loaded.Decode({1, 2, 3});
  EXPECT_EQ(pictures[0].size(), 1U * 12 * 8 * 3);
  EXPECT_EQ(pictures[1].size(), 2U * 12 * 8 * 3);
}

TEST(WanVae, RemembersFramesBeforeAndNeverSeesThoseAfter) {
  const Loaded loaded;
  const auto all = loaded.Decode({1, 2, 3, 4});
  const auto end = loaded.Decode({1, 2, 3, 9});
  EXPECT_EQ(all[0], end[0]);
  EXPECT_EQ(all[1], end[1]);
  EXPECT_EQ(all[2], end[2]);
  EXPECT_NE(all[3], end[3]);
  EXPECT_NE(all[2], loaded.Decode({1, 9, 3})[2]);
  EXPECT_EQ(Loaded(3).Decode({1, 2, 3, 4}), all) << "threads";
}

TEST(WanVae, EncodesOneFrameThenPairsAndRemembers) {
  const Loaded loaded;
  const auto encode = [&](const std::vector<std::uint64_t>& seeds) {
    VaeStream stream = loaded.vae->NewStream();
    std::vector<std::vector<float>> out;
    for (const std::uint64_t seed : seeds) {
      const Volume volume = {stream.begun() ? 2 : 1, 8, 12};
      std::vector<float> pictures(static_cast<std::size_t>(volume.pixels() * 3));
      FillNoise(seed, pictures);
      out.push_back(std::move(*loaded.vae->Encode(stream, pictures, volume)));
    }
    return out;
  };
  const auto latents = encode({1, 2, 3});
  EXPECT_EQ(latents[0].size(), 4U * 2 * 3);
  EXPECT_EQ(latents[2].size(), 4U * 2 * 3);
  EXPECT_EQ(latents[1], encode({1, 2, 9})[1]);
  EXPECT_NE(latents[2], encode({1, 9, 3})[2]);
}

TEST(WanVae, NormalizesByChannel) {
  const Loaded loaded;
  std::vector<float> latents = {1.0F, 2.0F, 1.0F, 2.0F, 1.0F, 2.0F, 1.0F, 2.0F};
  loaded.vae->Denormalize(latents);
  EXPECT_FLOAT_EQ(latents[0], 1.6F);  // times 1.5, and 0.1
  EXPECT_FLOAT_EQ(latents[3], 0.8F);  // 2 times 0.5, less 0.2
  EXPECT_FLOAT_EQ(latents[7], 4.3F);
  loaded.vae->Normalize(latents);
  EXPECT_NEAR(latents[0], 1.0F, 1e-6);
  EXPECT_NEAR(latents[7], 2.0F, 1e-6);
}

TEST(ParseVaeConfig, RefusesWhatIsNotBuiltByName) {
  struct Change {
    const char* from;
    const char* to;
    const char* said;
  };

  for (const Change& change :
       {Change{R"("is_residual": false)", R"("is_residual": true)", "is_residual"},
        Change{R"("attn_scales": [])", R"("attn_scales": [1.0])", "attn_scales"},
        Change{R"("patch_size": null)", R"("patch_size": 2)", "patch_size"},
        Change{R"("out_channels": 3)", R"("out_channels": 12)", "out_channels"},
        Change{"[false, true]", "[false]", "temperal_downsample"},
        Change{"[1.5, 0.5, 1.0, 2.0]", "[1.5, 0.5, 0.0, 2.0]", "latents_std"},
        Change{"[0.1, -0.2, 0.0, 0.3]", "[0.1]", "latents_mean"},
        Change{R"("base_dim": 4)", R"("base_dim": 400)", "base_dim"}}) {
    const TinyWan folder;
    folder.Replace("vae/config.json", change.from, change.to);
    const auto open = CheckpointFolder::Open(folder.path() + "/vae");
    const auto operators = CpuOperators();
    const auto loaded = WanVae::Load(*open, *operators, kernels::ComputeType::kF32);
    ASSERT_FALSE(loaded.has_value()) << change.to;
    EXPECT_THAT(loaded.error().detail(), HasSubstr(change.said));
  }
}

}  // namespace
}  // namespace pixii::model
