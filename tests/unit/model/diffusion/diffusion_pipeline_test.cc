#include "model/diffusion/diffusion_pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/diffusion/diffusion_run.h"
#include "model/diffusion/wan_pipeline.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using testing::CpuOperators;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TinyWan;

struct Loaded {
  TinyWan folder;
  std::unique_ptr<kernels::Operators> operators = CpuOperators();
  std::unique_ptr<WanPipeline> pipeline =
      std::move(*WanPipeline::Load(folder.path(), *operators, {}));
};

TEST(DiffusionPipeline, TakesDefaultsFromTheFolder) {
  const Loaded loaded;
  const VideoDefaults& defaults = loaded.pipeline->defaults();
  EXPECT_EQ(defaults.request.shape(),
            (VideoShape{.width = 16, .height = 8, .frames = 5, .steps = 3, .guided = true}));
  EXPECT_EQ(defaults.request.guidance_scale, 4.0);
  EXPECT_EQ(defaults.request.negative_prompt, "blue");
  EXPECT_EQ(defaults.frames_per_second, 8.0);
  EXPECT_EQ(loaded.pipeline->prompt_tokens(), 6);
  EXPECT_EQ(loaded.pipeline->LatentVolume(defaults.request.shape()), (kernels::Volume{3, 2, 4}));
}

TEST(DiffusionPipeline, EndsPromptsAndCutsLongOnes) {
  const Loaded loaded;
  EXPECT_THAT(*loaded.pipeline->Tokenize(" red\n circle "), ElementsAre(3, 5, 1));
  EXPECT_THAT(*loaded.pipeline->Tokenize("red red red red red red red"),
              ElementsAre(3, 3, 3, 3, 3, 1));
}

TEST(DiffusionPipeline, RefusesRequestsNamingTheField) {
  const Loaded loaded;

  struct Bad {
    const char* field;
    void (*change)(VideoRequest&);
  };

  for (const Bad& bad :
       {Bad{"width", [](VideoRequest& request) { request.width = 20; }},
        Bad{"width", [](VideoRequest& request) { request.width = 0; }},
        Bad{"height", [](VideoRequest& request) { request.height = -8; }},
        Bad{"height", [](VideoRequest& request) { request.height = kVideoSideMax + 8; }},
        Bad{"num_frames", [](VideoRequest& request) { request.frames = 4; }},
        Bad{"num_frames", [](VideoRequest& request) { request.frames = 0; }},
        Bad{"num_inference_steps", [](VideoRequest& request) { request.steps = 1001; }},
        Bad{"guidance_scale", [](VideoRequest& request) { request.guidance_scale = -0.1; }},
        Bad{"latents", [](VideoRequest& request) { request.latents = {1.0F}; }}}) {
    VideoRequest request = loaded.pipeline->defaults().request;
    bad.change(request);
    const auto run = loaded.pipeline->Start({request});
    ASSERT_FALSE(run.has_value()) << bad.field;
    EXPECT_EQ(run.error().code(), Code::kInvalidArgument);
    EXPECT_EQ(run.error().param(), bad.field);
  }
  VideoRequest large = loaded.pipeline->defaults().request;
  large.width = large.height = kVideoSideMax;
  large.frames = 99;
  const auto run = loaded.pipeline->Start({large});
  ASSERT_FALSE(run.has_value());
  EXPECT_EQ(run.error().code(), Code::kTooLarge);
}

TEST(DiffusionPipeline, ComputesOnlyEqualShapesTogether) {
  const Loaded loaded;
  VideoRequest first = loaded.pipeline->defaults().request;
  VideoRequest second = first;
  second.frames += 2;
  EXPECT_FALSE(loaded.pipeline->Start({first, second}).has_value());
  second = first;
  second.guidance_scale = 1.0;  // half the work
  EXPECT_FALSE(loaded.pipeline->Start({first, second}).has_value());
  second.guidance_scale = 7.0;
  second.seed = 3;
  second.prompt = "blue";
  EXPECT_TRUE(loaded.pipeline->Start({first, second}).has_value());
  EXPECT_FALSE(loaded.pipeline->Start({}).has_value());
}

TEST(DiffusionPipeline, RefusesWhatMemoryDoesNotHold) {
  const Loaded loaded;
  const VideoShape shape = loaded.pipeline->defaults().request.shape();
  const std::uint64_t one = loaded.pipeline->WorkingBytes(shape, 1);
  VideoShape larger = shape;
  larger.width *= 4;
  EXPECT_GT(one, 0U);
  EXPECT_GT(loaded.pipeline->WorkingBytes(shape, 3), one);
  EXPECT_GT(loaded.pipeline->WorkingBytes(larger, 1), one);
  const auto bounded = std::move(
      *DiffusionPipeline::Load(loaded.folder.path(), *loaded.operators, {.memory_max_bytes = one}));
  const VideoRequest request = bounded->defaults().request;
  EXPECT_TRUE(bounded->Start({request}).has_value());
  const auto refused = bounded->Start({request, request, request});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::kTooLarge);
  EXPECT_THAT(refused.error().detail(), HasSubstr("bytes"));
}

TEST(DiffusionPipeline, RefusesOtherPipelinesByName) {
  struct Change {
    const char* file;
    const char* from;
    const char* to;
    const char* said;
  };

  for (const Change& change :
       {Change{"model_index.json", "WanPipeline", "StableDiffusionPipeline",
               "_class_name = \"StableDiffusionPipeline\" is none of WanPipeline, "
               "WanImageToVideoPipeline, FluxPipeline"},
        Change{"model_index.json", "UMT5EncoderModel", "T5EncoderModel", "text_encoder"},
        Change{"model_index.json", "[null, null]", R"(["diffusers", "WanTransformer3DModel"])",
               "transformer_2"},
        Change{"model_index.json", R"("expand_timesteps": false)", R"("expand_timesteps": true)",
               "expand_timesteps"},
        Change{"generation_config.json", R"("num_frames": 5)", R"("num_frames": "5")",
               "num_frames"},
        Change{"scheduler/scheduler_config.json", "flow_prediction", "epsilon",
               "prediction_type"}}) {
    const TinyWan folder;
    folder.Replace(change.file, change.from, change.to);
    const auto operators = CpuOperators();
    const auto loaded = DiffusionPipeline::Load(folder.path(), *operators, {});
    ASSERT_FALSE(loaded.has_value()) << change.to;
    EXPECT_THAT(loaded.error().detail(), HasSubstr(change.said));
  }
}

}  // namespace
}  // namespace pixii::model
