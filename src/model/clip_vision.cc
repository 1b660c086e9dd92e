// CLIP and SigLIP towers as LLaVA, LLaVA-NeXT and LLaVA-OneVision have them: pictures or tiles of
// one side, learned positions, two linears as projector. Source: transformers' CLIPVisionConfig,
// SiglipVisionConfig, LlavaConfig, LlavaNextConfig, LlavaOnevisionConfig and their models (facts
// only).
#include <fmt/format.h>

#include <algorithm>

#include "model/vision_families.h"

namespace pixii::model {
namespace {

constexpr std::int32_t kPatchSideMax = 4096;  // of a picture: bounds the table of positions
constexpr std::int64_t kTilesMax = 1024;

void NameBlocks(VisionNames& names) {
  names.tower_prefixes = {"vision_tower.vision_model.", "vision_tower.",
                          "model.vision_tower.vision_model.", "model.vision_tower."};
  names.projector_prefixes = {"", "model."};
  names.patch = "embeddings.patch_embedding";
  names.positions = "embeddings.position_embedding";
  names.attention_norm = "encoder.layers.{}.layer_norm1";
  names.qkv = {"encoder.layers.{}.self_attn.q_proj", "encoder.layers.{}.self_attn.k_proj",
               "encoder.layers.{}.self_attn.v_proj"};
  names.attention_out = "encoder.layers.{}.self_attn.out_proj";
  names.feed_forward_norm = "encoder.layers.{}.layer_norm2";
  names.up = {"encoder.layers.{}.mlp.fc1"};
  names.down = "encoder.layers.{}.mlp.fc2";
  names.projector = {
      .norm = "", .in = "multi_modal_projector.linear_1", .out = "multi_modal_projector.linear_2"};
  names.harmless = {"post_layernorm.", "head.", "embeddings.position_ids"};
}

/// vision_feature_layer: the index of hidden states, of which there is one more than blocks.
Result<void> ReadFeatureLayers(const ConfigReader& config, std::int64_t fallback,
                               VisionSpec& spec) {
  PX_TRY(auto layers, config.IntOrInts("vision_feature_layer"));
  if (layers.empty()) {
    layers = {fallback};
  }
  for (const std::int64_t layer : layers) {
    const std::int64_t blocks = layer < 0 ? spec.layer_count + 1 + layer : layer;
    if (blocks < 1 || blocks > spec.layer_count) {
      return config.Unsupported("vision_feature_layer",
                                fmt::format("is not after one of {} blocks", spec.layer_count));
    }
    spec.feature_layers.push_back(static_cast<std::int32_t>(blocks));
  }
  if (!std::ranges::is_sorted(spec.feature_layers, std::less_equal<>())) {
    return config.Unsupported("vision_feature_layer", "is not ascending");
  }
  for (std::int32_t unused = spec.depth(); unused < spec.layer_count; ++unused) {
    spec.names.harmless.push_back(fmt::format("encoder.layers.{}.", unused));
  }
  return {};
}

Result<void> DescribeClipLike(const ConfigReader& config, std::int64_t feature_layer,
                              std::string strategy, VisionLanguageSpec& out) {
  VisionSpec& spec = out.vision;
  PX_TRY(const ConfigReader vision, config.Object("vision_config"));
  PX_TRY(const std::string type, vision.String("model_type", "clip_vision_model"));
  if (type != "clip_vision_model" && type != "siglip_vision_model") {
    return vision.Unsupported(
        "model_type", "is not built; this build runs clip_vision_model, siglip_vision_model");
  }
  PX_CHECK_OK(ReadClipTower(vision, type == "clip_vision_model", spec));
  PX_CHECK_OK(ReadFeatureLayers(config, feature_layer, spec));
  PX_TRY(const std::string select, config.String("vision_feature_select_strategy", strategy));
  if (select != "default" && select != "full") {
    return config.Unsupported("vision_feature_select_strategy", "is not default or full");
  }
  spec.drop_first = select == "default";
  spec.projector_size = out.decoder.hidden_size;
  PX_TRY(spec.projector_activation, ReadVisionActivation(config, "projector_hidden_act", "gelu"));
  PX_TRY(spec.projector_bias, config.Bool("multimodal_projector_bias", true));
  return {};
}

/// image_grid_pinpoints, and the newline that ends a row of tiles' features.
Result<void> ReadPinpoints(const ConfigReader& config, VisionSpec& spec) {
  TileSpec& tiles = spec.tiles;
  const wire::Json* list = config.Find("image_grid_pinpoints");
  if (list == nullptr || !list->is_array() || list->array().empty()) {
    return config.Bad("image_grid_pinpoints", "is not a list of [height, width]");
  }
  for (const wire::Json& item : list->array()) {
    std::vector<std::int32_t> sides;
    for (const wire::Json& side : item.is_array() ? item.array() : wire::Json::Array()) {
      const auto value = side.is_number() ? side.AsInt() : std::nullopt;
      if (value && *value >= spec.image_size && *value <= kImageSideMax &&
          *value % spec.image_size == 0) {
        sides.push_back(static_cast<std::int32_t>(*value));
      }
    }
    if (sides.size() != 2) {
      return config.Bad("image_grid_pinpoints",
                        fmt::format("holds {}, which is not two multiples of {} up to {}",
                                    item.Dump(), spec.image_size, kImageSideMax));
    }
    if (std::int64_t{sides[0]} * sides[1] / spec.image_size / spec.image_size > kTilesMax) {
      return config.Bad("image_grid_pinpoints",
                        fmt::format("holds {}, more than {} tiles", item.Dump(), kTilesMax));
    }
    tiles.pinpoints.push_back(
        {static_cast<std::uint32_t>(sides[1]), static_cast<std::uint32_t>(sides[0])});
  }
  if (spec.drop_first != spec.has_class_token()) {
    return config.Unsupported("vision_feature_select_strategy",
                              "leaves tiles that are no square of features");
  }
  spec.names.newline = "image_newline";
  return {};
}

}  // namespace

Result<void> ReadClipTower(const ConfigReader& vision, bool clip, VisionSpec& spec) {
  PX_TRY(spec.hidden_size, ReadVisionSize(vision, "hidden_size", kHiddenSizeMax, 768));
  PX_TRY(spec.intermediate_size,
         ReadVisionSize(vision, "intermediate_size", kIntermediateSizeMax, 3072));
  PX_TRY(spec.layer_count, ReadVisionSize(vision, "num_hidden_layers", kLayerCountMax, 12));
  PX_TRY(spec.head_count, ReadVisionSize(vision, "num_attention_heads", kHeadCountMax, 12));
  PX_TRY(spec.patch_size, ReadVisionSize(vision, "patch_size", kPatchSizeMax, clip ? 32 : 16));
  PX_TRY(spec.image_size, ReadVisionSize(vision, "image_size", kImageSideMax, 224));
  PX_TRY(const double epsilon, vision.Number("layer_norm_eps", {0.0, 1.0}, clip ? 1e-5 : 1e-6));
  spec.norm_epsilon = static_cast<float>(epsilon);
  PX_TRY(spec.activation,
         ReadVisionActivation(vision, "hidden_act", clip ? "quick_gelu" : "gelu_pytorch_tanh"));
  PX_CHECK_OK(CheckVisionHeads(vision, "num_attention_heads", spec));
  if (spec.image_size < spec.patch_size) {
    return vision.Bad("image_size", fmt::format("is below patch_size = {}", spec.patch_size));
  }
  const std::int32_t side = spec.image_size / spec.patch_size;
  if (side > kPatchSideMax) {
    return vision.Bad("image_size",
                      fmt::format("is more than {} patches of a side", kPatchSideMax));
  }
  spec.position_count = side * side + (clip ? 1 : 0);
  spec.patch_bias = !clip;
  NameBlocks(spec.names);
  if (clip) {
    spec.names.class_token = "embeddings.class_embedding";
    spec.names.entry_norm = "pre_layrnorm";  // sic
  }
  return {};
}

Result<VisionSpec> DescribeClipTower(const ConfigReader& config) {
  PX_TRY(const std::string type, config.String("model_type", "clip_vision_model"));
  if (type != "clip_vision_model") {
    return config.Unsupported("model_type", "is not clip_vision_model");
  }
  VisionSpec spec;
  spec.architecture = "CLIPVisionModel";
  PX_CHECK_OK(ReadClipTower(config, true, spec));
  if (spec.layer_count < 2) {
    return config.Unsupported("num_hidden_layers", "is below 2: the last one is not run");
  }
  spec.feature_layers = {spec.layer_count - 1};
  spec.out_size = spec.hidden_size;
  VisionNames& names = spec.names;
  names.tower_prefixes = {"vision_model.", ""};
  names.projector_prefixes = {};
  names.projector = {};
  names.harmless.push_back(fmt::format("encoder.layers.{}.", spec.layer_count - 1));
  return spec;
}

Result<void> DescribeLlavaVision(const ConfigReader& config, VisionLanguageSpec& spec) {
  return DescribeClipLike(config, -2, "default", spec);
}

Result<void> DescribeLlavaNextVision(const ConfigReader& config, VisionLanguageSpec& spec) {
  PX_CHECK_OK(DescribeClipLike(config, -2, "default", spec));
  return ReadPinpoints(config, spec.vision);
}

Result<void> DescribeOneVision(const ConfigReader& config, VisionLanguageSpec& spec) {
  PX_CHECK_OK(DescribeClipLike(config, -1, "full", spec));
  PX_CHECK_OK(ReadPinpoints(config, spec.vision));
  PX_TRY(const std::string ratio, config.String("vision_aspect_ratio", "anyres_max_9"));
  constexpr std::string_view kPrefix = "anyres_max_";
  const std::string number = ratio.starts_with(kPrefix) ? ratio.substr(kPrefix.size()) : "";
  if (number.empty() || number.size() > 3 ||
      !std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; }) ||
      std::stoi(number) < 1) {
    return config.Unsupported("vision_aspect_ratio", "is not anyres_max_N");
  }
  spec.vision.tiles.tiles_max = std::stoi(number);
  return {};
}

}  // namespace pixii::model
