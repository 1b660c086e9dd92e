#include "model/language_model.h"

#include <fmt/format.h>

#include "base/hash.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/decoder.h"
#include "model/fingerprint.h"
#include "model/shapes.h"
#include "model/weights.h"

namespace pixii::model {
namespace {

std::uint64_t ParameterCount(const DecoderSpec& decoder) {
  std::uint64_t count = 0;
  for (const ExpectedTensor& tensor : ExpectedTensors(decoder)) {
    std::uint64_t size = 1;
    for (const std::int64_t dim : tensor.shape) {
      size *= static_cast<std::uint64_t>(dim);
    }
    count += size;
  }
  return count;
}

ModelSpec SizesOf(const DecoderSpec& decoder) {
  ModelSpec spec;
  spec.architecture = decoder.architecture;
  spec.layer_count = static_cast<std::int32_t>(decoder.layers.size());
  spec.hidden_size = decoder.hidden_size;
  spec.vocab_size = decoder.vocab_size;
  spec.kv_head_count = decoder.kv_head_count;
  spec.head_dim = decoder.head_dim;
  spec.context_tokens_max = decoder.context_tokens_max;
  spec.parameter_count = ParameterCount(decoder);
  return spec;
}

}  // namespace

ModelSpec MakeModelSpec(const ModelConfig& config, const Checkpoint& checkpoint) {
  ModelSpec spec = SizesOf(config.decoder);
  spec.eos_token_ids = config.eos_token_ids;
  spec.bos_token_id = config.bos_token_id;
  spec.generation = config.generation;
  spec.fingerprint = Fingerprint(config.text, checkpoint);
  return spec;
}

Result<std::unique_ptr<LanguageModel>> LanguageModel::Load(const std::string& folder_path,
                                                           kernels::Operators& operators,
                                                           const LoadOptions& options) {
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(folder_path));
  PX_TRY(ModelConfig config, LoadConfig(folder));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder));
  PX_CHECK_OK(CheckTensors(config.decoder, checkpoint));
  ModelSpec spec = MakeModelSpec(config, checkpoint);
  const std::unique_ptr<Weights> weights =
      MakeCheckpointWeights(checkpoint, config.decoder.quantization);
  return Decoder::Create(std::move(config.decoder), std::move(spec), *weights, operators, options);
}

Result<std::unique_ptr<LanguageModel>> LanguageModel::Random(std::string_view shape,
                                                             kernels::Operators& operators,
                                                             const LoadOptions& options,
                                                             std::uint64_t seed) {
  PX_TRY(DecoderSpec decoder, FindShape(shape));
  ModelSpec spec = SizesOf(decoder);
  const std::string identity = fmt::format("{} {}", shape, seed);
  spec.fingerprint =
      ToHex(HashKey("pixii random model 1").Digest(std::as_bytes(std::span(identity))));
  const std::unique_ptr<Weights> weights = MakeRandomWeights(seed);
  return Decoder::Create(std::move(decoder), std::move(spec), *weights, operators, options);
}

}  // namespace pixii::model
