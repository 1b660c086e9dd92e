// config.json and generation_config.json of a folder, read and checked.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint_folder.h"
#include "model/decoder_spec.h"
#include "model/encoder_spec.h"
#include "model/language_model.h"  // GenerationDefaults
#include "model/sentence_modules.h"
#include "model/vision_spec.h"

namespace pixii::model {

inline constexpr std::size_t kEosTokenCountMax = 64;

struct ModelConfig {
  DecoderSpec decoder;  // if there is no encoder
  std::optional<EncoderSpec> encoder;
  std::optional<VisionSpec> vision;         // what the decoder reads pictures with
  SentenceModules modules;                  // of the folder; nothing where it has none
  std::vector<std::int32_t> eos_token_ids;  // generation_config.json's, else config.json's; ids
                                            // past the vocabulary dropped
  std::int32_t bos_token_id = -1;           // -1: none
  GenerationDefaults generation;
  std::string text;  // config.json as it stands, for the fingerprint
};

/// Errors: kNotFound without config.json, kDataCorrupt for broken JSON, kInvalidArgument and
/// kUnsupported with the key.
Result<ModelConfig> LoadConfig(const CheckpointFolder& folder);

/// The same from text; `generation_text` empty: no generation_config.json.
Result<ModelConfig> ParseConfig(std::string text, std::string_view generation_text);

class Checkpoint;

/// Brings `config` in line with the names that the checkpoint uses: a bare encoder or decoder may
/// stand under a prefix or without one.
void ResolveNames(const Checkpoint& checkpoint, ModelConfig& config);

/// Checks the tensors of either kind. Pre: ResolveNames ran. Errors: those of CheckTensors.
Result<void> CheckTensors(const ModelConfig& config, const Checkpoint& checkpoint);

/// What can be told of a model without its weights: all but `integer_codes` and `fingerprint`.
/// Errors: kInvalidArgument if the pooling's modules do not fit each other or the model.
Result<ModelSpec> MakeTextSpec(const ModelConfig& config);

/// What the rest of the program is told of a model; digests the checkpoint for the fingerprint.
/// Errors: kInvalidArgument if the pooling's modules do not fit each other or the model.
Result<ModelSpec> MakeModelSpec(const ModelConfig& config, const Checkpoint& checkpoint);

}  // namespace pixii::model
