// gpt-oss: sinks in attention, windows on every other layer, experts with biases and a clamped
// gate, stacked in one tensor as bf16 or MXFP4. Source: transformers' GptOssConfig and
// GptOssExperts.
#include "model/families.h"

namespace pixii::model {

Result<DecoderSpec> DescribeGptOss(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec, ReadCommon(config, {.kv_head_count = 8,
                                               .head_dim = 64,
                                               .context_tokens_max = 131072,
                                               .norm_epsilon = 1e-5,
                                               .rope = {.theta = 150000.0}}));
  if (spec.activation != kernels::Activation::kSilu) {
    return config.Unsupported("hidden_act", "is not built for this family; it runs silu");
  }
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", false));
  PX_CHECK_OK(ReadAttentionBias(config, true, spec));
  spec.names.sinks = "model.layers.{}.self_attn.sinks";
  if (config.Find("rope_parameters") == nullptr && config.Find("rope_scaling") == nullptr) {
    return config.Bad("rope_scaling", "is required: this family turns by yarn");
  }
  PX_TRY(const std::int64_t window, config.Int("sliding_window", {1, kContextTokensMax}, 128));
  const auto window_tokens = static_cast<std::int32_t>(window);
  if (config.Find("layer_types") != nullptr) {
    PX_CHECK_OK(ReadLayerTypes(config, window_tokens, 0, spec));
  } else {
    for (std::size_t i = 0; i < spec.layers.size(); i += 2) {
      spec.layers[i].window_tokens = window_tokens;
    }
  }
  PX_CHECK_OK(ReadExperts(config,
                          {.count = {"num_local_experts", "num_experts", 128},
                           .experts_per_token = 4,
                           .intermediate_size = {"intermediate_size"}},
                          spec));
  ExpertsSpec& experts = spec.experts;
  experts.route.scoring = kernels::RouteOptions::Scoring::kSoftmaxOfChosen;
  experts.router = "model.layers.{}.mlp.router";
  experts.router_bias = true;
  experts.stacked_gate_up = "model.layers.{}.mlp.experts.gate_up_proj";
  experts.stacked_down = "model.layers.{}.mlp.experts.down_proj";
  experts.clamped = true;
  PX_TRY(const double limit, config.Number("swiglu_limit", {1e-6, 1e9}, 7.0));
  experts.clamp_limit = static_cast<float>(limit);
  for (LayerSpec& layer : spec.layers) {
    layer.experts = true;
  }
  return spec;
}

}  // namespace pixii::model
