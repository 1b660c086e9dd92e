// Qwen3 (dense): each query and key head is normalised before it turns. Source: transformers'
// Qwen3Config (defaults).
#include "model/families.h"

namespace pixii::model {

Result<DecoderSpec> DescribeQwen3(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec,
         ReadCommon(config, {.kv_head_count = 32, .head_dim = 128, .context_tokens_max = 32768}));
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", false));
  PX_CHECK_OK(ReadAttentionBias(config, false, spec));
  spec.names.q_norm = "model.layers.{}.self_attn.q_norm";
  spec.names.k_norm = "model.layers.{}.self_attn.k_norm";
  PX_CHECK_OK(ReadQwenWindow(config, spec));
  return spec;
}

}  // namespace pixii::model
