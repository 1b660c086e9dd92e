// What a decoder-only transformer is, as values: a family turns config.json into this, the decoder
// runs it.
//
// Thread: values. Adding a family: docs/models.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
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

enum class RopeKind : std::uint8_t { kDefault, kLinear, kDynamic, kYarn, kLlama3, kLongRope };

std::string_view RopeKindName(RopeKind kind);

struct RopeSpec {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  std::int64_t original_context_tokens = 0;  // 0: of kinds that do not ask
  std::int32_t rotary_dim = 0;               // leading elements of a head that turn; 0: all of them
  bool interleaved = false;                  // pairs (2i, 2i + 1) turn instead of halves
  double attention_factor = 1.0;             // multiplies cosines and sines
  // kLlama3.
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  // kYarn.
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
  double score_scale = 1.0;  // multiplies attention's scale where a family asks (mscale_all_dim)
  // kLongRope: divisors of each pair, for contexts up to the original one and for longer ones.
  std::vector<double> short_factors = {};
  std::vector<double> long_factors = {};
  /// M-RoPE: how many pairs turn by time, by height and by width; empty: all by one position.
  std::vector<std::int32_t> sections = {};
  /// Pairs 1, 4, 7, … turn by height and 2, 5, 8, … by width as far as their sections reach, all
  /// others by time; false: one section behind the other.
  bool sections_interleaved = false;

  /// Whether factors depend on the longest context that is allowed.
  bool follows_length() const { return kind == RopeKind::kDynamic || kind == RopeKind::kLongRope; }
};

/// Tensors stacked into one linear, by name without ".weight" and ".bias"; "{}" stands for the
/// layer's index.
struct LinearNames {
  std::vector<std::string> parts;
  bool bias = false;
};

struct WeightNames {
  std::string embed = "model.embed_tokens";
  std::string final_norm = "model.norm";  // empty: the head reads the stream as it is
  std::string head = "lm_head";
  std::string input_norm = "model.layers.{}.input_layernorm";
  std::string post_attention_norm = "model.layers.{}.post_attention_layernorm";
  std::string attention_out_norm;     // empty: attention's output is added as it is
  std::string feed_forward_out_norm;  // likewise
  std::string sinks;                  // [head_count], a whole name; empty: none
  std::string q_norm;                 // empty: queries and keys are not normalised
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
  bool rope = true;                // queries and keys turn
  bool windowed_rope = false;      // turns by DecoderSpec::window_rope
  bool experts = false;            // the feed-forward is DecoderSpec::experts
  bool input_norm = true;          // attention reads names.input_norm of the stream
};

/// A feed-forward of routed experts. In names "{}" stands for the layer, "{e}" for the expert.
struct ExpertsSpec {
  std::int32_t count = 0;
  std::int32_t intermediate_size = 0;
  kernels::RouteOptions route;
  std::string router;  // without ".weight"
  bool router_bias = false;
  std::string correction;  // [count], a whole name; empty: none
  std::string gate;        // of one expert, without ".weight"
  std::string up;
  std::string down;
  /// Not empty: all experts of a layer in one tensor, plain [count, in, out] or MXFP4, gates and
  /// ups alternating; biases in NAME_bias.
  std::string stacked_gate_up;
  std::string stacked_down;
  bool clamped = false;  // ClampedActivationMul instead of the activation
  float clamp_limit = 0.0F;
  float clamp_alpha = 1.702F;
  std::int32_t shared_intermediate_size = 0;  // an expert that every token takes; 0: none
  LinearNames shared_gate_up;
  LinearNames shared_down;
  std::string shared_gate;  // [1, hidden], its sigmoid scales the shared expert; empty: 1
};

/// Attention over one latent per token (MLA). Heads have nope + rope elements in queries and keys.
/// Source: DeepSeek-V2 report, arXiv 2405.04434.
struct LatentSpec {
  std::int32_t kv_rank = 0;  // 0: this is no latent attention
  std::int32_t q_rank = 0;   // 0: queries come from the hidden state directly
  std::int32_t nope_dim = 0;
  std::int32_t rope_dim = 0;
  std::int32_t value_dim = 0;
  LinearNames q_a;
  std::string q_a_norm;
  LinearNames q_b;  // or the only projection of queries
  LinearNames kv_a;
  std::string kv_a_norm;
  std::string kv_b;
};

/// How a draft head enters its first layer: project([embedding of a token; the target's hidden
/// state of the token before]). Source: DeepSeek-V3 report, arXiv 2412.19437; EAGLE, 2401.15077.
struct FusionSpec {
  LinearNames project;      // [hidden, 2 * hidden]; no parts: this is no head
  std::string embed_norm;   // empty: as it is
  std::string hidden_norm;  // likewise
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
  float norm_offset = 0.0F;  // added to norms' weights
  float embed_scale = 1.0F;
  float attention_scale = 0.0F;     // 0: 1 / sqrt(head_dim)
  float attention_soft_cap = 0.0F;  // 0: none
  float logit_soft_cap = 0.0F;      // 0: none
  RopeSpec rope;
  RopeSpec window_rope;             // of layers with windowed_rope
  bool rope_by_layer_type = false;  // layers with a window turn by window_rope
  ExpertsSpec experts;
  LatentSpec latent;
  std::vector<LayerSpec> layers;
  /// Layers past the last that a checkpoint may hold: they guess ahead and change nothing.
  std::vector<LayerSpec> ahead_layers;
  FusionSpec fusion;
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

  bool is_draft_head() const { return !fusion.project.parts.empty(); }

  bool is_latent() const { return latent.kv_rank > 0; }

  /// Heads and widths as the KV cache holds them.
  std::int32_t cached_head_count() const { return is_latent() ? 1 : kv_head_count; }

  std::int32_t key_dim() const { return is_latent() ? latent.kv_rank + latent.rope_dim : head_dim; }

  std::int32_t value_dim() const { return is_latent() ? latent.kv_rank : head_dim; }

  /// Columns of the attention's output, before its projection.
  std::int32_t attention_size() const {
    return is_latent() ? head_count * latent.value_dim : q_size();
  }

  bool any_experts() const { return experts.count > 0; }

  bool any_dense() const {
    return std::any_of(layers.begin(), layers.end(),
                       [](const LayerSpec& layer) { return !layer.experts; });
  }

  /// Elements of a head that `of_rope` turns.
  std::int32_t rotary_dim(const RopeSpec& of_rope) const {
    return of_rope.rotary_dim > 0 ? of_rope.rotary_dim : is_latent() ? latent.rope_dim : head_dim;
  }
};

/// Shows `visit` every name and pattern of `spec`, to be changed.
void ForEachName(DecoderSpec& spec, const std::function<void(std::string&)>& visit);

/// Rows of each part of a fused projection: one part holds all of them, several hold `sizes` in
/// order.
std::vector<std::int64_t> PartRows(const LinearNames& names,
                                   const std::vector<std::int64_t>& sizes);

}  // namespace pixii::model
