// How a model that reads texts wants them, as its checkpoint's files say.
//
// Thread: values.
// Source: sentence-transformers' config_sentence_transformers.json and sentence_bert_config.json,
// transformers' config.json (facts only).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace pixii::frontend {

/// How alike two vectors are.
enum class Similarity : std::uint8_t { kCosine, kDot, kEuclidean, kManhattan };

/// From class logits to what clients see.
enum class ClassActivation : std::uint8_t { kSigmoid, kSoftmax, kIdentity };

/// A generator that is a reranker: its score is the logit of `yes` less that of `no`.
struct ScorePair {
  TokenId yes = -1;
  TokenId no = -1;  // -1: the logit of `yes` alone

  bool operator==(const ScorePair&) const = default;
};

struct PoolingProfile {
  std::vector<std::pair<std::string, std::string>> prompts = {};  // name, text before a text
  std::string default_prompt = {};                                // a name; empty: none
  bool skip_prompt = false;  // the prompt's tokens are not part of the vector
  Similarity similarity = Similarity::kCosine;
  ClassActivation activation = ClassActivation::kSigmoid;
  std::vector<std::string> labels = {};        // [classes], or empty
  bool matryoshka = false;                     // a vector may be cut
  std::vector<std::uint32_t> dimensions = {};  // to these lengths; empty: to any
  std::uint32_t tokens_max = 0;                // of a text; 0: the context
  std::optional<ScorePair> score = {};
  /// Texts of a pair are joined to a prompt of the model's own language: special tokens in them
  /// count. Else they are ordinary text.
  bool pairs_are_prompts = false;

  /// Null: there is none of this name.
  const std::string* FindPrompt(std::string_view name) const;

  bool operator==(const PoolingProfile&) const = default;
};

/// As JSON, for frontends that do not have the checkpoint. docs/formats/messages.md
std::string PoolingProfileText(const PoolingProfile& profile);

/// The reverse; members that are unknown are skipped, absent ones keep their default. Errors:
/// kDataCorrupt.
Result<PoolingProfile> ReadPoolingProfile(std::string_view text);

}  // namespace pixii::frontend
