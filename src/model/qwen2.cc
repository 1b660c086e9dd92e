// Qwen2 and 2.5: biases on q, k and v; a window on the upper layers if asked. Source: transformers'
// Qwen2Config (defaults).
#include "model/families.h"

namespace pixii::model {

Result<DecoderSpec> DescribeQwen2(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec, ReadCommon(config, {.kv_head_count = 32, .context_tokens_max = 32768}));
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", false));
  spec.names.qkv.bias = true;
  PX_CHECK_OK(ReadQwenWindow(config, spec));
  return spec;
}

}  // namespace pixii::model
