// DistilBERT: BERT without token types and with names of its own. Source: transformers'
// DistilBertModel (facts only).
#include "model/encoder_families.h"

namespace pixii::model {

Result<EncoderSpec> DescribeDistilBert(const ConfigReader& config) {
  PX_TRY(EncoderSpec spec, ReadEncoderSizes(config, {.hidden_size = "dim",
                                                     .intermediate_size = "hidden_dim",
                                                     .layer_count = "n_layers",
                                                     .head_count = "n_heads",
                                                     .activation = "activation"}));
  spec.norm_epsilon = 1e-12F;
  EncoderNames& names = spec.names;
  names.prefixes = {"", "distilbert."};
  names.qkv = {"transformer.layer.{}.attention.q_lin", "transformer.layer.{}.attention.k_lin",
               "transformer.layer.{}.attention.v_lin"};
  names.o = "transformer.layer.{}.attention.out_lin";
  names.attention_norm = "transformer.layer.{}.sa_layer_norm";
  names.up = "transformer.layer.{}.ffn.lin1";
  names.down = "transformer.layer.{}.ffn.lin2";
  names.output_norm = "transformer.layer.{}.output_layer_norm";
  names.harmless = {"embeddings.position_ids", "distilbert.embeddings.position_ids",
                    "vocab_transform.", "vocab_layer_norm.", "vocab_projector."};
  spec.head.dense = "pre_classifier";
  spec.head.out = "classifier";
  spec.head.activation = kernels::Activation::kRelu;
  return spec;
}

}  // namespace pixii::model
