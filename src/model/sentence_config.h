// How a model that reads texts is meant to be used: what stands before a text, how vectors are
// compared, what class logits become.
//
// Thread: values.
// Source: sentence-transformers' config_sentence_transformers.json and sentence_bert_config.json,
// and keys of config.json that transformers, sentence-transformers and vLLM read (facts only).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "model/checkpoint_folder.h"

namespace pixii::model {

enum class VectorSimilarity : std::uint8_t { kCosine, kDot, kEuclidean, kManhattan };

enum class ScoreActivation : std::uint8_t { kSigmoid, kSoftmax, kIdentity };

struct SentenceConfig {
  std::vector<std::pair<std::string, std::string>> prompts;  // name, text before a text
  std::string default_prompt;                                // a name of these; empty: none
  VectorSimilarity similarity = VectorSimilarity::kCosine;
  std::optional<ScoreActivation> activation;  // nothing: as the number of classes says
  std::vector<std::string> labels;            // by class, or empty
  bool matryoshka = false;                    // a vector may be cut
  std::vector<std::int32_t> dimensions;       // to these lengths; empty: to any
  std::int32_t tokens_max = 0;                // of a text; 0: not said
};

/// What the folder's files say; a file that is absent says nothing. Errors: kDataCorrupt,
/// kInvalidArgument and kUnsupported naming file and key.
Result<SentenceConfig> LoadSentenceConfig(const CheckpointFolder& folder);

}  // namespace pixii::model
