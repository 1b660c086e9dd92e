#include "model/vision_families.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "model/config.h"
#include "model/vision_processor.h"

namespace pixii::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr std::string_view kLlava = R"({
  "architectures": ["LlavaForConditionalGeneration"], "image_token_index": 500,
  "text_config": {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512,
    "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2},
  "vision_config": {"model_type": "clip_vision_model", "hidden_size": 48, "intermediate_size": 96,
    "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": 56, "patch_size": 14}})";

constexpr std::string_view kText = R"("hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
    "max_position_embeddings": 256)";

std::string Qwen25(std::string_view text) {
  return std::string(R"({"architectures": ["Qwen2_5_VLForConditionalGeneration"],
  "image_token_id": 500, "video_token_id": 501, "vision_start_token_id": 502,
  "vision_end_token_id": 503, )") +
         std::string(text) + R"(,
  "vision_config": {"depth": 4, "hidden_size": 64, "intermediate_size": 96, "num_heads": 4,
    "out_hidden_size": 64, "window_size": 56, "fullatt_block_indexes": [1, 3]}})";
}

ModelConfig ParseOrFail(std::string_view text) {
  auto config = ParseConfig(std::string(text), "");
  EXPECT_TRUE(config) << config.error().ToString();
  return config ? *std::move(config) : ModelConfig{};
}

/// `text` with `from` replaced.
std::string With(std::string_view text, std::string_view from, std::string_view to) {
  std::string out(text);
  const auto at = out.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return out.replace(at, from.size(), to);
}

TEST(VisionFamilies, LlavaReadsTheStateBeforeTheLastBlockWithoutItsClassRow) {
  const ModelConfig config = ParseOrFail(kLlava);
  ASSERT_TRUE(config.vision);
  const VisionSpec& spec = *config.vision;
  EXPECT_EQ(spec.tokens.image, 500);
  EXPECT_EQ(spec.depth(), 3);
  EXPECT_TRUE(spec.drop_first);
  EXPECT_TRUE(spec.has_class_token());
  EXPECT_EQ(spec.position_count, 17);
  EXPECT_EQ(spec.activation, kernels::Activation::kQuickGelu);
  EXPECT_EQ(spec.projected_rows({.frames = 1, .rows = 4, .cols = 4}), 16);
  EXPECT_EQ(spec.out_size, 64);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));  // the text's
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_EQ(config.decoder.architecture, "LlavaForConditionalGeneration");
}

TEST(VisionFamilies, LlavasSparseTextIsFilledAsLlamasDefaults) {
  const ModelConfig config = ParseOrFail(With(kLlava, R"("hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, )",
                                              ""));
  EXPECT_EQ(config.decoder.hidden_size, 4096);
  EXPECT_THAT(config.decoder.layers, SizeIs(32));
  EXPECT_EQ(config.vision->out_size, 4096);
}

TEST(VisionFamilies, SeveralFeatureLayersStandSideBySide) {
  const ModelConfig config =
      ParseOrFail(With(kLlava, R"("image_token_index": 500)",
                       R"("image_token_id": 500, "vision_feature_layer": [-3, -1])"));
  EXPECT_THAT(config.vision->feature_layers, ElementsAre(2, 4));
  EXPECT_EQ(config.vision->feature_size(), 96);
  EXPECT_EQ(config.vision->tokens.image, 500);
}

TEST(VisionFamilies, RefuseWhatCannotBeRun) {
  const auto refused = [](std::string_view text) {
    const auto config = ParseConfig(std::string(text), "");
    return config ? std::string("accepted") : config.error().detail();
  };
  EXPECT_THAT(refused(With(kLlava, R"("image_token_index": 500,)", "")),
              HasSubstr("image_token_id"));
  EXPECT_THAT(refused(With(kLlava, "clip_vision_model", "pixtral")), HasSubstr("pixtral"));
  EXPECT_THAT(refused(With(kLlava, R"("image_token_index": 500)",
                           R"("image_token_index": 500, "vision_feature_layer": -9)")),
              HasSubstr("vision_feature_layer"));
  EXPECT_THAT(refused(With(kLlava, R"("image_token_index": 500)",
                           R"("image_token_index": 500, "quantization_config": {})")),
              HasSubstr("quantization_config"));
  EXPECT_THAT(refused(With(kLlava, R"("num_attention_heads": 4, "image_size")",
                           R"("num_attention_heads": 5, "image_size")")),
              HasSubstr("num_attention_heads"));
}

