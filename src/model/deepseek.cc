// DeepSeek V2 and V3: latent attention; the first layers dense, the others with routed and shared
// experts, chosen within the best groups. Source: transformers' DeepseekV2Config, DeepseekV3Config
// and their models.
#include <fmt/format.h>

#include <cmath>

#include "model/families.h"

namespace pixii::model {
namespace {

Result<std::int32_t> ReadSize(const ConfigReader& config, std::string_view key, std::int64_t min,
                              std::int64_t fallback) {
  PX_TRY(const std::int64_t value, config.Int(key, {min, kIntermediateSizeMax}, fallback));
  return static_cast<std::int32_t>(value);
}

Result<void> ReadLatent(const ConfigReader& config, bool attention_bias, DecoderSpec& spec) {
  LatentSpec& latent = spec.latent;
  PX_TRY(latent.kv_rank, ReadSize(config, "kv_lora_rank", 1, 512));
  // null says that queries are not compressed.
  PX_TRY(latent.q_rank, ReadSize(config, "q_lora_rank", 1, config.Has("q_lora_rank") ? 0 : 1536));
  PX_TRY(latent.nope_dim, ReadSize(config, "qk_nope_head_dim", 1, 128));
  PX_TRY(latent.value_dim, ReadSize(config, "v_head_dim", 1, 128));
  const std::int64_t key_dim = std::int64_t{latent.kv_rank} + latent.rope_dim;
  if (key_dim > kernels::kHeadDimMax) {
    return config.Unsupported("kv_lora_rank",
                              fmt::format("plus qk_rope_head_dim = {} is more than the {} elements "
                                          "that attention takes",
                                          latent.rope_dim, kernels::kHeadDimMax));
  }
  if (std::int64_t{latent.nope_dim} > kHeadDimMax || latent.value_dim > kHeadDimMax) {
    return config.Bad("qk_nope_head_dim",
                      fmt::format("or v_head_dim is more than {}", kHeadDimMax));
  }
  const std::string prefix = "model.layers.{}.self_attn.";
  latent.q_a = {{prefix + "q_a_proj"}, attention_bias};
  latent.q_a_norm = prefix + "q_a_layernorm";
  latent.q_b = {{prefix + (latent.q_rank > 0 ? "q_b_proj" : "q_proj")}};
  latent.kv_a = {{prefix + "kv_a_proj_with_mqa"}, attention_bias};
  latent.kv_a_norm = prefix + "kv_a_layernorm";
  latent.kv_b = prefix + "kv_b_proj";
  spec.names.o.bias = attention_bias;
  spec.attention_scale =
      static_cast<float>(std::pow(static_cast<double>(latent.nope_dim) + latent.rope_dim, -0.5) *
                         spec.rope.score_scale);
  return {};
}

Result<void> ReadGroups(const ConfigReader& config, DecoderSpec& spec) {
  kernels::RouteOptions& route = spec.experts.route;
  PX_TRY(route.group_count, ReadSize(config, "n_group", 1, 1));
  PX_TRY(route.groups_kept, ReadSize(config, "topk_group", 1, route.group_count));
  if (spec.experts.count % route.group_count != 0) {
    return config.Bad("n_group",
                      fmt::format("does not divide n_routed_experts = {}", spec.experts.count));
  }
  if (route.groups_kept > route.group_count) {
    return config.Bad("topk_group", fmt::format("is more than n_group = {}", route.group_count));
  }
  if (std::int64_t{route.groups_kept} * (spec.experts.count / route.group_count) <
      route.experts_per_token) {
    return config.Bad("num_experts_per_tok", "is more than the experts of topk_group groups");
  }
  return {};
}

struct DeepseekDefaults {
  std::int64_t dense_layers;
  ExpertKeys experts;
  double scale;
};

/// What both versions share; the route's scoring is left to the caller.
Result<DecoderSpec> ReadDeepseek(const ConfigReader& config, const DeepseekDefaults& defaults) {
  PX_TRY(const std::int32_t rope_dim, ReadSize(config, "qk_rope_head_dim", 2, 64));
  if (rope_dim % 2 != 0 || rope_dim > kernels::kHeadDimMax) {
    return config.Bad("qk_rope_head_dim", fmt::format("(here {}) is not an even number of 2 to {}",
                                                      rope_dim, kernels::kHeadDimMax));
  }
  PX_TRY(DecoderSpec spec, ReadCommon(config, {.head_dim = rope_dim, .context_tokens_max = 4096}));
  spec.kv_head_count = spec.head_count;
  spec.head_dim = rope_dim;
  spec.latent.rope_dim = rope_dim;
  spec.rope.interleaved = true;
  if (spec.rope.kind == RopeKind::kLongRope) {
    return config.Unsupported("rope_scaling", "is not built for this family");
  }
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", false));
  PX_TRY(const bool attention_bias, config.Bool("attention_bias", false));
  PX_CHECK_OK(ReadLatent(config, attention_bias, spec));
  PX_TRY(const bool mlp_bias, config.Bool("mlp_bias", false));
  if (mlp_bias) {
    return config.Unsupported("mlp_bias", "is not built for this family");
  }
  PX_TRY(const std::int64_t every, config.Int("moe_layer_freq", {1, kLayerCountMax}, 1));
  if (every != 1) {
    return config.Unsupported("moe_layer_freq", "is not built; this build runs 1");
  }
  PX_TRY(const std::int64_t dense,
         config.Int("first_k_dense_replace", {0, kLayerCountMax}, defaults.dense_layers));
  PX_CHECK_OK(ReadExperts(config, defaults.experts, spec));
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    spec.layers[i].experts = static_cast<std::int64_t>(i) >= dense;
  }
  ExpertsSpec& experts = spec.experts;
  PX_TRY(const double scale, config.Number("routed_scaling_factor", {1e-6, 1e6}, defaults.scale));
  experts.route.scale = static_cast<float>(scale);
  const std::string prefix = "model.layers.{}.mlp.";
  experts.router = prefix + "gate";
  experts.gate = prefix + "experts.{e}.gate_proj";
  experts.up = prefix + "experts.{e}.up_proj";
  experts.down = prefix + "experts.{e}.down_proj";
  PX_TRY(const std::int64_t shared, config.Int("n_shared_experts", {0, kExpertCountMax},
                                               config.Has("n_shared_experts") ? 0 : 1));
  const std::int64_t shared_size = shared * experts.intermediate_size;
  if (shared_size > kIntermediateSizeMax) {
    return config.Bad("n_shared_experts", fmt::format("times moe_intermediate_size is more than {}",
                                                      kIntermediateSizeMax));
  }
  experts.shared_intermediate_size = static_cast<std::int32_t>(shared_size);
  experts.shared_gate_up = {
      {prefix + "shared_experts.gate_proj", prefix + "shared_experts.up_proj"}};
  experts.shared_down = {{prefix + "shared_experts.down_proj"}};
  PX_TRY(const std::int64_t ahead, config.Int("num_nextn_predict_layers", {0, kLayerCountMax}, 0));
  for (std::int64_t i = 0; i < ahead; ++i) {
    const auto index = static_cast<std::int64_t>(spec.layers.size()) + i;
    spec.ahead_layers.push_back({.experts = index >= dense});
  }
  return spec;
}

}  // namespace

