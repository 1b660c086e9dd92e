// config.json and generation_config.json of a folder, read and checked.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint_folder.h"
#include "model/decoder_spec.h"
#include "model/language_model.h"  // GenerationDefaults

namespace pixii::model {

inline constexpr std::size_t kEosTokenCountMax = 64;

struct ModelConfig {
  DecoderSpec decoder;
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

/// What the rest of the program is told of a model; digests the checkpoint for the fingerprint.
ModelSpec MakeModelSpec(const ModelConfig& config, const Checkpoint& checkpoint);

}  // namespace pixii::model
