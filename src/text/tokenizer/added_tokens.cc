#include "text/tokenizer/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/tokenizer/unicode.h"
#include "text/tokenizer/vocabulary.h"

namespace pixii::text {

namespace {

bool IsControl(const AddedToken& token) {
  bool control = token.special;
  ForEachChar(token.content, [&](char32_t c, std::string_view) {
    control = control || !(IsWhitespace(c) || IsLetter(c) || IsMark(c) || IsNumeric(c));
  });
  return control;
}

// Start of the last character of `text`. Pre: not empty, valid UTF-8.
std::size_t LastCharBegin(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) {
    --at;
  }
  return at;
}

bool EndsWithWord(std::string_view text) {
  return !text.empty() && IsWord(DecodeUtf8(text.substr(LastCharBegin(text))));
}

bool StartsWithWord(std::string_view text) { return !text.empty() && IsWord(DecodeUtf8(text)); }

// Where the white space that ends at `end` begins, not before `from`.
std::size_t SpaceBegin(std::string_view text, std::size_t from, std::size_t end) {
  while (end > from) {
    std::size_t at = LastCharBegin(text.substr(0, end));
    if (at < from || !IsWhitespace(DecodeUtf8(text.substr(at)))) {
      break;
    }
    end = at;
  }
  return end;
}

// Where the white space that begins at `begin` ends.
std::size_t SpaceEnd(std::string_view text, std::size_t begin) {
  while (begin < text.size() && IsWhitespace(DecodeUtf8(text.substr(begin)))) {
    begin += Utf8SequenceLength(text.substr(begin));
  }
  return begin;
}

bool Overlaps(std::span<const TextRange> ranges, std::size_t begin, std::size_t end) {
  auto range = std::partition_point(ranges.begin(), ranges.end(),
                                    [&](const TextRange& r) { return r.end <= begin; });
  return range != ranges.end() && range->begin < end;
}

}  // namespace

Result<std::vector<AddedToken>> AddedTokensFromJson(const wire::Json& json,
                                                    const JsonPlace& place) {
  std::vector<AddedToken> tokens;
  if (json.is_null()) {
    return tokens;
  }
  if (!json.is_array()) {
    return place.Refuse("must be a list");
  }
  if (json.array().size() > kAddedTokensMax) {
    return place.Refuse(
        fmt::format("has {} entries, at most {} are allowed", json.array().size(), kAddedTokensMax),
        Code::kTooLarge);
  }
  for (std::size_t i = 0; i < json.array().size(); ++i) {
    const wire::Json& entry = json.array()[i];
    JsonPlace at = place.Item(i);
    if (!entry.is_object()) {
      return at.Refuse("must be an object");
    }
    AddedToken token;
    PX_TRY(token.content, StringField(entry, "content", "", at));
    PX_TRY(std::int64_t id, IntField(entry, "id", -1, 0, kTokenIdMax, at));
    if (id < 0) {
      return at.Refuse("has no id");
    }
    if (token.content.size() > kAddedTokenBytesMax) {
      return at.Member("content").Refuse(fmt::format("has {} bytes, at most {} are allowed",
                                                     token.content.size(), kAddedTokenBytesMax),
                                         Code::kTooLarge);
    }
    token.id = static_cast<TokenId>(id);
    PX_TRY(token.single_word, BoolField(entry, "single_word", false, at));
    PX_TRY(token.lstrip, BoolField(entry, "lstrip", false, at));
    PX_TRY(token.rstrip, BoolField(entry, "rstrip", false, at));
    PX_TRY(token.special, BoolField(entry, "special", false, at));
    PX_TRY(token.normalized, BoolField(entry, "normalized", !token.special, at));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

template <class Select>
AddedTokens::Matcher AddedTokens::MakeMatcher(const std::vector<std::string>& patterns,
                                              Select select) const {
  Matcher matcher;
  std::vector<std::string> selected;
  for (std::uint32_t i = 0; i < tokens_.size(); ++i) {
    if (select(i)) {
      matcher.tokens.push_back(i);
      selected.push_back(patterns[i]);
    }
  }
  matcher.automaton = AhoCorasick(selected);
  return matcher;
}

Result<AddedTokens> AddedTokens::Create(std::vector<AddedToken> tokens,
                                        const Normalizer* normalizer) {
  AddedTokens out;
  out.tokens_ = std::move(tokens);
  std::vector<std::string> raw;
  std::vector<std::string> normal;
  for (const AddedToken& token : out.tokens_) {
    bool control = IsControl(token);
    out.control_.push_back(control);
    auto id = static_cast<std::size_t>(token.id);
    out.control_ids_.resize(std::max(out.control_ids_.size(), id + 1));
    out.control_ids_[id] = control;
    raw.push_back(token.content);
    normal.push_back(token.content);
    if (token.normalized && normalizer != nullptr) {
      PX_CHECK_OK(normalizer->Apply(normal.back()));
    }
  }
  auto is_normalized = [&](std::uint32_t i) { return out.tokens_[i].normalized; };
  auto is_control = [&](std::uint32_t i) -> bool { return out.control_[i]; };
  out.raw_ = out.MakeMatcher(raw, [&](auto i) { return !is_normalized(i); });
  out.raw_guarded_ =
      out.MakeMatcher(raw, [&](auto i) { return !is_normalized(i) || is_control(i); });
  out.normalized_ = out.MakeMatcher(normal, is_normalized);
  out.normalized_text_ =
      out.MakeMatcher(normal, [&](auto i) { return is_normalized(i) && !is_control(i); });
  return out;
}

void AddedTokens::SplitRaw(std::string_view text, std::span<const TextRange> untrusted,
                           std::vector<Segment>& out) const {
  Split(untrusted.empty() ? raw_ : raw_guarded_, text, untrusted, out);
}

void AddedTokens::SplitNormalized(std::string_view text, bool any_untrusted,
                                  std::vector<Segment>& out) const {
  Split(any_untrusted ? normalized_text_ : normalized_, text, {}, out);
}

void AddedTokens::Split(const Matcher& matcher, std::string_view text,
                        std::span<const TextRange> untrusted, std::vector<Segment>& out) const {
  std::size_t done = 0;  // text before this is in `out`
  auto accept = [&](const AhoCorasick::Match& match) {
    return untrusted.empty() || !control_[matcher.tokens[match.pattern]] ||
           !Overlaps(untrusted, match.begin, match.end);
  };
  for (std::size_t at = 0; !matcher.automaton.empty() && at < text.size();) {
    AhoCorasick::Match match = matcher.automaton.FindLeftmostLongest(text, at, accept);
    if (match.pattern == AhoCorasick::kNone) {
      break;
    }
    at = match.end;
    const AddedToken& token = tokens_[matcher.tokens[match.pattern]];
    std::size_t begin = match.begin;
    std::size_t end = match.end;
    if (token.single_word &&
        (EndsWithWord(text.substr(0, begin)) || StartsWithWord(text.substr(end)))) {
      continue;
    }
    if (token.lstrip) {
      begin = SpaceBegin(text, std::min(done, begin), begin);
    }
    if (token.rstrip) {
      // White space that an earlier token has taken is not walked again.
      end = done >= end ? done : SpaceEnd(text, end);
    }
    begin = std::max(begin, done);
    end = std::max(end, begin);
    if (done < begin) {
      out.push_back({done, begin, -1});
    }
    out.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) {
    out.push_back({done, text.size(), -1});
  }
}

}  // namespace pixii::text
