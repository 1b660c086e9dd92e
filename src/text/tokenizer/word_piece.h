// Two plain models: WordPiece takes the longest piece again and again, WordLevel takes whole words.
//
// Thread: immutable after load. Source: Hugging Face tokenizers, models/wordpiece/ and
// models/wordlevel/.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/aho_corasick.h"
#include "text/tokenizer/token_model.h"
#include "text/tokenizer/vocabulary.h"

namespace pixii::text {

inline constexpr std::int64_t kWordPieceCharsMax =
    4'096;  // max_input_chars_per_word: a word costs its square

struct WordPieceOptions {
  TokenId unknown;                        // a word that cannot be cut is this
  std::string continuing_subword_prefix;  // on every piece but a word's first
  std::size_t word_chars_max;             // longer words are unknown
};

class WordPiece final : public TokenModel {
 public:
  WordPiece(const Vocabulary& vocabulary, WordPieceOptions options);

  void Tokenize(std::string_view word, ModelScratch& scratch,
                std::vector<TokenId>& out) const override;

 private:
  WordPieceOptions options_;
  AhoCorasick pieces_;
  std::uint32_t after_prefix_;  // state after the prefix; AhoCorasick::kNone if no piece has it
};

class WordLevel final : public TokenModel {
 public:
  /// `vocabulary` must outlive the model.
  WordLevel(const Vocabulary& vocabulary, TokenId unknown)
      : vocabulary_(&vocabulary), unknown_(unknown) {}

  void Tokenize(std::string_view word, ModelScratch& scratch,
                std::vector<TokenId>& out) const override;

 private:
  const Vocabulary* vocabulary_;
  TokenId unknown_;
};

}  // namespace pixii::text
