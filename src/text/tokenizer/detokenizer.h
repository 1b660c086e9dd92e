// Text of a growing list of tokens, as far as it is final.
//
// Thread: a value of one choice; refers to a Tokenizer that must outlive it.
// Law: what Push returned, one after another, and what Flush returns, is Tokenizer::Decode of all
// tokens.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/tokenizer.h"

namespace pixii::text {

class IncrementalDetokenizer final {
 public:
  /// Starts after `prompt`, whose own text is not repeated: the text is that of the tokens that
  /// follow, but for what the decoder would strip from a text's first token. With an empty prompt
  /// it starts a text. O(1): at most the last kPromptTokensMax tokens of the prompt are looked at.
  IncrementalDetokenizer(const Tokenizer& tokenizer, std::span<const TokenId> prompt,
                         const DecodeOptions& options = {});

  /// Appends to `out` the text that is final now. Never a part of a character; never a U+FFFD that
  /// a later token could still make a character. Ids without a piece give nothing. Amortised
  /// O(piece).
  void Push(TokenId token, std::string& out);
  std::string Push(TokenId token);

  /// The text still held, at the end: bytes that never became a character are U+FFFD. Then a new
  /// text begins.
  std::string Flush();

  static constexpr std::size_t kPromptTokensMax =
      64;  // tokens: more than any run that a decoder holds across

 private:
  bool Skips(TokenId token) const;
  /// Empty for those that are skipped.
  std::string_view PieceOf(TokenId token) const;

  const Tokenizer* tokenizer_;
  DecodeOptions options_;
  DecodeState state_;
};

}  // namespace pixii::text
