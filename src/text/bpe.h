// Byte-pair encoding: a word's characters, then the best-ranked neighbours merged again and again.
//
// Thread: immutable after load.
// Source: Sennrich et al. 2016 (arXiv 1508.07909); options as in Hugging Face tokenizers,
// models/bpe/.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/token_model.h"
#include "text/vocabulary.h"

namespace pixii::text {

struct BpeOptions {
  std::string unknown;  // piece for characters without one; empty: they are dropped
  std::string continuing_subword_prefix;  // on every piece but a word's first
  std::string end_of_word_suffix;         // on a word's last piece
  bool fuse_unknown = false;              // neighbouring unknowns become one
  bool byte_fallback = false;             // unknown characters become <0xNN> pieces
  bool ignore_merges = false;             // a word that is a piece is that piece
};

/// The merges by pair, in a table of power-of-two size at most half full.
class MergeTable final {
 public:
  struct Entry {
    TokenId left = -1;
    TokenId right = -1;
    std::uint32_t rank = 0;
    TokenId merged = -1;
  };

  void Reserve(std::size_t merges);
  /// Of equal pairs the last counts.
  void Add(const Entry& entry);
  /// Null if the two do not merge.
  const Entry* Find(TokenId left, TokenId right) const;

  std::size_t size() const { return size_; }

 private:
  std::size_t Slot(TokenId left, TokenId right) const;
  void Resize(std::size_t slots);

  std::vector<Entry> slots_;
  std::size_t size_ = 0;
};

class Bpe final : public TokenModel {
 public:
  /// `vocabulary` must outlive the model. `merges`: from MergesBuilder or hand-made.
  /// Errors: kDataCorrupt if the unknown piece is not in the vocabulary.
  static Result<std::unique_ptr<const Bpe>> Create(const Vocabulary& vocabulary, MergeTable merges,
                                                   BpeOptions options);

  void Tokenize(std::string_view word, ModelScratch& scratch,
                std::vector<TokenId>& out) const override;

 private:
  Bpe(const Vocabulary& vocabulary, MergeTable merges, BpeOptions options);

  void AddSymbols(std::string_view word, std::vector<ModelScratch::Symbol>& symbols) const;
  std::optional<TokenId> CharId(std::string_view bytes, bool first, bool last) const;
  bool AddBytes(std::string_view bytes, std::vector<ModelScratch::Symbol>& symbols) const;
  void MergeShort(ModelScratch& scratch, std::vector<TokenId>& out) const;
  void MergeLong(ModelScratch& scratch, std::vector<TokenId>& out) const;

  static constexpr char32_t kCharTableEnd = 0x250;  // ASCII, Latin and the byte alphabet

  const Vocabulary* vocabulary_;
  MergeTable merges_;
  BpeOptions options_;
  std::optional<TokenId> unknown_;
  std::array<TokenId, kCharTableEnd> char_ids_;  // -1: no piece
  std::array<TokenId, 256> byte_ids_;            // of <0xNN>; -1: no piece
};

}  // namespace pixii::text
