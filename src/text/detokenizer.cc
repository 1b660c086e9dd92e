#include "text/detokenizer.h"

#include "text/tokenizer_parts.h"

namespace pixii::text {

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer,
                                               std::span<const TokenId> prompt,
                                               const DecodeOptions& options)
    : tokenizer_(&tokenizer), options_(options), state_(tokenizer.parts_->decoder.Start()) {
  if (prompt.size() > kPromptTokensMax) {
    prompt = prompt.last(kPromptTokensMax);
  }
  std::string dropped;
  for (TokenId token : prompt) {
    Push(token, dropped);
  }
  tokenizer.parts_->decoder.DropHeldPrompt(state_);
}

void IncrementalDetokenizer::Push(TokenId token, std::string& out) {
  const Tokenizer::Parts& parts = *tokenizer_->parts_;
  if (parts.Has(token) && !(options_.skip_special_tokens && parts.IsSpecial(token))) {
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