TEST(VisionFamilies, QwenReadsBothConfigDialects) {
  const std::string flat = Qwen25(
      std::string(kText) + R"(, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]})");
  const std::string nested =
      Qwen25(R"("text_config": {)" + std::string(kText) +
             R"(, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}})");
  for (const std::string& text : {flat, nested}) {
    const ModelConfig config = ParseOrFail(text);
    ASSERT_TRUE(config.vision);
    const VisionSpec& spec = *config.vision;
    EXPECT_THAT(config.decoder.rope.sections, ElementsAre(2, 3, 3));
    EXPECT_TRUE(config.decoder.names.qkv.bias);
    EXPECT_EQ(spec.tokens.video, 501);
    EXPECT_TRUE(spec.rms_norm);
    EXPECT_TRUE(spec.gated);
    EXPECT_THAT(spec.full_layers, ElementsAre(false, true, false, true));
    EXPECT_EQ(spec.projected_rows({.frames = 1, .rows = 4, .cols = 6}), 6);
    EXPECT_EQ(spec.patch_values(), 1176);
  }
}

TEST(VisionFamilies, WholeSecondsOfAVideoCountInTime) {
  const ModelConfig config =
      ParseOrFail(With(Qwen25(kText), R"("depth": 4)", R"("depth": 4, "tokens_per_second": 2)"));
  const PatchGrid grid = {.frames = 3, .rows = 4, .cols = 6};
  EXPECT_EQ(config.vision->media_grid(grid, 1.5),
            (MediaGrid{.frames = 3, .rows = 2, .cols = 3, .frame_step = 2}));
  EXPECT_EQ(config.vision->media_grid(grid, 2.0).frame_step, 4);
}

TEST(VisionFamilies, QwenRefusesSectionsThatAreNotItsPairs) {
  const auto config =
      ParseConfig(Qwen25(std::string(kText) +
                         R"(, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 4]})"),
                  "");
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().detail(), HasSubstr("mrope_section"));
}

TEST(VisionFamilies, Qwen3HasDeepstackLevelsBelowItsTextLayers) {
  const auto text = [](std::string_view levels) {
    return std::string(R"({"architectures": ["Qwen3VLForConditionalGeneration"],
  "image_token_id": 500, "text_config": {"head_dim": 16, )") +
           std::string(kText) + R"(}, "vision_config": {"depth": 4, "hidden_size": 64,
    "intermediate_size": 96, "num_heads": 4, "out_hidden_size": 64,
    "num_position_embeddings": 144, "deepstack_visual_indexes": )" +
           std::string(levels) + "}}";
  };
  const ModelConfig config = ParseOrFail(text("[0, 2]"));
  EXPECT_THAT(config.vision->deepstack_layers, ElementsAre(0, 2));
  EXPECT_TRUE(config.vision->interpolated_positions);
  EXPECT_EQ(config.vision->patch_size, 16);
  EXPECT_FALSE(ParseConfig(text("[0, 1, 2]"), ""));
  EXPECT_FALSE(ParseConfig(text("[2, 0]"), ""));
  EXPECT_FALSE(ParseConfig(text("[4]"), ""));
}

