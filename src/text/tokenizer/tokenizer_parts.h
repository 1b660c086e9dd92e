// What a loaded tokenizer consists of. Private to text/.
//
// Thread: immutable after load.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/byte_words.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/post_processor.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/token_model.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/vocabulary.h"

namespace pixii::text {

struct Tokenizer::Parts {
  Vocabulary vocabulary;  // of the model; `model` refers to it
  AddedTokens added;
  std::unique_ptr<const Normalizer> normalizer;       // null: none
  std::unique_ptr<const PreTokenizer> pre_tokenizer;  // null: none
  std::unique_ptr<const TokenModel> model;
  // Pre-tokenizer and model once more, where both work on the bytes of the text; null else.
  std::unique_ptr<const ByteWords> byte_words;
  PostProcessor post_processor;
  Decoder decoder;
  std::unordered_map<TokenId, std::uint32_t> added_by_id;  // index into added.tokens()
  std::unordered_map<std::string_view, TokenId> added_by_content;
  std::vector<bool> special;  // by id
  TokenId id_end = 0;

  std::string_view Piece(TokenId id) const;
  bool Has(TokenId id) const;

  bool IsSpecial(TokenId id) const {
    return id >= 0 && static_cast<std::size_t>(id) < special.size() &&
           special[static_cast<std::size_t>(id)];
  }
};

}  // namespace pixii::text
