// Unigram language model: the cut of a word into pieces whose scores have the largest sum.
//
// Thread: immutable after load.
// Source: Kudo 2018 (arXiv 1804.10959); ties and unknown characters as in Hugging Face tokenizers,
// models/unigram/.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/aho_corasick.h"
#include "text/tokenizer/token_model.h"
#include "text/tokenizer/vocabulary.h"

namespace pixii::text {

struct UnigramOptions {
  std::vector<double> scores;      // by id, one for each piece
  std::optional<TokenId> unknown;  // for characters without a piece; nothing: they are dropped
  bool byte_fallback = false;      // unknown characters become <0xNN> pieces
};

inline constexpr std::size_t kUnigramPieceBytesMax =
    1'024;  // bytes of one piece: a word costs O(bytes * this)

class Unigram final : public TokenModel {
 public:
  /// `vocabulary` must outlive the model.
  /// Errors: kDataCorrupt if the unknown id has no piece; kTooLarge for a piece past the bound.
  static Result<std::unique_ptr<const Unigram>> Create(const Vocabulary& vocabulary,
                                                       UnigramOptions options);

  void Tokenize(std::string_view word, ModelScratch& scratch,
                std::vector<TokenId>& out) const override;

 private:
  Unigram(const Vocabulary& vocabulary, UnigramOptions options);

  void FindBestCut(std::string_view word, ModelScratch& scratch) const;
  void AppendUnknown(std::string_view text, const ModelScratch& scratch,
                     std::vector<TokenId>& out) const;

  const Vocabulary* vocabulary_;
  UnigramOptions options_;
  AhoCorasick pieces_;
  double unknown_score_;
};

}  // namespace pixii::text
