// A SentencePiece model (tokenizer.model, spiece.model) as tokenizer.json.
//
// Thread: pure functions.
// Source: sentencepiece_model.proto, protocol buffers' encoding (facts); parts of tokenizer.json as
// in Hugging Face's conversion.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer/tokenizer_config.h"

namespace pixii::text {

/// Whether `bytes` may be such a model: its first field is a piece.
bool LooksLikeSentencePiece(std::string_view bytes);

/// The file is not trusted. Errors, naming `file`: kDataCorrupt with the byte; kUnsupported for a
/// model that is neither Unigram nor BPE, or for white space that is not escaped or is a suffix.
Result<std::string> SentencePieceToJson(std::string_view bytes, const TokenizerConfig& config,
                                        std::string_view file);

}  // namespace pixii::text
