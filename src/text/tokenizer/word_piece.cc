#include "text/tokenizer/word_piece.h"

#include <algorithm>

namespace pixii::text {

namespace {

std::vector<std::string> Pieces(const Vocabulary& vocabulary) {
  std::vector<std::string> pieces;
  for (TokenId id = 0; id < vocabulary.id_end(); ++id) {
    pieces.emplace_back(vocabulary.Piece(id));
  }
  return pieces;
}

std::size_t CharCount(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace

WordPiece::WordPiece(const Vocabulary& vocabulary, WordPieceOptions options)
    : options_(std::move(options)), pieces_(Pieces(vocabulary)), after_prefix_(AhoCorasick::kRoot) {
  for (char c : options_.continuing_subword_prefix) {
    after_prefix_ = after_prefix_ == AhoCorasick::kNone
                        ? AhoCorasick::kNone
                        : pieces_.Step(after_prefix_, static_cast<unsigned char>(c));
  }
}

void WordPiece::Tokenize(std::string_view word, ModelScratch& scratch,
                         std::vector<TokenId>& out) const {
  std::size_t start = out.size();
  bool cut = CharCount(word) <= options_.word_chars_max;
  for (std::size_t begin = 0; cut && begin < word.size();) {
    std::uint32_t state = begin == 0 ? AhoCorasick::kRoot : after_prefix_;
    std::uint32_t longest = AhoCorasick::kNone;
    std::size_t longest_end = begin;
    for (std::size_t end = begin; state != AhoCorasick::kNone && end < word.size();) {
      state = pieces_.Step(state, static_cast<unsigned char>(word[end++]));
      ++scratch.steps;
      std::uint32_t piece = state == AhoCorasick::kNone ? state : pieces_.PatternAt(state);
      if (piece != AhoCorasick::kNone &&
          !IsForbidden(scratch.forbidden, static_cast<TokenId>(piece))) {
        longest = piece;
        longest_end = end;
      }
    }
    cut = longest != AhoCorasick::kNone;
    if (cut) {
      out.push_back(static_cast<TokenId>(longest));
    }
    begin = longest_end;
  }
  if (!cut) {
    out.resize(start);
    out.push_back(options_.unknown);
  }
}

void WordLevel::Tokenize(std::string_view word, ModelScratch& scratch,
                         std::vector<TokenId>& out) const {
  auto id = vocabulary_->IdOf(word);
  out.push_back(id && !IsForbidden(scratch.forbidden, *id) ? *id : unknown_);
}

}  // namespace pixii::text
