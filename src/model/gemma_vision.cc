// Gemma 3's pictures: a SigLIP tower whose patches are averaged to mm_tokens_per_image tokens,
// which see each other both ways in the text. Source: transformers' Gemma3Config,
// Gemma3ForConditional- Generation and Gemma3Processor (facts only).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/vision_families.h"

namespace pixii::model {
namespace {

constexpr std::int64_t kPictureTokensMax = 65536;

}  // namespace

Result<void> DescribeGemma3Vision(const ConfigReader& config, VisionLanguageSpec& out) {
  VisionSpec& spec = out.vision;
  PX_TRY(const ConfigReader vision, config.Object("vision_config"));
  PX_TRY(const std::string type, vision.String("model_type", "siglip_vision_model"));
  if (type != "siglip_vision_model") {
    return vision.Unsupported("model_type", "is not built; this build runs siglip_vision_model");
  }
  PX_CHECK_OK(ReadClipTower(vision, false, spec));
  PX_TRY(const std::int64_t tokens, config.Int("mm_tokens_per_image", {1, kPictureTokensMax}, 256));
  const auto side = static_cast<std::int32_t>(std::lround(std::sqrt(static_cast<double>(tokens))));
  const std::int32_t patches = spec.image_size / spec.patch_size;
  if (std::int64_t{side} * side != tokens || patches % side != 0) {
    return config.Unsupported(
        "mm_tokens_per_image",
        fmt::format("is no square whose side divides the {} patches of a picture's", patches));
  }
  spec.merge_size = patches / side;
  spec.feature_layers = {spec.layer_count};
  spec.projector = ProjectorKind::kMeans;
  spec.mutual_rows = true;
  spec.framed = true;
  if (spec.tokens.vision_start < 0 || spec.tokens.vision_end < 0) {
    return config.Bad(spec.tokens.vision_start < 0 ? "boi_token_index" : "eoi_token_index",
                      "is missing");
  }
  spec.names.exit_norm = "post_layernorm";
  std::erase(spec.names.harmless, "post_layernorm.");
  spec.names.projector = {.norm = "multi_modal_projector.mm_soft_emb_norm.weight",
                          .in = "",
                          .out = "multi_modal_projector.mm_input_projection_weight"};
  return {};
}

}  // namespace pixii::model
