// What a decoder-only transformer is, as values: a family turns config.json into this, the decoder
// runs it.
//
// Thread: values. Adding a family: docs/subsystems/model.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/operators.h"
#include "model/quantization.h"

namespace pixii::model {

/// Largest values a config may claim; beyond them it is refused, whatever the tensors say.
inline constexpr std::int64_t kLayerCountMax = 1024;
inline constexpr std::int64_t kHiddenSizeMax = 1 << 17;
inline constexpr std::int64_t kIntermediateSizeMax = 1 << 20;
inline constexpr std::int64_t kVocabSizeMax = 1 << 22;
inline constexpr std::int64_t kHeadCountMax = 1024;
inline constexpr std::int64_t kHeadDimMax = 512;
inline constexpr std::int64_t kContextTokensMax = 1 << 20;  // bounds the rotary tables

enum class RopeKind : std::uint8_t { kDefault, kLlama3 };

struct RopeSpec {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  // kLlama3 only.
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  std::int64_t original_context_tokens = 0;
};

/// Tensors stacked into one linear, by name without ".weight" and ".bias"; "{}" stands for the
/// layer's index.
struct LinearNames {
  std::vector<std::string> parts;
  bool bias = false;
};

struct WeightNames {
  std::string embed = "model.embed_tokens";
  std::string final_norm = "model.norm";
  std::string head = "lm_head";
  std::string input_norm = "model.layers.{}.input_layernorm";
  std::string post_attention_norm = "model.layers.{}.post_attention_layernorm";
  std::string q_norm;  // empty: queries and keys are not normalised
  std::string k_norm;
  LinearNames qkv = {{"model.layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.k_proj",
                      "model.layers.{}.self_attn.v_proj"}};
  LinearNames o = {{"model.layers.{}.self_attn.o_proj"}};
  LinearNames gate_up = {{"model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"}};
  LinearNames down = {{"model.layers.{}.mlp.down_proj"}};
  /// Tensors a checkpoint may hold besides, which change nothing.
  std::vector<std::string> harmless = {"model.layers.{}.self_attn.rotary_emb.inv_freq"};
};

struct LayerSpec {
  std::int32_t window_tokens = 0;  // a query sees itself and the window_tokens - 1 before; 0 = all
};

/// What stands after the last norm.
enum class HeadKind : std::uint8_t {
  kVocab,    // names.head, or the embedding table
  kNone,     // rows are hidden states: an embedding model
  kClasses,  // names.head [class_count, hidden_size]: a classifier or reranker
};

struct DecoderSpec {
  std::string architecture;
  std::int32_t hidden_size = 0;
  std::int32_t intermediate_size = 0;
  std::int32_t vocab_size = 0;
  std::int32_t head_count = 0;
  std::int32_t kv_head_count = 0;
  std::int32_t head_dim = 0;
  std::int32_t context_tokens_max = 0;
  float norm_epsilon = 1e-6F;
  bool tied_head = false;  // the head is the embedding table
  HeadKind head = HeadKind::kVocab;
  std::int32_t class_count = 0;  // of kClasses
  kernels::Activation activation = kernels::Activation::kSilu;
  RopeSpec rope;
  std::vector<LayerSpec> layers;
  WeightNames names;
  QuantizationSpec quantization;  // how the checkpoint stores linears

  /// Floats of one row of the result.
  std::int32_t row_size() const {
    return head == HeadKind::kVocab     ? vocab_size
           : head == HeadKind::kClasses ? class_count
                                        : hidden_size;
  }

  std::int32_t q_size() const { return head_count * head_dim; }

  std::int32_t kv_size() const { return kv_head_count * head_dim; }

  bool qk_norm() const { return !names.q_norm.empty(); }
};

/// Rows of each part of a fused projection: one part holds all of them, several hold `sizes` in
/// order.
std::vector<std::int64_t> PartRows(const LinearNames& names,
                                   const std::vector<std::int64_t>& sizes);

}  // namespace pixii::model
