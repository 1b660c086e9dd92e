// CLIP's text encoder, of which diffusion models take one vector a text: the last state at the end
// token.
//
// Thread: one caller. Numerics: a text's vector depends on it alone. Attention is causal, so what
// would stand behind the end token is not computed.
// Source: CLIPTextModel in transformers (names, pooling by the first end token).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint_folder.h"
#include "model/diffusion/weight_reader.h"
#include "model/encoder_block.h"

namespace pixii::model {

struct ClipTextConfig {
  std::int32_t vocab_size = 0;
  std::int32_t hidden_size = 0;
  std::int32_t intermediate_size = 0;
  std::int32_t layer_count = 0;
  std::int32_t head_count = 0;
  std::int32_t tokens_max = 77;
  std::int32_t end_token = 2;  // 2: the largest id of a text, as the first configs meant it
  kernels::Activation activation = kernels::Activation::kQuickGelu;
  float epsilon = 1e-5F;
};

/// Errors: kUnsupported and kInvalidArgument with file, key and value.
Result<ClipTextConfig> ParseClipTextConfig(const wire::Json& json, const std::string& file_name);

/// How many of `ids` the pooled state sees: those up to the end token.
std::size_t PooledLength(const ClipTextConfig& config, std::span<const std::int32_t> ids);

class ClipTextEncoder final {
  struct CreateOnly {};

 public:
  /// `operators` outlives the encoder. Errors: those of files and configs, with their places.
  static Result<std::unique_ptr<ClipTextEncoder>> Load(const CheckpointFolder& folder,
                                                       kernels::Operators& operators,
                                                       kernels::ComputeType compute,
                                                       LoraMerger* loras = nullptr);

  ClipTextEncoder(CreateOnly /*unused*/, const ClipTextConfig& config,
                  kernels::Operators& operators)
      : config_(config), operators_(operators), vectors_(operators) {}

  const ClipTextConfig& config() const { return config_; }

  /// The pooled state [hidden_size] of one text. Errors: kInvalidArgument for no ids, more than
  /// tokens_max, or one out of range.
  Result<std::vector<float>> Pool(std::span<const std::int32_t> ids);

 private:
  Result<void> Prepare(WeightReader& reader);

  ClipTextConfig config_;
  kernels::Operators& operators_;
  VectorStore vectors_;
  std::unique_ptr<kernels::LinearWeight> table_;
  std::unique_ptr<kernels::LinearWeight> positions_;
  std::vector<EncoderBlock> layers_;
  NormWeights final_norm_;
};

}  // namespace pixii::model
