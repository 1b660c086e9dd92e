// A tokenizer that a folder keeps in another form than tokenizer.json.
//
// Thread: pure functions over the folder.
#pragma once

#include <string>

#include "base/result.h"
#include "model/checkpoint_folder.h"

namespace pixii::model {

/// The file that holds it: tokenizer.model or spiece.model (SentencePiece, or tiktoken under the
/// same name), tiktoken.model, or the first by name that ends in .tiktoken. Empty: there is none.
std::string OtherTokenizerFile(const CheckpointFolder& folder);

/// That file as tokenizer.json, with what tokenizer_config.json adds.
/// Errors: those of the file's form; kTooLarge.
Result<std::string> OtherTokenizerJson(const CheckpointFolder& folder, const std::string& file);

}  // namespace pixii::model
