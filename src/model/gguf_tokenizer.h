// The tokenizer of a GGUF file as tokenizer.json and tokenizer_config.json.
//
// Thread: pure functions. docs/formats/gguf.md says how each kind is rebuilt.
#pragma once

#include <string>

#include "base/result.h"
#include "model/gguf.h"

namespace pixii::model {

/// tokenizer.json, or "" if the file has no tokenizer. The text is as little trusted as the file.
/// Errors: kUnsupported naming file, key and value of a tokenizer or pre-tokenizer that is not
/// built; kDataCorrupt for lists that do not fit together.
Result<std::string> GgufTokenizer(const GgufFile& file);

/// tokenizer_config.json: special tokens and the chat template.
Result<std::string> GgufTokenizerConfig(const GgufFile& file);

}  // namespace pixii::model
