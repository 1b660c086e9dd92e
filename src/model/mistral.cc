// Mistral: Llama with a sliding window over every layer. Source: transformers' MistralConfig
// (defaults).
#include "model/families.h"

namespace pixii::model {

Result<DecoderSpec> DescribeMistral(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec,
         ReadCommon(config, {.kv_head_count = 8, .context_tokens_max = 4096 * 32}));
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", false));
  // An absent key means 4,096, as the first Mistral shipped; null means no window.
  PX_TRY(const std::int64_t window, config.Int("sliding_window", {1, kContextTokensMax},
                                               config.Has("sliding_window") ? 0 : 4096));
  PX_CHECK_OK(ReadLayerTypes(config, static_cast<std::int32_t>(window), 0, spec));
  return spec;
}

}  // namespace pixii::model
