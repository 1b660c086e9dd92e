// CLIP's tokenizer as its first files have it: vocab.json and merges.txt.
//
// Thread: pure functions.
// Source: transformers' CLIPConverter (what tokenizer.json of a CLIP model holds).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "model/checkpoint_folder.h"

namespace pixii::model {

/// tokenizer.json of `folder`, or one made of its vocab.json and merges.txt. Errors: kNotFound
/// without either; kDataCorrupt naming a file that is no such thing.
Result<std::string> ReadClipTokenizer(const CheckpointFolder& folder);

/// `vocabulary` and `merges`: the files' contents; `place`: their folder, for errors.
Result<std::string> ClipTokenizerJson(std::string_view vocabulary, std::string_view merges,
                                      std::string_view place);

}  // namespace pixii::model
