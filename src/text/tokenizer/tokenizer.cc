#include "text/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"
#include "text/tokenizer/tokenizer_parts.h"
#include "text/tokenizer/unicode.h"

namespace pixii::text {

namespace {

constexpr std::size_t kBytesPerTokenGuess = 3;  // memory for ids is asked for once

}  // namespace

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
  PX_TRY(std::vector<TokenId> ids, EncodePlain(text, options));
  parts_->post_processor.Apply(options.add_special_tokens, ids);
  return ids;
}

namespace {

// Hugging Face's rule "longest first": the shorter text is cut only if half of the room is too
// little for it.
void CutLongestFirst(std::size_t room, std::vector<TokenId>& first, std::vector<TokenId>& second) {
  bool swapped = first.size() > second.size();
  std::vector<TokenId>& shorter = swapped ? second : first;
  std::vector<TokenId>& longer = swapped ? first : second;
  if (shorter.size() + longer.size() <= room) {
    return;
  }
  std::size_t shorter_size = shorter.size();
  std::size_t longer_size =
      shorter_size > room ? shorter_size : std::max(shorter_size, room - shorter_size);
  if (shorter_size + longer_size > room) {
    shorter_size = room / 2;
    longer_size = shorter_size + room % 2;
  }
  shorter.resize(std::min(shorter.size(), shorter_size));
  longer.resize(std::min(longer.size(), longer_size));
}

}  // namespace

Result<TypedTokens> Tokenizer::Join(std::string_view first, std::optional<std::string_view> second,
                                    const JoinOptions& options) const {
  EncodeOptions encode{.parse_special = options.parse_special};
  const PostProcessor& processor = parts_->post_processor;
  std::size_t added = options.add_special_tokens ? processor.AddedCount(second.has_value()) : 0;
  std::size_t room = options.tokens_max == 0      ? SIZE_MAX
                     : options.tokens_max > added ? options.tokens_max - added
                                                  : 0;
  PX_TRY(std::vector<TokenId> ids, EncodePlain(first, encode));
  if (!second) {
    ids.resize(std::min(ids.size(), room));
    return processor.ApplyTyped(options.add_special_tokens, std::move(ids));
  }
  PX_TRY(std::vector<TokenId> more, EncodePlain(*second, encode));
  CutLongestFirst(room, ids, more);
  return processor.ApplyPair(options.add_special_tokens, std::move(ids), std::move(more));
}

Result<std::vector<TokenId>> Tokenizer::EncodePlain(std::string_view text,
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
  ids.reserve(text.size() / kBytesPerTokenGuess + 1);
  std::vector<AddedTokens::Segment> raw;
  std::vector<AddedTokens::Segment> normal;
  std::string normalized;
  Words words;
  ModelScratch scratch;
  scratch.forbidden = untrusted.empty() ? nullptr : &parts_->added.control_ids();
  const ByteWords* byte_words = parts_->byte_words.get();
  if (byte_words != nullptr && scratch.forbidden != nullptr && byte_words->may_make_control()) {
    byte_words = nullptr;
  }
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
      if (byte_words != nullptr) {
        byte_words->Encode(stretch.substr(inner.begin, inner.end - inner.begin), scratch, ids);
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
