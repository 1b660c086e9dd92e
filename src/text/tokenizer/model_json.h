// Reads the "model" of a tokenizer.json: vocabulary, merges and options.
//
// Thread: pure functions.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/component_json.h"
#include "text/tokenizer/token_model.h"
#include "text/tokenizer/vocabulary.h"
#include "wire/json.h"

namespace pixii::text {

class JsonCursor;

inline constexpr std::size_t kMergesMax = 16'777'216;  // merges of one model

/// A model as it stands in the file, its vocabulary read already.
struct ModelJson {
  wire::Json options{wire::Json::Object{}};  // all members but vocab and merges
  std::string_view merges;                   // text of the list, empty if there is none
  std::size_t merges_offset = 0;             // where it stands in the file
  std::vector<double> scores;  // by id, where the vocabulary is a list of [piece, score]
};

/// Parses a small part of the file. `offset`: where `raw` stands in it.
Result<wire::Json> ParseComponent(std::string_view raw, std::size_t offset, const JsonPlace& place);

/// Reads the object at `cursor` and fills `vocabulary`.
/// Errors: kDataCorrupt, kTooLarge, naming the place and the byte; what is no JSON fails the
/// cursor.
Result<ModelJson> ReadModel(JsonCursor& cursor, Vocabulary& vocabulary, const JsonPlace& place);

/// Errors: kUnsupported for a type of model that is not built; kDataCorrupt.
Result<std::unique_ptr<const TokenModel>> BuildModel(const ModelJson& json,
                                                     const Vocabulary& vocabulary,
                                                     const JsonPlace& place);

}  // namespace pixii::text
