#include "text/tokenizer/detokenizer.h"

#include <algorithm>

#include "text/tokenizer/tokenizer_parts.h"

namespace pixii::text {

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer,
                                               std::span<const TokenId> prompt,
                                               const DecodeOptions& options)
    : tokenizer_(&tokenizer), options_(options), state_(tokenizer.parts_->decoder.Start()) {
  prompt = prompt.last(std::min(prompt.size(), kPromptTokensMax));
  if (std::size_t wanted = tokenizer.parts_->decoder.MemoryTokens(); wanted > 0) {
    std::size_t begin = prompt.size();
    while (begin > 0 && wanted > 0) {
      wanted -= PieceOf(prompt[--begin]).empty() ? 0 : 1;
    }
    prompt = prompt.subspan(begin);
  }
  std::string dropped;
  for (TokenId token : prompt) {
    Push(token, dropped);
  }
  tokenizer.parts_->decoder.DropHeldPrompt(state_);
}

bool IncrementalDetokenizer::Skips(TokenId token) const {
  const Tokenizer::Parts& parts = *tokenizer_->parts_;
  return !parts.Has(token) || (options_.skip_special_tokens && parts.IsSpecial(token));
}

std::string_view IncrementalDetokenizer::PieceOf(TokenId token) const {
  return Skips(token) ? std::string_view() : tokenizer_->parts_->Piece(token);
}

void IncrementalDetokenizer::Push(TokenId token, std::string& out) {
  if (!Skips(token)) {
    const Tokenizer::Parts& parts = *tokenizer_->parts_;
    parts.decoder.Push(parts.Piece(token), state_, out);
  }
}

std::string IncrementalDetokenizer::Push(TokenId token) {
  std::string out;
  Push(token, out);
  return out;
}

std::string IncrementalDetokenizer::Flush() {
  std::string out;
  tokenizer_->parts_->decoder.Finish(state_, out);
  return out;
}

}  // namespace pixii::text
