// Byte-pair encoding: a word's characters, then the best-ranked neighbours merged again and again.
//
// Thread: immutable after load.
// Source: Sennrich et al. 2016 (arXiv 1508.07909); options as in Hugging Face tokenizers,
// models/bpe/.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/merge_table.h"
#include "text/tokenizer/token_model.h"
#include "text/tokenizer/vocabulary.h"

namespace pixii::text {

struct BpeOptions {
  std::string unknown;  // piece for characters without one; empty: they are dropped
  std::string continuing_subword_prefix;  // on every piece but a word's first
  std::string end_of_word_suffix;         // on a word's last piece
  bool fuse_unknown = false;              // neighbouring unknowns become one
  bool byte_fallback = false;             // unknown characters become <0xNN> pieces
  bool ignore_merges = false;             // a word that is a piece is that piece
};

class Bpe final : public TokenModel {
 public:
  /// `vocabulary` must outlive the model. All ids of `merges` are of the vocabulary.
  /// Errors: kDataCorrupt if the unknown piece is not in the vocabulary.
  static Result<std::unique_ptr<const Bpe>> Create(const Vocabulary& vocabulary, MergeTable merges,
                                                   BpeOptions options);

  void Tokenize(std::string_view word, ModelScratch& scratch,
                std::vector<TokenId>& out) const override;

  std::unique_ptr<const ByteBpe> FromBytes() const override;

 private:
  Bpe(const Vocabulary& vocabulary, MergeTable merges, BpeOptions options);

  void AddSymbols(std::string_view word, std::vector<BpeSymbol>& symbols) const;
  bool IsSymbol(TokenId id) const;
  std::optional<TokenId> CharId(std::string_view bytes, bool first, bool last) const;
  bool AddBytes(std::string_view bytes, std::vector<BpeSymbol>& symbols) const;
  void MergeShort(std::span<BpeSymbol> symbols, ModelScratch& scratch,
                  std::vector<TokenId>& out) const;

  static constexpr char32_t kCharTableEnd = 0x250;  // ASCII, Latin and the byte alphabet

  const Vocabulary* vocabulary_;
  MergeTable merges_;
  MergeBoundaries boundaries_;
  BpeOptions options_;
  std::optional<TokenId> unknown_;
  std::array<TokenId, kCharTableEnd> char_ids_;  // -1: no piece
  std::array<TokenId, 256> byte_ids_;            // of <0xNN>; -1: no piece
};

}  // namespace pixii::text
