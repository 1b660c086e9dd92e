#include "model/language_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/hash.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/decoder.h"
#include "model/encoder.h"
#include "model/fingerprint.h"
#include "model/ranked_model.h"
#include "model/shapes.h"
#include "model/vision_families.h"
#include "model/weights.h"

namespace pixii::model {
namespace {

std::uint64_t ParameterCount(std::span<const ExpectedTensor> tensors) {
  std::uint64_t count = 0;
  for (const ExpectedTensor& tensor : tensors) {
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
  spec.kv_head_count = decoder.cached_head_count();
  spec.head_dim = decoder.key_dim();
  spec.context_tokens_max = decoder.context_tokens_max;
  spec.parameter_count = ParameterCount(ExpectedTensors(decoder));
  spec.row_size = decoder.row_size();
  spec.task = decoder.head == HeadKind::kVocab     ? ModelTask::kGenerate
              : decoder.head == HeadKind::kClasses ? ModelTask::kClassify
                                                   : ModelTask::kEmbed;
  return spec;
}

ModelSpec SizesOf(const EncoderSpec& encoder) {
  ModelSpec spec;
  spec.architecture = encoder.architecture;
  spec.layer_count = encoder.layer_count;
  spec.hidden_size = encoder.hidden_size;
  spec.vocab_size = encoder.vocab_size;
  spec.kv_head_count = encoder.head_count;
  spec.head_dim = encoder.head_dim();
  spec.context_tokens_max = encoder.context_tokens_max();
  spec.parameter_count = ParameterCount(ExpectedTensors(encoder));
  spec.row_size = encoder.row_size();
  spec.task = encoder.head.class_count > 0 ? ModelTask::kClassify : ModelTask::kEmbed;
  spec.whole_texts = true;
  spec.token_type_count = encoder.token_type_count;
  spec.pool_rows = PoolRows::kFirst;
  return spec;
}

void StripPrefix(std::string_view prefix, std::string& name) {
  if (name.starts_with(prefix)) {
    name.erase(0, prefix.size());
  }
}

/// A decoder that was saved bare has no "model." before its names.
void StripPrefix(std::string_view prefix, DecoderSpec& decoder) {
  ForEachName(decoder, [&](std::string& name) { StripPrefix(prefix, name); });
}

/// One decoder, or one that ranks hold together.
Result<std::unique_ptr<LanguageModel>> MakeDecoder(const DecoderSpec& decoder,
                                                   const ModelSpec& spec, Weights& weights,
                                                   kernels::Operators& operators,
                                                   const LoadOptions& options) {
  if (options.ranks.count() == 1) {
    return Decoder::Create(decoder, spec, weights, operators, options);
  }
  return RankedModel::Create(operators, options,
                             [&](kernels::Operators& own, const LoadOptions& of_rank) {
                               return Decoder::Create(decoder, spec, weights, own, of_rank);
                             });
}

}  // namespace

void ResolveNames(const Checkpoint& checkpoint, ModelConfig& config) {
  if (config.encoder) {
    ResolvePrefix(checkpoint, *config.encoder);
    return;
  }
  if (config.vision) {
    ResolveTextNames(checkpoint, config.decoder);
    ResolveVisionNames(checkpoint, *config.vision);
    return;
  }
  WeightNames& names = config.decoder.names;
  constexpr std::string_view kPrefix = "model.";
  if (config.decoder.head != HeadKind::kVocab && names.embed.starts_with(kPrefix) &&
      checkpoint.Find(names.embed + ".weight") == nullptr &&
      checkpoint.Find(names.embed.substr(kPrefix.size()) + ".weight") != nullptr) {
    StripPrefix(kPrefix, config.decoder);
  }
}

Result<void> CheckTensors(const ModelConfig& config, const Checkpoint& checkpoint) {
  if (config.encoder) {
    return CheckTensors(*config.encoder, checkpoint);
  }
  if (config.vision) {
    return CheckTensors(
        config.decoder, checkpoint,
        {.tensors = ExpectedTensors(*config.vision), .harmless = config.vision->names.harmless});
  }
  return CheckTensors(config.decoder, checkpoint);
}

Result<ModelSpec> MakeTextSpec(const ModelConfig& config) {
  ModelSpec spec = config.encoder ? SizesOf(*config.encoder) : SizesOf(config.decoder);
  if (config.vision) {
    spec.vision = std::make_shared<const VisionSpec>(*config.vision);
    spec.parameter_count += ParameterCount(ExpectedTensors(*config.vision));
  }
  spec.eos_token_ids = config.eos_token_ids;
  spec.bos_token_id = config.bos_token_id;
  spec.generation = config.generation;
  if (spec.task == ModelTask::kEmbed) {
    // Without modules the mean, as sentence-transformers.
    PX_TRY(Pooler pooler,
           Pooler::Create(config.modules.pooling.value_or(PoolingSpec{}), spec.hidden_size));
    spec.pool_rows = pooler.rows();
    spec.pooler = std::make_shared<const Pooler>(std::move(pooler));
  }
  if (const std::optional<ScoreTokens>& score = config.modules.score) {
    if (spec.task != ModelTask::kGenerate || score->yes >= spec.vocab_size ||
        score->no >= spec.vocab_size) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("tokens {} and {} of the score are not in a vocabulary of {} that "
                              "{} gives logits of",
                              score->yes, score->no, spec.vocab_size, spec.architecture),
                  "true_token_id");
    }
    spec.score_tokens = score;
  }
  return spec;
}