TEST(VisionFamilies, LlavaNextHasTilesWithoutALimitAndSparseMistral) {
  const std::string text =
      With(With(kLlava, "LlavaForConditionalGeneration", "LlavaNextForConditionalGeneration"),
           R"("image_token_index": 500)",
           R"("image_token_index": 500, "image_grid_pinpoints": [[56, 112]])");
  const ModelConfig config = ParseOrFail(
      With(With(text, R"("model_type": "llama", "hidden_size": 64, "intermediate_size": 96,)",
                R"("model_type": "mistral",)"),
           R"("num_hidden_layers": 2, "num_attention_heads": 4, )", ""));
  EXPECT_EQ(config.vision->tiles.tiles_max, 0);
  EXPECT_EQ(config.vision->tiles.pinpoints.size(), 1U);
  EXPECT_EQ(config.vision->names.newline, "image_newline");
  EXPECT_EQ(config.decoder.intermediate_size, 14336);
  EXPECT_EQ(config.decoder.kv_head_count, 8);
  // A class row among the features would make tiles that are no squares.
  EXPECT_FALSE(
      ParseConfig(With(text, R"("image_token_index": 500)",
                       R"("image_token_index": 500, "vision_feature_select_strategy": "full")"),
                  ""));
}

TEST(VisionFamilies, OneVisionReadsPinpoints) {
  const std::string clip =
      With(With(kLlava, "LlavaForConditionalGeneration", "LlavaOnevisionForConditionalGeneration"),
           R"("image_token_index": 500)",
           R"("image_token_index": 500, "image_grid_pinpoints": [[56, 112], [112, 112]])");
  const std::string text = With(clip, "clip_vision_model", "siglip_vision_model");
  const ModelConfig config = ParseOrFail(text);
  EXPECT_THAT(config.vision->tiles.pinpoints,
              ElementsAre(media::ImageSize{112, 56}, media::ImageSize{112, 112}));
  EXPECT_EQ(config.vision->tiles.tiles_max, 9);
  EXPECT_EQ(config.vision->depth(), 4);
  EXPECT_FALSE(config.vision->drop_first);
  EXPECT_FALSE(ParseConfig(With(text, "[56, 112]", "[57, 112]"), ""));
}

/// As the hub has it: most of the text's sizes are the class's defaults.
constexpr std::string_view kGemma3 = R"({"architectures": ["Gemma3ForConditionalGeneration"],
  "model_type": "gemma3", "boi_token_index": 255999, "eoi_token_index": 256000,
  "image_token_index": 262144, "mm_tokens_per_image": 256,
  "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
    "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 1024},
  "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 1152,
    "image_size": 896, "intermediate_size": 4304, "num_attention_heads": 16,
    "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": false}})";

TEST(VisionFamilies, Gemma3AveragesPatchesToTokensThatSeeEachOther) {
  const ModelConfig config = ParseOrFail(std::string(kGemma3));
  ASSERT_TRUE(config.vision);
  const VisionSpec& spec = *config.vision;
  EXPECT_EQ(config.decoder.vocab_size, 262208);
  EXPECT_EQ(config.decoder.head_count, 8);
  EXPECT_EQ(config.decoder.layers[4].window_tokens, 1024);
  EXPECT_EQ(config.decoder.layers[5].window_tokens, 0);
  EXPECT_TRUE(config.decoder.layers[4].windowed_rope);
  EXPECT_FALSE(config.decoder.layers[5].windowed_rope);
  EXPECT_EQ(spec.merge_size, 4);
  EXPECT_EQ(spec.projected_rows({.frames = 1, .rows = 64, .cols = 64}), 256);
  EXPECT_EQ(spec.depth(), 27);
  EXPECT_EQ(spec.projector, ProjectorKind::kMeans);
  EXPECT_TRUE(spec.mutual_rows);
  EXPECT_TRUE(spec.framed);
  EXPECT_EQ(spec.tokens.vision_start, 255999);
  EXPECT_EQ(spec.tokens.vision_end, 256000);
  EXPECT_EQ(spec.names.exit_norm, "post_layernorm");
}

TEST(VisionFamilies, Gemma3RefusesWhatIsNotBuilt) {
  const auto refused = [](std::string_view from, std::string_view to) {
    const auto config = ParseConfig(With(std::string(kGemma3), from, to), "");
    return config ? std::string() : config.error().detail();
  };
  EXPECT_THAT(refused(R"("mm_tokens_per_image": 256)", R"("mm_tokens_per_image": 255)"),
              HasSubstr("mm_tokens_per_image"));
  EXPECT_THAT(refused(R"("mm_tokens_per_image": 256)", R"("mm_tokens_per_image": 225)"),
              HasSubstr("mm_tokens_per_image"));
  EXPECT_THAT(refused("siglip_vision_model", "clip_vision_model"), HasSubstr("model_type"));
  EXPECT_THAT(refused(R"("boi_token_index": 255999, )", ""), HasSubstr("boi_token_index"));
}

