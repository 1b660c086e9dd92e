// BERT, and RoBERTa with XLM-RoBERTa and CamemBERT: the same encoder; positions and the
// classifier's head differ. Source: transformers' BertModel, RobertaModel, XLMRobertaModel (facts
// only).
#include "model/encoder_families.h"

namespace pixii::model {
namespace {

Result<EncoderSpec> DescribeBertLike(const ConfigReader& config, std::int64_t default_types) {
  PX_TRY(EncoderSpec spec, ReadEncoderSizes(config));
  PX_TRY(const std::int64_t types,
         config.Int("type_vocab_size", {1, kTokenTypeCountMax}, default_types));
  spec.token_type_count = static_cast<std::int32_t>(types);
  PX_TRY(const double epsilon, config.Number("layer_norm_eps", {0.0, 1.0}, 1e-12));
  spec.norm_epsilon = static_cast<float>(epsilon);
  EncoderNames& names = spec.names;
  names.qkv = {"encoder.layer.{}.attention.self.query", "encoder.layer.{}.attention.self.key",
               "encoder.layer.{}.attention.self.value"};
  names.o = "encoder.layer.{}.attention.output.dense";
  names.attention_norm = "encoder.layer.{}.attention.output.LayerNorm";
  names.up = "encoder.layer.{}.intermediate.dense";
  names.down = "encoder.layer.{}.output.dense";
  names.output_norm = "encoder.layer.{}.output.LayerNorm";
  return spec;
}

/// Buffers, and the pooler that is trained for next-sentence prediction: poolings read the rows.
void AddHarmless(const std::vector<std::string>& prefixes, EncoderNames& names) {
  names.prefixes = prefixes;
  for (const std::string& prefix : prefixes) {
    for (const char* name :
         {"embeddings.position_ids", "embeddings.token_type_ids", "pooler.dense."}) {
      names.harmless.push_back(prefix + name);
    }
  }
}

}  // namespace

Result<EncoderSpec> DescribeBert(const ConfigReader& config) {
  PX_TRY(EncoderSpec spec, DescribeBertLike(config, 2));
  AddHarmless({"", "bert."}, spec.names);
  spec.names.harmless.emplace_back("cls.");  // of a masked language model
  spec.head.dense = "bert.pooler.dense";
  spec.head.out = "classifier";
  return spec;
}

Result<EncoderSpec> DescribeRoberta(const ConfigReader& config) {
  PX_TRY(EncoderSpec spec, DescribeBertLike(config, 2));
  PX_TRY(const std::int64_t padding, config.Int("pad_token_id", {0, kVocabSizeMax - 1}, 1));
  if (padding + 1 >= spec.position_count) {
    return config.Bad("pad_token_id", "leaves no position of max_position_embeddings");
  }
  spec.padding_id = static_cast<std::int32_t>(padding);
  AddHarmless({"", "roberta."}, spec.names);
  spec.names.harmless.emplace_back("lm_head.");
  spec.head.dense = "classifier.dense";
  spec.head.out = "classifier.out_proj";
  return spec;
}

}  // namespace pixii::model
