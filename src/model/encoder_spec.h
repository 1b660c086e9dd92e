// What an encoder is, as values: a family turns config.json into this, the encoder runs it.
//
// Thread: values. An encoder sees all tokens of a text at once: post-norm blocks of attention in
// both directions and a feed-forward, learned positions, no cache. Source: transformers' BertModel,
// XLMRobertaModel, DistilBertModel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/operators.h"
#include "model/decoder_spec.h"  // bounds, LinearNames
#include "model/weights.h"

namespace pixii::model {

inline constexpr std::int64_t kTokenTypeCountMax = 256;
inline constexpr std::int64_t kClassCountMax = 1 << 16;

/// Names without ".weight" and ".bias", and without the prefix that the checkpoint may put before
/// them; "{}" stands for the layer's index.
struct EncoderNames {
  std::string word = "embeddings.word_embeddings";
  std::string position = "embeddings.position_embeddings";
  std::string token_type = "embeddings.token_type_embeddings";  // used if there are types
  std::string embedding_norm = "embeddings.LayerNorm";
  std::vector<std::string> qkv;  // three
  std::string o;
  std::string attention_norm;
  std::string up;
  std::string down;
  std::string output_norm;
  /// Prefixes that checkpoints of the family use; the first is the one of a bare encoder.
  std::vector<std::string> prefixes = {""};
  /// Tensors that change nothing, prefix included; one that ends in "." stands for all below it.
  std::vector<std::string> harmless;
};

/// From the first token's hidden state to class logits: out(activation(dense(x))).
struct ClassHead {
  std::int32_t class_count = 0;  // 0: there is none, and rows are hidden states
  std::string dense;             // full names, prefix included
  std::string out;
  kernels::Activation activation = kernels::Activation::kTanh;
};

struct EncoderSpec {
  std::string architecture;
  std::int32_t hidden_size = 0;
  std::int32_t intermediate_size = 0;
  std::int32_t vocab_size = 0;
  std::int32_t layer_count = 0;
  std::int32_t head_count = 0;
  std::int32_t position_count = 0;    // rows of the table of positions
  std::int32_t token_type_count = 0;  // 0: there are no types
  /// RoBERTa: at least 0. A text's positions begin at padding_id + 1, and a padding token inside
  /// it has position padding_id and counts for none.
  std::int32_t padding_id = -1;
  float norm_epsilon = 1e-12F;
  kernels::Activation activation = kernels::Activation::kGelu;
  EncoderNames names;
  ClassHead head;

  std::int32_t head_dim() const { return hidden_size / head_count; }

  std::int32_t context_tokens_max() const { return position_count - padding_id - 1; }

  /// Floats of one row of the result.
  std::int32_t row_size() const { return head.class_count > 0 ? head.class_count : hidden_size; }
};

/// Every tensor that `spec` says the checkpoint has, in the order of the computation. Its names
/// have their prefix already (ResolvePrefix).
std::vector<ExpectedTensor> ExpectedTensors(const EncoderSpec& spec);

/// Puts before each name the prefix that `checkpoint` uses; none fits: the first.
void ResolvePrefix(const Checkpoint& checkpoint, EncoderSpec& spec);

/// As CheckTensors of a decoder.
Result<void> CheckTensors(const EncoderSpec& spec, const Checkpoint& checkpoint);

}  // namespace pixii::model