Result<media::PatchSpec> Processor(std::string_view config, std::string_view text) {
  return ParseVisionProcessor(text, "preprocessor_config.json", *ParseOrFail(config).vision);
}

TEST(VisionProcessor, CropsForClip) {
  const auto spec = Processor(kLlava, R"({"size": {"shortest_edge": 56}, "do_center_crop": true,
    "crop_size": {"height": 56, "width": 56}, "resample": 3, "image_mean": [0.5, 0.25, 0.125],
    "image_std": [0.5, 1.0, 2.0]})");
  ASSERT_TRUE(spec) << spec.error().ToString();
  EXPECT_EQ(spec->fit, media::Fit::kCrop);
  EXPECT_EQ(spec->short_side, 56U);
  EXPECT_EQ(spec->mean, (std::array{0.5F, 0.25F, 0.125F}));
  EXPECT_EQ(spec->patch_size, 14U);
}

TEST(VisionProcessor, TakesAreasByEitherName) {
  const std::string config = Qwen25(kText);
  for (const char* text : {R"({"min_pixels": 3136, "max_pixels": 28224})",
                           R"({"size": {"shortest_edge": 3136, "longest_edge": 28224}})",
                           R"({"image_processor": {"min_pixels": 3136, "max_pixels": 28224}})"}) {
    const auto spec = Processor(config, text);
    ASSERT_TRUE(spec) << spec.error().ToString();
    EXPECT_EQ(spec->fit, media::Fit::kSmart);
    EXPECT_EQ(spec->pixels_min, 3136U);
    EXPECT_EQ(spec->pixels_max, 28224U);
    EXPECT_EQ(spec->frames_per_row, 2U);
  }
}

TEST(VisionProcessor, RefusesWhatDoesNotFitTheTower) {
  const auto refused = [](std::string_view config, std::string_view text) {
    const auto spec = Processor(config, text);
    return spec ? std::string("accepted") : spec.error().detail();
  };
  EXPECT_THAT(refused(kLlava, R"({"size": 57})"), HasSubstr("size"));
  EXPECT_THAT(refused(kLlava, R"({})"), HasSubstr("size"));
  EXPECT_THAT(refused(kLlava, R"({"size": 56, "resample": 0})"), HasSubstr("resample"));
  EXPECT_THAT(refused(kLlava, R"({"size": 56, "image_std": [0.5, 0, 1]})"), HasSubstr("image_std"));
  EXPECT_THAT(refused(Qwen25(kText), R"({"patch_size": 16})"), HasSubstr("patch_size"));
  EXPECT_THAT(refused(Qwen25(kText), R"({"min_pixels": 9, "max_pixels": 8})"),
              HasSubstr("min_pixels"));
}

TEST(VisionProcessor, RefusesPanAndScan) {
  constexpr std::string_view kSize = R"("size": {"height": 896, "width": 896}, "resample": 2)";
  const auto plain = Processor(
      kGemma3, "{" + std::string(kSize) + R"(, "do_pan_and_scan": null, "do_convert_rgb": null})");
  ASSERT_TRUE(plain) << plain.error().ToString();
  EXPECT_EQ(plain->filter, media::Filter::kBilinear);
  EXPECT_EQ(plain->merge_size, 4U);
  const auto scans = Processor(kGemma3, "{" + std::string(kSize) + R"(, "do_pan_and_scan": true})");
  ASSERT_FALSE(scans);
  EXPECT_EQ(scans.error().code(), Code::kUnsupported);
  EXPECT_THAT(scans.error().detail(), HasSubstr("do_pan_and_scan"));
}

}  // namespace
}  // namespace pixii::model
