// modules.json and the folders it names: what an embedding model or a reranker does after its
// transformer.
//
// Thread: values. Source: sentence-transformers' modules.json, 1_Pooling/config.json and the like
// (facts only): Transformer, Pooling, Dense, Normalize; LogitScore for rerankers that are causal
// language models.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint_folder.h"
#include "model/language_model.h"  // ScoreTokens
#include "model/pooling.h"

namespace pixii::model {

inline constexpr std::size_t kModuleCountMax = 16;
inline constexpr std::int64_t kModuleFeaturesMax = 1 << 16;

struct SentenceModules {
  std::optional<PoolingSpec> pooling;
  std::optional<ScoreTokens> score;
  std::string text;  // modules.json and what was read of it, for the fingerprint
};

/// Nothing set where there is no modules.json. Errors: kDataCorrupt, kNotFound with the file;
/// kUnsupported naming a module or a key that is not built.
Result<SentenceModules> LoadSentenceModules(const CheckpointFolder& folder);

}  // namespace pixii::model
