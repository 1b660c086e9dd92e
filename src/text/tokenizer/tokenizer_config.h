// What tokenizer_config.json adds to a vocabulary that is no tokenizer.json: special tokens, and
// which of them stand around a text.
//
// Thread: pure functions. Source: transformers' tokenizer_config.json (facts).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/added_tokens.h"

namespace pixii::text {

struct TokenizerConfig {
  std::vector<AddedToken> added = {};  // "added_tokens_decoder", by id
  std::optional<bool> add_bos_token = {};
  std::optional<bool> add_eos_token = {};
  std::string bos_token = {};  // empty: none named
  std::string eos_token = {};
  std::string tokenizer_class = {};
  std::string pattern = {};  // "pat_str": what a tiktoken vocabulary cuts texts with
};

/// Nothing and "" give an empty config. Errors: kDataCorrupt naming `file` and the key.
Result<TokenizerConfig> ReadTokenizerConfig(std::string_view json, std::string_view file);

/// The list "added_tokens" of a tokenizer.json.
std::string AddedTokensToJson(const std::vector<AddedToken>& tokens);

/// A post-processor of a tokenizer.json that puts these tokens before and after a text; "null" if
/// both are nothing.
std::string PostProcessorToJson(const std::optional<AddedToken>& before,
                                const std::optional<AddedToken>& after);

}  // namespace pixii::text
