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

namespace pixii::model {

inline constexpr std::size_t kEosTokenCountMax = 64;

/// What the checkpoint's authors sample with where a request says nothing. Absent fields are not
/// stated.
struct GenerationDefaults {
  std::optional<bool> do_sample;
  std::optional<double> temperature;         // 0 .. 100
  std::optional<double> top_p;               // 0 .. 1
  std::optional<double> min_p;               // 0 .. 1
  std::optional<std::int32_t> top_k;         // 0 = all
  std::optional<double> repetition_penalty;  // > 0 .. 100
  std::optional<std::int32_t> max_new_tokens;
};

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

}  // namespace pixii::model
