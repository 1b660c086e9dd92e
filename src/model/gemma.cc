// Gemma 2 and 3 (text): four norms a layer with weights around 0, embeddings scaled up, windows on
// most layers; soft caps in 2, normalised queries and keys and a rope of their own for windowed
// layers in 3. Source: transformers' Gemma2Config, Gemma3TextConfig and their models.
#include <cmath>

#include "model/families.h"

namespace pixii::model {
namespace {

/// `pattern`: where layer_types are absent, every pattern-th layer sees all.
Result<DecoderSpec> ReadGemma(const ConfigReader& config, const CommonDefaults& defaults,
                              std::int64_t pattern) {
  PX_TRY(DecoderSpec spec, ReadCommon(config, defaults));
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", true));
  PX_TRY(const bool bidirectional, config.Bool("use_bidirectional_attention", false));
  if (bidirectional) {
    return config.Unsupported("use_bidirectional_attention",
                              "is not built; this build runs causal attention");
  }
  PX_CHECK_OK(ReadAttentionBias(config, false, spec));
  spec.names.attention_out_norm = "model.layers.{}.post_attention_layernorm";
  spec.names.post_attention_norm = "model.layers.{}.pre_feedforward_layernorm";
  spec.names.feed_forward_out_norm = "model.layers.{}.post_feedforward_layernorm";
  spec.norm_offset = 1.0F;
  spec.embed_scale = std::sqrt(static_cast<float>(spec.hidden_size));
  PX_TRY(const double scalar, config.Number("query_pre_attn_scalar", {1e-6, 1e9}, 256.0));
  spec.attention_scale = static_cast<float>(std::pow(scalar, -0.5));
  PX_TRY(const std::int64_t window, config.Int("sliding_window", {1, kContextTokensMax}, 4096));
  const auto window_tokens = static_cast<std::int32_t>(window);
  if (config.Find("layer_types") != nullptr) {
    PX_CHECK_OK(ReadLayerTypes(config, window_tokens, 0, spec));
    return spec;
  }
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const bool windowed = (static_cast<std::int64_t>(i) + 1) % pattern != 0;
    spec.layers[i].window_tokens = windowed ? window_tokens : 0;
  }
  return spec;
}

CommonDefaults GemmaDefaults() {
  return {.kv_head_count = 4,
          .head_dim = 256,
          .context_tokens_max = 8192,
          .activation_key = "hidden_activation",
          .activation = "gelu_pytorch_tanh"};
}

}  // namespace

Result<DecoderSpec> DescribeGemma2(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec, ReadGemma(config, GemmaDefaults(), 2));
  PX_TRY(spec.attention_soft_cap, ReadCap(config, "attn_logit_softcapping", 50.0));
  PX_TRY(spec.logit_soft_cap, ReadCap(config, "final_logit_softcapping", 30.0));
  return spec;
}

Result<DecoderSpec> DescribeGemma3(const ConfigReader& config) {
  CommonDefaults defaults = GemmaDefaults();
  defaults.context_tokens_max = 131072;
  defaults.rope.theta = 1e6;
  PX_TRY(const std::int64_t pattern,
         config.Int(config.Find("_sliding_window_pattern") != nullptr ? "_sliding_window_pattern"
                                                                      : "sliding_window_pattern",
                    {1, kLayerCountMax}, 6));
  PX_TRY(DecoderSpec spec, ReadGemma(config, defaults, pattern));
  PX_TRY(spec.attention_soft_cap, ReadCap(config, "attn_logit_softcapping", 0.0));
  PX_TRY(spec.logit_soft_cap, ReadCap(config, "final_logit_softcapping", 0.0));
  spec.names.q_norm = "model.layers.{}.self_attn.q_norm";
  spec.names.k_norm = "model.layers.{}.self_attn.k_norm";
  if (!spec.rope_by_layer_type) {
    // The older dialect: rope_theta and rope_scaling are of the layers that see all.
    PX_TRY(spec.window_rope.theta, config.Number("rope_local_base_freq", {1.0, 1e12}, 10000.0));
    spec.rope_by_layer_type = true;
  }
  return spec;
}

}  // namespace pixii::model
