// Qwen2-VL, 2.5-VL and 3-VL towers: pictures of any size, turned by row and column, 2x2 patches
// merged into a token. Source: transformers' Qwen2VLVisionConfig, Qwen2_5_VLVisionConfig,
// Qwen3VLVisionConfig and their models (facts only).
#include <fmt/format.h>

#include <cmath>

#include "model/vision_families.h"

namespace pixii::model {
namespace {

void NameBlocks(VisionNames& names) {
  names.tower_prefixes = {"visual.", "model.visual."};
  names.patch = "patch_embed.proj";
  names.attention_norm = "blocks.{}.norm1";
  names.qkv = {"blocks.{}.attn.qkv"};
  names.attention_out = "blocks.{}.attn.proj";
  names.feed_forward_norm = "blocks.{}.norm2";
  names.harmless = {"rotary_pos_emb.inv_freq"};
}

/// What all three have: `width` names the tower's own.
Result<ConfigReader> ReadTower(const ConfigReader& config, std::string_view width,
                               std::int64_t patch_size, VisionSpec& spec) {
  PX_TRY(const ConfigReader vision, config.Object("vision_config"));
  PX_TRY(spec.hidden_size, ReadVisionSize(vision, width, kHiddenSizeMax));
  PX_TRY(spec.layer_count, ReadVisionSize(vision, "depth", kLayerCountMax));
  PX_TRY(spec.head_count, ReadVisionSize(vision, "num_heads", kHeadCountMax));
  PX_TRY(spec.patch_size, ReadVisionSize(vision, "patch_size", kPatchSizeMax, patch_size));
  PX_TRY(spec.merge_size, ReadVisionSize(vision, "spatial_merge_size", 16, 2));
  PX_TRY(spec.frames_per_row, ReadVisionSize(vision, "temporal_patch_size", 16, 2));
  for (const std::string_view key : {"in_channels", "in_chans"}) {
    PX_TRY(const std::int64_t channels, vision.Int(key, {1, 1024}, 3));
    if (channels != 3) {
      return vision.Unsupported(key, "is not 3");
    }
  }
  spec.rotary = true;
  if (vision.Find("rope_parameters") != nullptr) {
    PX_TRY(const ConfigReader rope, vision.Object("rope_parameters"));
    PX_TRY(spec.rotary_theta, rope.Number("rope_theta", {1.0, 1e12}, 10000.0));
  }
  PX_CHECK_OK(CheckVisionHeads(vision, "num_heads", spec));
  spec.feature_layers = {spec.layer_count};
  spec.projector_size = spec.hidden_size * spec.merge_size * spec.merge_size;
  NameBlocks(spec.names);
  return vision;
}

/// The merger's output is the text's width.
Result<void> CheckOutSize(const ConfigReader& vision, std::string_view key,
                          const VisionSpec& spec) {
  PX_TRY(const std::int64_t size, vision.Int(key, {1, kHiddenSizeMax}, spec.out_size));
  if (size != spec.out_size) {
    return vision.Bad(
        key, fmt::format("(here {}) is not the text's hidden_size = {}", size, spec.out_size));
  }
  return {};
}

}  // namespace

Result<void> DescribeQwen2Vision(const ConfigReader& config, VisionLanguageSpec& out) {
  VisionSpec& spec = out.vision;
  PX_TRY(const ConfigReader vision, ReadTower(config, "embed_dim", 14, spec));
  PX_CHECK_OK(CheckOutSize(vision, "hidden_size", spec));
  PX_TRY(const double ratio, vision.Number("mlp_ratio", {0.01, 100.0}, 4.0));
  spec.intermediate_size = static_cast<std::int32_t>(spec.hidden_size * ratio);
  if (spec.intermediate_size < 1) {
    return vision.Bad("mlp_ratio", "leaves the feed-forward no features");
  }
  PX_TRY(spec.activation, ReadVisionActivation(vision, "hidden_act", "quick_gelu"));
  VisionNames& names = spec.names;
  names.up = {"blocks.{}.mlp.fc1"};
  names.down = "blocks.{}.mlp.fc2";
  names.projector = {.norm = "merger.ln_q", .in = "merger.mlp.0", .out = "merger.mlp.2"};
  return {};
}

Result<void> DescribeQwen25Vision(const ConfigReader& config, VisionLanguageSpec& out) {
  VisionSpec& spec = out.vision;
  PX_TRY(const ConfigReader vision, ReadTower(config, "hidden_size", 14, spec));
  PX_CHECK_OK(CheckOutSize(vision, "out_hidden_size", spec));
  PX_TRY(spec.intermediate_size, ReadVisionSize(vision, "intermediate_size", kIntermediateSizeMax));
  PX_TRY(spec.activation, ReadVisionActivation(vision, "hidden_act", "silu"));
  spec.rms_norm = true;
  spec.gated = true;
  PX_TRY(spec.window_size, ReadVisionSize(vision, "window_size", kImageSideMax, 112));
  PX_TRY(spec.positions_per_second, ReadVisionSize(vision, "tokens_per_second", 1000, 4));
  if (spec.window_size / spec.patch_size / spec.merge_size < 1) {
    return vision.Bad("window_size", "holds no merged patch");
  }
  PX_TRY(auto full, vision.IntOrInts("fullatt_block_indexes"));
  if (!vision.Has("fullatt_block_indexes")) {
    full = {7, 15, 23, 31};
  }
  spec.full_layers.assign(static_cast<std::size_t>(spec.layer_count), false);
  for (const std::int64_t layer : full) {
    if (layer < 0 || layer >= spec.layer_count) {
      return vision.Bad("fullatt_block_indexes",
                        fmt::format("names block {} of {}", layer, spec.layer_count));
    }
    spec.full_layers[static_cast<std::size_t>(layer)] = true;
  }
  VisionNames& names = spec.names;
  names.up = {"blocks.{}.mlp.gate_proj", "blocks.{}.mlp.up_proj"};
  names.down = "blocks.{}.mlp.down_proj";
  names.projector = {.norm = "merger.ln_q", .in = "merger.mlp.0", .out = "merger.mlp.2"};
  return {};
}

Result<void> DescribeQwen3Vision(const ConfigReader& config, VisionLanguageSpec& out) {
  VisionSpec& spec = out.vision;
  PX_TRY(const ConfigReader vision, ReadTower(config, "hidden_size", 16, spec));
  PX_CHECK_OK(CheckOutSize(vision, "out_hidden_size", spec));
  PX_TRY(spec.intermediate_size, ReadVisionSize(vision, "intermediate_size", kIntermediateSizeMax));
  PX_TRY(spec.activation, ReadVisionActivation(vision, "hidden_act", "gelu_pytorch_tanh"));
  spec.patch_bias = true;
  spec.timed_frames = true;
  constexpr std::string_view kPositions = "num_position_embeddings";
  PX_TRY(spec.position_count, ReadVisionSize(vision, kPositions, 1 << 20, 2304));
  const auto side = static_cast<std::int32_t>(std::lround(std::sqrt(spec.position_count)));
  if (side * side != spec.position_count) {
    return vision.Bad(kPositions, fmt::format("(here {}) is no square", spec.position_count));
  }
  spec.interpolated_positions = true;
  PX_TRY(auto levels, vision.IntOrInts("deepstack_visual_indexes"));
  if (!vision.Has("deepstack_visual_indexes")) {
    levels = {8, 16, 24};
  }
  for (const std::int64_t layer : levels) {
    const bool ascends = spec.deepstack_layers.empty() || layer > spec.deepstack_layers.back();
    if (layer < 0 || layer >= spec.layer_count || !ascends) {
      return vision.Bad("deepstack_visual_indexes",
                        fmt::format("are not ascending blocks of {}", spec.layer_count));
    }
    spec.deepstack_layers.push_back(static_cast<std::int32_t>(layer));
  }
  VisionNames& names = spec.names;
  names.positions = "pos_embed";
  names.up = {"blocks.{}.mlp.linear_fc1"};
  names.down = "blocks.{}.mlp.linear_fc2";
  names.projector = {.norm = "merger.norm", .in = "merger.linear_fc1", .out = "merger.linear_fc2"};
  names.deepstack = {.norm = "deepstack_merger_list.{}.norm",
                     .in = "deepstack_merger_list.{}.linear_fc1",
                     .out = "deepstack_merger_list.{}.linear_fc2"};
  return {};
}

}  // namespace pixii::model
