// A GGUF file as the Hugging Face folder it was made from: config.json, and tensors by their names
// there.
//
// Thread: pure functions. docs/formats/gguf.md has the tables of keys and names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/gguf.h"

namespace pixii::model {

/// config.json as the family's reader wants it. Errors: kUnsupported naming file, key and value of
/// an architecture or key that nothing here understands; kDataCorrupt for values of a wrong type.
Result<std::string> GgufConfig(const GgufFile& file);

/// A tensor under its name in the folder.
struct GgufNamed {
  std::string name;
  const GgufTensor* tensor = nullptr;
  std::int64_t index = -1;     // of a stack of experts: which; -1: the whole tensor
  std::int64_t count = 1;      // of the stack
  bool one_row = false;        // a matrix of one row, perhaps stored as a vector
  std::int64_t head_rows = 0;  // not 0: rows of each head lie in pairs (gguf_blocks.h)
  float added = 0.0F;          // to each value when the file was made
};

/// All tensors, those apart that GgufConfig has read. Errors: kUnsupported naming a tensor that has
/// no place in the architecture.
Result<std::vector<GgufNamed>> GgufTensorNames(const GgufFile& file);

}  // namespace pixii::model
