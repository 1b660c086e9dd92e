// How a GGUF file says that texts are cut before byte-level BPE: tokenizer.ggml.pre.
//
// Thread: constants.
// Source: the names that llama.cpp writes, and the patterns of the tokenizers they stand for.
#pragma once

#include <array>
#include <string_view>

#include "base/result.h"
#include "model/gguf.h"

namespace pixii::model {

struct GgufPreTokenizer {
  std::array<std::string_view, 3> patterns;  // one after another; empty: no more
  bool ignore_merges = false;                // a word that is a piece is that piece
  bool add_bos = false;                      // where tokenizer.ggml.add_bos_token is absent
  bool nfc = false;
};

/// Errors: kUnsupported naming the file, the key and what this build knows.
Result<const GgufPreTokenizer*> FindGgufPreTokenizer(const GgufFile& file);

}  // namespace pixii::model
