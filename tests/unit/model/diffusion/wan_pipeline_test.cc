#include "model/diffusion/wan_pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/diffusion/diffusion_run.h"
#include "model/diffusion/wan_lanes.h"
#include "unit/model/diffusion/golden_folder.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using testing::CpuOperators;
using testing::GoldenFolder;
using ::testing::HasSubstr;

std::shared_ptr<const media::Image> Picture(std::uint32_t width, std::uint32_t height,
                                            std::uint8_t red) {
  auto out = std::make_shared<media::Image>();
  out->size = {width, height};
  for (std::uint64_t i = 0; i < out->size.pixel_count(); ++i) {
    out->rgb.insert(out->rgb.end(), {red, static_cast<std::uint8_t>(i * 7), 90});
  }
  return out;
}

struct Loaded {
  GoldenFolder folder{"wan-i2v"};
  std::unique_ptr<kernels::Operators> operators = CpuOperators();
  std::unique_ptr<WanPipeline> pipeline =
      std::move(*WanPipeline::Load(folder.path(), *operators, {.prompt_tokens = 8}));

  static VideoRequest Request(std::uint8_t red) {
    return {.prompt = "a red circle",
            .negative_prompt = "blurry",
            .width = 32,
            .height = 16,
            .frames = 5,
            .steps = 2,
            .guidance_scale = 3.0,
            .seed = 4,
            .image = Picture(40, 30, red)};
  }

  std::vector<float> Latents(const std::vector<VideoRequest>& requests, std::size_t index) const {
    const auto run = std::move(*pipeline->Start(requests));
    while (!run->done()) {
      EXPECT_TRUE(run->Advance().has_value());
    }
    return {run->latents(index).begin(), run->latents(index).end()};
  }
};

TEST(WanPipeline, BeginsAVideoWithItsOwnPictureWhateverIsBeside) {
  const Loaded loaded;
  const std::vector<float> alone = loaded.Latents({Loaded::Request(200)}, 0);
  const std::vector<float> other = loaded.Latents({Loaded::Request(10)}, 0);
  EXPECT_NE(alone, other) << "the picture";
  EXPECT_EQ(loaded.Latents({Loaded::Request(10), Loaded::Request(200)}, 1), alone);
}

TEST(WanPipeline, MarksTheFirstLatentFrameAsGiven) {
  const Loaded loaded;
  const std::vector<VideoRequest> requests = {Loaded::Request(200)};
  WanLanes lanes(*loaded.pipeline, requests);
  int pieces = 0;
  for (; !lanes.ready(); ++pieces) {
    ASSERT_TRUE(lanes.Condition().has_value());
  }
  EXPECT_EQ(pieces, 1 + 1 + 2) << "texts, features, two latent frames";
  const std::span<const float> condition = lanes.condition(0);
  ASSERT_EQ(condition.size(), 8U * 2 * 2 * 4);  // 4 of the mask, 4 of latents; 2 frames of 2 x 4
  for (std::size_t i = 0; i < 4 * 16; ++i) {
    EXPECT_EQ(condition[i], i % 16 < 8 ? 1.0F : 0.0F) << i;
  }
}

TEST(WanPipeline, WantsAPictureWhereAndOnlyWhereTheModelTakesOne) {
  const Loaded loaded;
  VideoRequest request = Loaded::Request(1);
  request.image = nullptr;
  auto run = loaded.pipeline->Start({request});
  ASSERT_FALSE(run.has_value());
  EXPECT_EQ(run.error().param(), "image");
  request.image = std::make_shared<media::Image>();
  EXPECT_FALSE(loaded.pipeline->Start({request}).has_value()) << "empty";
  const testing::TinyWan words;
  const auto plain = std::move(*WanPipeline::Load(words.path(), *loaded.operators, {}));
  request = plain->defaults().request;
  request.image = Picture(8, 8, 1);
  run = plain->Start({request});
  ASSERT_FALSE(run.has_value());
  EXPECT_EQ(run.error().param(), "image");
}

TEST(WanPipeline, RunsWithoutAnImageEncoderWhereTheTransformerSeesNoTokensOfIt) {
  const Loaded with;
  GoldenFolder folder("wan-i2v");
  folder.Replace("model_index.json", "\"CLIPVisionModel\"", "null");
  folder.Replace("transformer/config.json", "\"image_dim\": 24", "\"image_dim\": null");
  folder.Replace("transformer/config.json", "\"added_kv_proj_dim\": 24",
                 "\"added_kv_proj_dim\": null");
  folder.ChangeTensors("transformer/diffusion_pytorch_model.safetensors",
                       [](std::vector<testing::WrittenTensor>& tensors) {
                         std::erase_if(tensors, [](const testing::WrittenTensor& tensor) {
                           return tensor.name.find("image_embedder") != std::string::npos ||
                                  tensor.name.find("add") != std::string::npos;
                         });
                       });
  auto pipeline = WanPipeline::Load(folder.path(), *with.operators, {.prompt_tokens = 8});
  ASSERT_TRUE(pipeline.has_value()) << pipeline.error().ToString();
  EXPECT_FALSE((*pipeline)->has_image_encoder());
  const auto run = std::move(*(*pipeline)->Start({Loaded::Request(200)}));
  while (!run->done()) {
    ASSERT_TRUE(run->Advance().has_value());
  }
  EXPECT_NE(std::vector<float>(run->latents(0).begin(), run->latents(0).end()),
            with.Latents({Loaded::Request(200)}, 0));
}

TEST(WanPipeline, RefusesPartsThatDoNotFitNamingThem) {
  struct Change {
    const char* file;
    const char* from;
    const char* to;
    const char* said;
  };

  for (const Change& change :
       {Change{"model_index.json", "WanImageToVideoPipeline", "WanPipeline", "channels of latents"},
        Change{"model_index.json", "CLIPVisionModel", "SiglipVisionModel", "image_encoder"},
        Change{"transformer/config.json", "\"pos_embed_seq_len\": null", "\"pos_embed_seq_len\": 9",
               "pos_embed_seq_len"},
        Change{"transformer/config.json", "\"added_kv_proj_dim\": 24", "\"added_kv_proj_dim\": 8",
               "added_kv_proj_dim"},
        Change{"image_encoder/config.json", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"mish\"",
               "hidden_act"},
        Change{"image_encoder/config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 1",
               "num_hidden_layers"},
        Change{"scheduler/scheduler_config.json", "\"use_dynamic_shifting\": false",
               "\"use_dynamic_shifting\": true", "use_dynamic_shifting"}}) {
    const GoldenFolder folder("wan-i2v");
    folder.Replace(change.file, change.from, change.to);
    const auto operators = CpuOperators();
    const auto loaded = WanPipeline::Load(folder.path(), *operators, {});
    ASSERT_FALSE(loaded.has_value()) << change.to;
    EXPECT_THAT(loaded.error().detail(), HasSubstr(change.said));
  }
}

}  // namespace
}  // namespace pixii::model
