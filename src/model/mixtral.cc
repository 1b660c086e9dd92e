// Mixtral: Mistral with experts in every layer, chosen by softmax and weighed to a sum of 1.
// Source: transformers' MixtralConfig and MixtralSparseMoeBlock.
#include "model/families.h"

namespace pixii::model {

Result<DecoderSpec> DescribeMixtral(const ConfigReader& config) {
  PX_TRY(DecoderSpec spec, ReadCommon(config, {.kv_head_count = 8,
                                               .context_tokens_max = 4096 * 32,
                                               .norm_epsilon = 1e-5,
                                               .rope = {.theta = 1e6}}));
  PX_TRY(spec.tied_head, config.Bool("tie_word_embeddings", false));
  PX_TRY(const std::int64_t window, config.Int("sliding_window", {1, kContextTokensMax}, 0));
  PX_CHECK_OK(ReadLayerTypes(config, static_cast<std::int32_t>(window), 0, spec));
  PX_CHECK_OK(ReadExperts(config,
                          {.count = {"num_local_experts", "num_experts", 8},
                           .experts_per_token = 2,
                           .intermediate_size = {"intermediate_size"}},
                          spec));
  ExpertsSpec& experts = spec.experts;
  experts.route.normalize = true;
  const std::string prefix = "model.layers.{}.block_sparse_moe.";
  experts.router = prefix + "gate";
  experts.gate = prefix + "experts.{e}.w1";
  experts.up = prefix + "experts.{e}.w3";
  experts.down = prefix + "experts.{e}.w2";
  for (LayerSpec& layer : spec.layers) {
    layer.experts = true;
  }
  return spec;
}

}  // namespace pixii::model
