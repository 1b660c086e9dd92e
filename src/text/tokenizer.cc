#include "text/tokenizer.h"

#include <fmt/format.h>

#include "base/utf8.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

namespace pixii::text {

std::string_view Tokenizer::Parts::Piece(TokenId id) const {
  auto token = added_by_id.find(id);
  return token == added_by_id.end() ? vocabulary.Piece(id)
                                    : std::string_view(added.tokens()[token->second].content);
}

bool Tokenizer::Parts::Has(TokenId id) const {
  return vocabulary.Has(id) || added_by_id.contains(id);
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}

Tokenizer::~Tokenizer() = default;

Result<std::vector<TokenId>> Tokenizer::Encode(std::string_view text,
                                               const EncodeOptions& options) const {
  if (text.size() > kEncodeTextBytesMax) {
    return Fail(Code::kTooLarge, fmt::format("the text has {} bytes, allowed are {}", text.size(),
                                             kEncodeTextBytesMax));
  }
  std::string repaired;
  TextRange everything{0, text.size()};
  std::span<const TextRange> untrusted = options.untrusted;
  if (!options.parse_special) {
    untrusted = {&everything, 1};
  }
  if (!IsValidUtf8(text)) {
    repaired = ReplaceIllFormed(text);
    text = repaired;
    everything.end = text.size();
    // Places have moved: distrust all of it rather than the wrong part.
    untrusted = untrusted.empty() ? untrusted : std::span<const TextRange>(&everything, 1);
  }
  std::vector<TokenId> ids;
  std::vector<AddedTokens::Segment> raw;
  std::vector<AddedTokens::Segment> normal;
  std::string normalized;
  Words words;
  ModelScratch scratch;
  scratch.forbidden = untrusted.empty() ? nullptr : &parts_->added.control_ids();
  parts_->added.SplitRaw(text, untrusted, raw);
  for (const AddedTokens::Segment& outer : raw) {
    if (outer.id >= 0) {
      ids.push_back(outer.id);
      continue;
    }
    std::string_view stretch = text.substr(outer.begin, outer.end - outer.begin);
    if (parts_->normalizer != nullptr) {
      normalized = stretch;
      PX_CHECK_OK(parts_->normalizer->Apply(normalized));
      stretch = normalized;
    }
    normal.clear();
    parts_->added.SplitNormalized(stretch, !untrusted.empty(), normal);
    for (const AddedTokens::Segment& inner : normal) {
      if (inner.id >= 0) {
        ids.push_back(inner.id);
        continue;
      }
      words.Reset(stretch.substr(inner.begin, inner.end - inner.begin),
                  outer.begin == 0 && inner.begin == 0);
      if (parts_->pre_tokenizer != nullptr) {
        PX_CHECK_OK(parts_->pre_tokenizer->Apply(words));
      }
      for (const Word& word : words.words()) {
        parts_->model->Tokenize(words.TextOf(word), scratch, ids);
      }
    }
  }
  parts_->post_processor.Apply(options.add_special_tokens, ids);
  return ids;
}

std::string Tokenizer::Decode(std::span<const TokenId> ids, const DecodeOptions& options) const {
  std::string out;
  DecodeState state = parts_->decoder.Start();
  for (TokenId id : ids) {
    if (parts_->Has(id) && !(options.skip_special_tokens && parts_->IsSpecial(id))) {
      parts_->decoder.Push(parts_->Piece(id), state, out);
    }
  }
  parts_->decoder.Finish(state, out);
  return out;
}

TokenId Tokenizer::vocab_size() const { return parts_->id_end; }

std::string_view Tokenizer::TokenText(TokenId id) const { return parts_->Piece(id); }

std::string Tokenizer::TokenBytes(TokenId id) const {
  return parts_->decoder.PieceBytes(parts_->Piece(id));
}

std::optional<TokenId> Tokenizer::IdOf(std::string_view piece) const {
  auto added = parts_->added_by_content.find(piece);
  return added == parts_->added_by_content.end() ? parts_->vocabulary.IdOf(piece) : added->second;
}

bool Tokenizer::IsSpecial(TokenId id) const { return parts_->IsSpecial(id); }

std::vector<AddedTokenInfo> Tokenizer::AddedTokenList() const {
  std::vector<AddedTokenInfo> out;
  for (const AddedToken& token : parts_->added.tokens()) {
    out.push_back({token.id, token.content, token.special});
  }
  return out;
}

}  // namespace pixii::text
