// Qwen2-MoE (a shared expert behind a sigmoid) and Qwen3-MoE: experts in some layers, the others
// dense. Source: transformers' Qwen2MoeConfig, Qwen3MoeConfig and their decoder layers.
#include <algorithm>

#include "model/families.h"

namespace pixii::model {
namespace {

/// decoder_sparse_step and mlp_only_layers say which layers have experts.
Result<void> ReadSparseLayers(const ConfigReader& config, DecoderSpec& spec) {
  PX_TRY(const std::int64_t step, config.Int("decoder_sparse_step", {1, kLayerCountMax}, 1));
  PX_TRY(const auto dense, config.IntOrInts("mlp_only_layers"));
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    spec.layers[i].experts =
        (layer + 1) % step == 0 && std::find(dense.begin(), dense.end(), layer) == dense.end();
  }
  return {};
}

Result<void> ReadQwenExperts(const ConfigReader& config, const ExpertKeys& keys,
                             DecoderSpec& spec) {
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", false));
  PX_CHECK_OK(ReadQwenWindow(config, spec));
  PX_CHECK_OK(ReadExperts(config, keys, spec));
  PX_TRY(spec.experts.route.normalize, config.Bool("norm_topk_prob", false));
  const std::string prefix = "model.layers.{}.mlp.";
  spec.experts.router = prefix + "gate";
  spec.experts.gate = prefix + "experts.{e}.gate_proj";
  spec.experts.up = prefix + "experts.{e}.up_proj";
  spec.experts.down = prefix + "experts.{e}.down_proj";
  return ReadSparseLayers(config, spec);
}

}  // namespace

Result<DecoderSpec> DescribeQwen2Moe(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec, ReadCommon(config, {.kv_head_count = 16, .context_tokens_max = 32768}));
  PX_TRY(spec.names.qkv.bias, config.Bool("qkv_bias", true));
  PX_CHECK_OK(ReadQwenExperts(config,
                              {.count = {"num_experts", "num_local_experts", 60},
                               .experts_per_token = 4,
                               .intermediate_size = {"moe_intermediate_size", {}, 1408}},
                              spec));
  PX_TRY(const std::int64_t shared,
         config.Int("shared_expert_intermediate_size", {1, kIntermediateSizeMax}, 5632));
  ExpertsSpec& experts = spec.experts;
  const std::string prefix = "model.layers.{}.mlp.shared_expert";
  experts.shared_intermediate_size = static_cast<std::int32_t>(shared);
  experts.shared_gate_up = {{prefix + ".gate_proj", prefix + ".up_proj"}};
  experts.shared_down = {{prefix + ".down_proj"}};
  experts.shared_gate = prefix + "_gate";
  return spec;
}

Result<DecoderSpec> DescribeQwen3Moe(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec, ReadCommon(config, {.kv_head_count = 4, .context_tokens_max = 32768}));
  PX_CHECK_OK(ReadAttentionBias(config, false, spec));
  spec.names.q_norm = "model.layers.{}.self_attn.q_norm";
  spec.names.k_norm = "model.layers.{}.self_attn.k_norm";
  PX_CHECK_OK(ReadQwenExperts(config,
                              {.count = {"num_experts", "num_local_experts", 128},
                               .experts_per_token = 8,
                               .intermediate_size = {"moe_intermediate_size", {}, 768}},
                              spec));
  return spec;
}

}  // namespace pixii::model
