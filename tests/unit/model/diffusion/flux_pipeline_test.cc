#include "model/diffusion/flux_pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/diffusion/diffusion_run.h"
#include "unit/model/diffusion/golden_folder.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using testing::CpuOperators;
using testing::GoldenFolder;
using ::testing::HasSubstr;

struct Loaded {
  GoldenFolder folder{"flux"};
  std::unique_ptr<kernels::Operators> operators;
  std::unique_ptr<DiffusionPipeline> pipeline;

  explicit Loaded(const PipelineOptions& options = {.prompt_tokens = 7}, int threads = 1)
      : operators(CpuOperators(threads)),
        pipeline(std::move(*DiffusionPipeline::Load(folder.path(), *operators, options))) {}

  static VideoRequest Request(std::string prompt, std::uint64_t seed) {
    return {.prompt = std::move(prompt),
            .negative_prompt = "",
            .width = 32,
            .height = 16,
            .frames = 1,
            .steps = 3,
            .guidance_scale = 3.5,
            .seed = seed};
  }

  std::unique_ptr<DiffusionRun> Finished(const std::vector<VideoRequest>& requests,
                                         const StepCacheOptions& cache = {}) const {
    auto run = std::move(*pipeline->Start(requests, cache));
    while (!run->done()) {
      EXPECT_TRUE(run->Advance().has_value());
    }
    return run;
  }
};

std::vector<float> Copy(std::span<const float> values) { return {values.begin(), values.end()}; }

TEST(FluxPipeline, IsNotSharedByRanks) {
  const GoldenFolder folder("flux");
  const auto operators = CpuOperators();
  for (const auto& [flag, ranks] :
       {std::pair("dit-cfg-size", WanRankOptions{.cfg_count = 2}),
        std::pair("dit-ulysses-size", WanRankOptions{.sequence_count = 2}),
        std::pair("tensor-parallel-size", WanRankOptions{.tensor_count = 2})}) {
    const auto loaded = DiffusionPipeline::Load(folder.path(), *operators, {.ranks = ranks});
    ASSERT_FALSE(loaded.has_value()) << flag;
    EXPECT_EQ(loaded.error().code(), Code::kUnsupported);
    EXPECT_EQ(loaded.error().param(), flag);
    EXPECT_THAT(loaded.error().detail(), HasSubstr("is 2, must be 1"));
  }
}

TEST(FluxPipeline, GivesEqualBitsWhateverIsComputedBesideIt) {
  const Loaded loaded;
  const auto alone = loaded.Finished({Loaded::Request("a red circle", 3)});
  EXPECT_EQ(alone->pictures(0).size(), 32U * 16 * 3);
  VideoRequest other = Loaded::Request("a blue square", 4);
  other.guidance_scale = 7.0;
  const auto beside = loaded.Finished({other, Loaded::Request("a red circle", 3)});
  EXPECT_EQ(Copy(beside->latents(1)), Copy(alone->latents(0)));
  EXPECT_EQ(Copy(beside->pictures(1)), Copy(alone->pictures(0)));
  const Loaded threads({.prompt_tokens = 7}, 3);
  EXPECT_EQ(Copy(threads.Finished({Loaded::Request("a red circle", 3)})->latents(0)),
            Copy(alone->latents(0)));
}

TEST(FluxPipeline, FollowsPromptSeedAndGuidance) {
  const Loaded loaded;
  const std::vector<float> first = Copy(loaded.Finished({Loaded::Request("red", 3)})->latents(0));
  EXPECT_NE(first, Copy(loaded.Finished({Loaded::Request("blue", 3)})->latents(0)));
  EXPECT_NE(first, Copy(loaded.Finished({Loaded::Request("red", 4)})->latents(0)));
  VideoRequest stronger = Loaded::Request("red", 3);
  stronger.guidance_scale = 5.0;
  EXPECT_NE(first, Copy(loaded.Finished({stronger})->latents(0)));
}

TEST(FluxPipeline, ReusesStepsThatChangeLittle) {
  const Loaded loaded;
  VideoRequest request = Loaded::Request("red", 3);
  request.steps = 8;
  const auto run = loaded.Finished({request}, {.threshold = 100.0});
  EXPECT_EQ(run->progress().steps_reused, 6) << "the first and the last always run";
}

TEST(FluxPipeline, TakesDefaultsOfTheFamily) {
  const Loaded loaded({});
  EXPECT_EQ(loaded.pipeline->defaults().request.width, 1024);
  EXPECT_EQ(loaded.pipeline->defaults().request.frames, 1);
  EXPECT_EQ(loaded.pipeline->defaults().request.steps, 28);
  EXPECT_EQ(loaded.pipeline->defaults().request.guidance_scale, 3.5);
  EXPECT_EQ(loaded.pipeline->prompt_tokens(), 512);
  EXPECT_EQ(loaded.pipeline->units().width, 16);
  EXPECT_EQ(loaded.pipeline->units().frames, 0);
}

