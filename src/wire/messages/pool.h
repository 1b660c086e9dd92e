// What a request wants of a text as a whole, in place of tokens: a vector, class logits, or the
// logits of a few tokens.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace pixii::wire {

/// What a model gives.
enum class ModelTask : std::uint8_t {
  kGenerate,  // tokens
  kEmbed,     // a vector of a text
  kClassify,  // class logits of a text: a reranker has one class
};

inline constexpr std::uint32_t kLogitTokensMax = 16;

struct PoolParams {
  std::vector<std::int32_t> token_types = {};  // [prompt] of an encoder; empty: all 0
  /// The first so many tokens of the prompt are an instruction: read, but not part of the vector.
  std::uint32_t skip_tokens = 0;
  /// Of a generator, and only of one: the result is these tokens' raw logits behind the prompt.
  std::vector<TokenId> logit_tokens = {};  // 1 .. kLogitTokensMax
};

}  // namespace pixii::wire
