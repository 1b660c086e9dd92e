// Llama 1 to 3.x: grouped queries, plain or llama3 rope, optional biases. Source: transformers'
// LlamaConfig (defaults).
#include "model/families.h"

namespace pixii::model {

Result<DecoderSpec> DescribeLlama(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec, ReadCommon(config, {}));
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", false));
  PX_CHECK_OK(ReadAttentionBias(config, false, spec));
  PX_TRY(const bool mlp_bias, config.Bool("mlp_bias", false));
  spec.names.gate_up.bias = mlp_bias;
  spec.names.down.bias = mlp_bias;
  PX_CHECK_OK(ReadLayerTypes(config, 0, 0, spec));
  return spec;
}

}  // namespace pixii::model