Result<ModelSpec> MakeModelSpec(const ModelConfig& config, const Checkpoint& checkpoint) {
  PX_TRY(ModelSpec spec, MakeTextSpec(config));
  spec.integer_codes = std::ranges::any_of(
      checkpoint.tensors(),
      [](const CheckpointTensor& tensor) { return HoldsIntegerCodes(tensor.stored.type); });
  spec.fingerprint = Fingerprint(config.text + config.modules.text, checkpoint);
  return spec;
}

KvCuts LanguageModel::kv_cuts() const {
  return {.stage_layers = {{0, spec().layer_count}}, .rank_heads = {{0, spec().kv_head_count}}};
}

Result<void> LanguageModel::LoadAdapter(std::int32_t /*slot*/, const LoraAdapter& /*adapter*/) {
  return Fail(Code::kUnsupported, fmt::format("{} takes no adapters", spec().architecture),
              "adapter");
}

void LanguageModel::UnloadAdapter(std::int32_t /*slot*/) {}

Result<std::unique_ptr<LanguageModel>> LanguageModel::Load(const std::string& folder_path,
                                                           kernels::Operators& operators,
                                                           const LoadOptions& options) {
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(folder_path));
  PX_TRY(ModelConfig config, LoadConfig(folder));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder));
  ResolveNames(checkpoint, config);
  PX_CHECK_OK(CheckTensors(config, checkpoint));
  PX_TRY(ModelSpec spec, MakeModelSpec(config, checkpoint));
  const std::unique_ptr<Weights> weights =
      MakeCheckpointWeights(checkpoint, config.decoder.quantization);
  if (config.encoder) {
    if (options.ranks.count() > 1) {
      return Fail(Code::kUnsupported,
                  fmt::format("{}: encoders are not cut over ranks", spec.architecture),
                  "tensor-parallel-size");
    }
    if (!operators.on_host()) {
      return Fail(Code::kUnsupported,
                  fmt::format("{}: encoders run on the CPU only, not on {}", spec.architecture,
                              operators.name()),
                  "device");
    }
    return Encoder::Create(*std::move(config.encoder), std::move(spec), *weights, operators,
                           options);
  }
  return MakeDecoder(config.decoder, spec, *weights, operators, options);
}

Result<std::unique_ptr<LanguageModel>> LanguageModel::Random(std::string_view shape,
                                                             kernels::Operators& operators,
                                                             const LoadOptions& options,
                                                             const RandomOptions& random) {
  PX_TRY(DecoderSpec decoder, FindShape(shape));
  ModelSpec spec = SizesOf(decoder);
  const std::string identity = fmt::format("{} {}", shape, random.seed);
  spec.fingerprint =
      ToHex(HashKey("pixii random model 1").Digest(std::as_bytes(std::span(identity))));
  const std::unique_ptr<Weights> weights = MakeRandomWeights(random.seed, random.form);
  return MakeDecoder(decoder, spec, *weights, operators, options);
}

}  // namespace pixii::model