TEST(FluxPipeline, RefusesRequestsNamingTheField) {
  const Loaded loaded;

  struct Bad {
    const char* field;
    void (*change)(VideoRequest&);
  };

  for (const Bad& bad :
       {Bad{"num_frames", [](VideoRequest& request) { request.frames = 5; }},
        Bad{"negative_prompt", [](VideoRequest& request) { request.negative_prompt = "blue"; }},
        Bad{"width", [](VideoRequest& request) { request.width = 24; }},
        Bad{"image",
            [](VideoRequest& request) { request.image = std::make_shared<media::Image>(); }},
        Bad{"latents", [](VideoRequest& request) { request.latents = {1.0F}; }}}) {
    VideoRequest request = Loaded::Request("red", 1);
    bad.change(request);
    const auto run = loaded.pipeline->Start({request});
    ASSERT_FALSE(run.has_value()) << bad.field;
    EXPECT_EQ(run.error().param(), bad.field);
  }
}

TEST(FluxPipeline, RefusesPartsThatAreNotBuiltByName) {
  struct Change {
    const char* file;
    const char* from;
    const char* to;
    const char* said;
  };

  for (const Change& change :
       {Change{"model_index.json", "T5EncoderModel", "LlamaModel", "text_encoder_2"},
        Change{"model_index.json", "FluxTransformer2DModel", "SD3Transformer2DModel",
               "transformer"},
        Change{"transformer/config.json", "\"out_channels\": null", "\"out_channels\": 8",
               "out_channels"},
        Change{"transformer/config.json", "\"patch_size\": 1", "\"patch_size\": 2", "patch_size"},
        Change{"transformer/config.json", "\"attention_head_dim\": 12",
               "\"attention_head_dim\": 14", "axes_dims_rope"},
        Change{"transformer/config.json", "\"guidance_embeds\": true", "\"guidance_embeds\": false",
               "guidance_embedder"},
        Change{"transformer/config.json", "\"pooled_projection_dim\": 20",
               "\"pooled_projection_dim\": 21", "text_embedder"},
        Change{"text_encoder/config.json", "\"hidden_act\": \"quick_gelu\"",
               "\"hidden_act\": \"mish\"", "hidden_act"},
        Change{"vae/config.json", "UpDecoderBlock2D", "AttnUpDecoderBlock2D", "up_block_types"},
        Change{"vae/config.json", "\"norm_num_groups\": 2", "\"norm_num_groups\": 3",
               "block_out_channels"},
        Change{"scheduler/scheduler_config.json", "\"max_image_seq_len\": 4096",
               "\"max_image_seq_len\": 256", "max_image_seq_len"},
        Change{"tokenizer/merges.txt", "r e", "re", "line 2"}}) {
    const GoldenFolder folder("flux");
    folder.Replace(change.file, change.from, change.to);
    const auto operators = CpuOperators();
    const auto loaded = DiffusionPipeline::Load(folder.path(), *operators, {});
    ASSERT_FALSE(loaded.has_value()) << change.to;
    EXPECT_THAT(loaded.error().detail(), HasSubstr(change.said));
  }
}

TEST(FluxPipeline, MergesAdaptersIntoEveryPart) {
  const Loaded loaded;
  const testing::TemporaryFolder adapter;
  std::vector<testing::WrittenTensor> tensors;
  for (const auto& [name, size] :
       {std::pair{"transformer.single_transformer_blocks.1.attn.to_k", 24},
        std::pair{"text_encoder.text_model.encoder.layers.0.self_attn.q_proj", 20},
        std::pair{"text_encoder_2.encoder.block.1.layer.0.SelfAttention.q", 24}}) {
    const std::vector<float> values(static_cast<std::size_t>(size), 0.5F);
    tensors.push_back(
        testing::FloatTensor(std::string(name) + ".lora_A.weight", {1, size}, values));
    tensors.push_back(
        testing::FloatTensor(std::string(name) + ".lora_B.weight", {size, 1}, values));
  }
  adapter.Write("a.safetensors", testing::Safetensors(tensors));
  const Loaded merged({.prompt_tokens = 7, .loras = {{adapter.path() + "/a.safetensors", 1.0}}});
  EXPECT_NE(Copy(merged.Finished({Loaded::Request("red", 3)})->latents(0)),
            Copy(loaded.Finished({Loaded::Request("red", 3)})->latents(0)));
  const Loaded none({.prompt_tokens = 7, .loras = {{adapter.path() + "/a.safetensors", 0.0}}});
  EXPECT_EQ(Copy(none.Finished({Loaded::Request("red", 3)})->latents(0)),
            Copy(loaded.Finished({Loaded::Request("red", 3)})->latents(0)));
}

TEST(FluxPipeline, RefusesWhatMemoryDoesNotHold) {
  const Loaded free;
  const VideoShape shape = Loaded::Request("red", 1).shape();
  const std::uint64_t one = free.pipeline->WorkingBytes(shape, 1);
  EXPECT_GT(free.pipeline->WorkingBytes(shape, 3), one);
  const Loaded bounded({.prompt_tokens = 7, .memory_max_bytes = one});
  EXPECT_TRUE(bounded.pipeline->Start({Loaded::Request("red", 1)}).has_value());
  const auto refused =
      bounded.pipeline->Start({Loaded::Request("red", 1), Loaded::Request("blue", 1)});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::kTooLarge);
}

}  // namespace
}  // namespace pixii::model
