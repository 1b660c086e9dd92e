// SmolLM3: Llama whose every fourth layer does not turn queries and keys; windows, where used, are
// on just those. Source: transformers' SmolLM3Config and SmolLM3Attention.
#include <fmt/format.h>

#include "model/families.h"

namespace pixii::model {

Result<DecoderSpec> DescribeSmolLm3(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec,
         ReadCommon(config,
                    {.kv_head_count = 4, .context_tokens_max = 32768, .rope = {.theta = 2e6}}));
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", true));
  PX_CHECK_OK(ReadAttentionBias(config, false, spec));
  PX_TRY(const bool mlp_bias, config.Bool("mlp_bias", false));
  spec.names.gate_up.bias = mlp_bias;
  spec.names.down.bias = mlp_bias;
  PX_TRY(const std::int64_t interval, config.Int("no_rope_layer_interval", {1, kLayerCountMax}, 4));
  PX_TRY(const auto turning, config.IntOrInts("no_rope_layers"));  // 1: the layer does turn
  if (!turning.empty() && turning.size() != spec.layers.size()) {
    return config.Bad("no_rope_layers", fmt::format("does not have num_hidden_layers = {} entries",
                                                    spec.layers.size()));
  }
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    spec.layers[i].rope =
        turning.empty() ? (static_cast<std::int64_t>(i) + 1) % interval != 0 : turning[i] != 0;
  }
  PX_TRY(const bool windows, config.Bool("use_sliding_window", false));
  PX_TRY(const std::int64_t window,
         config.Int("sliding_window", {windows ? 1 : 0, kContextTokensMax}, 0));
  const std::int32_t window_tokens = windows ? static_cast<std::int32_t>(window) : 0;
  if (config.Find("layer_types") != nullptr) {
    PX_CHECK_OK(ReadLayerTypes(config, window_tokens, 0, spec));
    return spec;
  }
  for (LayerSpec& layer : spec.layers) {
    layer.window_tokens = layer.rope ? 0 : window_tokens;
  }
  return spec;
}

}  // namespace pixii::model
