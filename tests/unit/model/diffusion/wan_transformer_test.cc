#include "model/diffusion/wan_transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/diffusion/noise.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using kernels::Volume;
using testing::CpuOperators;
using ::testing::HasSubstr;
using testing::TinyWan;

TEST(WanRotary, TurnsByFrameRowAndColumn) {
  const RotaryFactors factors = WanRotary({2, 3, 4}, 24);  // 4 pairs, 4 and 4
  ASSERT_EQ(factors.cos.size(), 24U * 12U);
  const std::size_t token = (1 * 3 + 2) * 4 + 3;  // frame 1, row 2, column 3
  const float* cos = factors.cos.data() + token * 12;
  const float* sin = factors.sin.data() + token * 12;
  EXPECT_FLOAT_EQ(cos[0], std::cos(1.0F));
  EXPECT_FLOAT_EQ(sin[1], static_cast<float>(std::sin(std::pow(10000.0, -2.0 / 8))));
  EXPECT_FLOAT_EQ(cos[4], std::cos(2.0F));
  EXPECT_FLOAT_EQ(cos[8], std::cos(3.0F));
  EXPECT_FLOAT_EQ(sin[11], static_cast<float>(std::sin(3 * std::pow(10000.0, -6.0 / 8))));
  // 128 elements of a head: 44 for frames, 42 for rows and for columns.
  const RotaryFactors wide = WanRotary({2, 2, 1}, 128);
  EXPECT_FLOAT_EQ(wide.cos[64 + 21], 1.0F);  // row 1 turns nothing of the frames' part
  EXPECT_FLOAT_EQ(wide.cos[2 * 64 + 0], std::cos(1.0F));
  EXPECT_FLOAT_EQ(wide.cos[1 * 64 + 22], std::cos(1.0F));
}

TEST(TimestepWave, IsCosinesThenSines) {
  const std::vector<float> wave = TimestepWave(500.0F, 8);
  EXPECT_FLOAT_EQ(wave[0], std::cos(500.0F));
  EXPECT_FLOAT_EQ(wave[4], std::sin(500.0F));
  EXPECT_NEAR(wave[7], std::sin(500.0F * 0.001F), 1e-6);
}

struct Loaded {
  TinyWan folder;
  std::unique_ptr<kernels::Operators> operators;
  std::unique_ptr<WanTransformer> transformer;

  explicit Loaded(int threads = 1) : operators(CpuOperators(threads)) {
    auto open = CheckpointFolder::Open(folder.path() + "/transformer");
    transformer = std::move(*WanTransformer::Load(*open, *operators, kernels::ComputeType::kF32));
  }

  struct Lane {
    std::uint64_t seed;
    float timestep;
  };

  std::vector<float> Run(const std::vector<Lane>& lanes, const Volume& latents) const {
    const auto count = static_cast<std::int32_t>(lanes.size());
    const std::size_t size = static_cast<std::size_t>(4 * latents.pixels());
    std::vector<float> in(lanes.size() * size);
    std::vector<float> text(lanes.size() * 6 * 16);
    std::vector<float> timesteps;
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      FillNoise(lanes[i].seed, std::span(in).subspan(i * size, size));
      FillNoise(lanes[i].seed + 1000, std::span(text).subspan(i * 96, 96));
      timesteps.push_back(lanes[i].timestep);
    }
    WanText words = std::move(*transformer->MakeText(text, count, 6));
    WanPass pass;
    transformer->Prepare(latents, count, pass);
    transformer->Begin(in, timesteps, pass);
    while (!transformer->done(pass)) {
      EXPECT_TRUE(transformer->RunBlock(words, pass).has_value());
    }
    std::vector<float> out(in.size());
    transformer->Finish(pass, out);
    return out;
  }
};

TEST(WanTransformer, GivesALaneTheSameBitsAloneAndBesideOthers) {
  const Loaded loaded;
  const Volume latents = {3, 4, 6};
  const std::vector<float> alone = loaded.Run({{7, 640.5F}}, latents);
  const std::vector<float> beside = loaded.Run({{3, 12.0F}, {7, 640.5F}, {9, 999.0F}}, latents);
  const std::size_t size = alone.size();
  for (std::size_t i = 0; i < size; ++i) {
    ASSERT_EQ(alone[i], beside[size + i]) << i;
  }
  EXPECT_EQ(Loaded(3).Run({{7, 640.5F}}, latents), alone) << "threads";
}

TEST(WanTransformer, SeesTimeAndText) {
  const Loaded loaded;
  const Volume latents = {1, 2, 2};
  const std::vector<float> one = loaded.Run({{7, 640.0F}}, latents);
  EXPECT_NE(loaded.Run({{7, 641.0F}}, latents), one);
}

TEST(WanTransformer, RefusesLatentsThatAreNoPatches) {
  const Loaded loaded;
  for (const Volume& latents : {Volume{1, 3, 4}, Volume{1, 4, 5}, Volume{0, 4, 4}}) {
    const auto fits = loaded.transformer->CheckLatents(latents, 1);
    ASSERT_FALSE(fits.has_value());
    EXPECT_EQ(fits.error().code(), Code::kInvalidArgument);
  }
  const auto fits = loaded.transformer->CheckLatents({1024, 1024, 1024}, 2);
  ASSERT_FALSE(fits.has_value());
  EXPECT_EQ(fits.error().code(), Code::kTooLarge);
}

TEST(ParseWanConfig, RefusesWhatIsNotBuiltByName) {
  struct Change {
    const char* from;
    const char* to;
    const char* said;
  };

  for (const Change& change :
       {Change{R"("cross_attn_norm": true)", R"("cross_attn_norm": false)", "cross_attn_norm"},
        Change{"rms_norm_across_heads", "rms_norm", "qk_norm"},
        Change{R"("image_dim": null)", R"("image_dim": 1280)", "added_kv_proj_dim"},
        Change{"[1, 2, 2]", "[1, 2]", "patch_size"}, Change{"[1, 2, 2]", "[1, 0, 2]", "patch_size"},
        Change{R"("attention_head_dim": 12)", R"("attention_head_dim": 13)", "attention_head_dim"},
        Change{R"("num_layers": 2)", R"("num_layers": 0)", "num_layers"}}) {
    const TinyWan folder;
    folder.Replace("transformer/config.json", change.from, change.to);
    const auto open = CheckpointFolder::Open(folder.path() + "/transformer");
    const auto operators = CpuOperators();
    const auto loaded = WanTransformer::Load(*open, *operators, kernels::ComputeType::kF32);
    ASSERT_FALSE(loaded.has_value()) << change.to;
    EXPECT_THAT(loaded.error().detail(), HasSubstr(change.said));
  }
}

}  // namespace
}  // namespace pixii::model