Result<DecoderSpec> DescribeDeepseekV2(const ConfigReader& config) {
  PX_TRY(
      DecoderSpec spec,
      ReadDeepseek(config, {.dense_layers = 0,
                            .experts = {.count = {"n_routed_experts", "num_local_experts", 64},
                                        .experts_per_token = 6,
                                        .intermediate_size = {"moe_intermediate_size", {}, 1407}},
                            .scale = 1.0}));
  PX_TRY(const std::string method, config.String("topk_method", "greedy"));
  if (method == "group_limited_greedy") {
    PX_CHECK_OK(ReadGroups(config, spec));
  } else if (method != "greedy") {
    return config.Unsupported("topk_method",
                              "is not built; this build runs greedy, group_limited_greedy");
  }
  PX_TRY(const std::string scoring, config.String("scoring_func", "softmax"));
  if (scoring != "softmax") {
    return config.Unsupported("scoring_func", "is not built for this family; it runs softmax");
  }
  PX_TRY(const bool normalize, config.Bool("norm_topk_prob", false));
  if (normalize) {
    return config.Unsupported("norm_topk_prob",
                              "is not built for this family: its implementations differ here");
  }
  return spec;
}

Result<DecoderSpec> DescribeDeepseekV3(const ConfigReader& config) {
  PX_TRY(
      DecoderSpec spec,
      ReadDeepseek(config, {.dense_layers = 3,
                            .experts = {.count = {"n_routed_experts", "num_local_experts", 256},
                                        .experts_per_token = 8,
                                        .intermediate_size = {"moe_intermediate_size", {}, 2048}},
                            .scale = 2.5}));
  PX_TRY(const std::string method, config.String("topk_method", "noaux_tc"));
  if (method != "noaux_tc") {
    return config.Unsupported("topk_method", "is not built for this family; it runs noaux_tc");
  }
  PX_TRY(const std::string scoring, config.String("scoring_func", "sigmoid"));
  if (scoring != "sigmoid") {
    return config.Unsupported("scoring_func", "is not built for this family; it runs sigmoid");
  }
  PX_CHECK_OK(ReadGroups(config, spec));
  PX_TRY(spec.rope.interleaved, config.Bool("rope_interleave", true));
  kernels::RouteOptions& route = spec.experts.route;
  route.scoring = kernels::RouteOptions::Scoring::kSigmoid;
  route.group_by_two = true;
  PX_TRY(route.normalize, config.Bool("norm_topk_prob", true));
  route.normalize_epsilon = 1e-20F;
  spec.experts.correction = "model.layers.{}.mlp.gate.e_score_correction_bias";
  return spec;
}

}  // namespace pixii::model
