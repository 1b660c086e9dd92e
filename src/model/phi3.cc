// Phi-3: projections stored fused, longrope, heads that turn in part. Source: transformers'
// Phi3Config.
#include "model/families.h"

namespace pixii::model {

Result<DecoderSpec> DescribePhi3(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec,
         ReadCommon(config,
                    {.context_tokens_max = 4096, .norm_epsilon = 1e-5, .rope = {.partial = true}}));
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", false));
  PX_TRY(const std::int64_t window, config.Int("sliding_window", {1, kContextTokensMax}, 0));
  PX_CHECK_OK(ReadLayerTypes(config, static_cast<std::int32_t>(window), 0, spec));
  spec.names.qkv = {{"model.layers.{}.self_attn.qkv_proj"}};
  spec.names.gate_up = {{"model.layers.{}.mlp.gate_up_proj"}};
  return spec;
}

}  // namespace pixii::model
