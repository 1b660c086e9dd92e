// Encoders of the T5 family: UMT5, the text tower of Wan, and T5, that of FLUX. Pre-norm blocks of
// attention with a bias by distance and a gated feed-forward. UMT5 has a table of biases in every
// layer, T5 one for all.
//
// Thread: one caller. Numerics: a row depends on its own text alone.
// Source: UMT5 and T5 in transformers (facts: names, buckets, no 1 / sqrt(d)).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint_folder.h"
#include "model/diffusion/lane_attention.h"
#include "model/diffusion/rows.h"
#include "model/diffusion/weight_reader.h"

namespace pixii::model {

struct Umt5Config {
  std::int32_t vocab_size = 0;
  std::int32_t d_model = 0;
  std::int32_t d_kv = 0;
  std::int32_t d_ff = 0;
  std::int32_t layer_count = 0;
  std::int32_t head_count = 0;
  std::int32_t bucket_count = 32;
  std::int32_t distance_max = 128;
  float epsilon = 1e-6F;
  bool own_bias = true;  // every layer's; else the first one's is that of all
};

/// Errors: kUnsupported and kInvalidArgument with file, key and value.
Result<Umt5Config> ParseUmt5Config(const wire::Json& json, const std::string& file_name);

/// Bucket of a key `distance` tokens after its query, in both directions.
std::int32_t RelativeBucket(std::int32_t distance, std::int32_t bucket_count,
                            std::int32_t distance_max);

/// Longest text, in tokens.
inline constexpr std::int32_t kPromptTokensMax = 4096;

class Umt5Encoder final {
  struct CreateOnly {};

 public:
  /// `operators` outlives the encoder; `part` is what adapters call it. Errors: those of files and
  /// configs, with their places.
  static Result<std::unique_ptr<Umt5Encoder>> Load(const CheckpointFolder& folder,
                                                   kernels::Operators& operators,
                                                   kernels::ComputeType compute,
                                                   LoraMerger* loras = nullptr,
                                                   const std::string& part = "text_encoder");

  Umt5Encoder(CreateOnly /*unused*/, const Umt5Config& config, kernels::Operators& operators)
      : config_(config), operators_(operators), vectors_(operators) {}

  const Umt5Config& config() const { return config_; }

  /// Last hidden states [ids, d_model] of one text. Errors: kInvalidArgument for an id out of range
  /// or more than kPromptTokensMax.
  Result<std::vector<float>> Encode(std::span<const std::int32_t> ids);

 private:
  struct Layer {
    std::span<const float> attention_norm;
    std::unique_ptr<kernels::LinearWeight> qkv;
    std::unique_ptr<kernels::LinearWeight> o;
    std::vector<float> bias_table;  // [buckets, heads]; empty: the first layer's
    std::span<const float> feed_forward_norm;
    std::unique_ptr<kernels::LinearWeight> gate_up;
    std::unique_ptr<kernels::LinearWeight> down;
  };

  Result<void> Prepare(WeightReader& reader);
  std::vector<float> PositionBias(const Layer& layer, std::int32_t tokens) const;

  Umt5Config config_;
  kernels::Operators& operators_;
  VectorStore vectors_;
  std::unique_ptr<kernels::LinearWeight> table_;
  std::vector<Layer> layers_;
  std::span<const float> final_norm_;
};

}  // namespace pixii::model
