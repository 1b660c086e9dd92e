// A tiktoken vocabulary (lines of base64 and rank) as tokenizer.json.
//
// Thread: pure functions.
// Source: tiktoken's load.py and openai_public.py (facts); merges as in Hugging Face's conversion.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer/tokenizer_config.h"

namespace pixii::text {

/// Whether the first line of `text` is base64, a space and a number.
bool LooksLikeTiktoken(std::string_view text);

/// The file is not trusted. How texts are cut is said by the config's pattern, else by the name of
/// the file, else by the class that the config names, else by the number of ranks, which names the
/// public vocabularies.
/// Errors, naming `file`: kDataCorrupt with the line; kUnsupported if nothing says the pattern.
Result<std::string> TiktokenToJson(std::string_view text, const TokenizerConfig& config,
                                   std::string_view file);

}  // namespace pixii::text
