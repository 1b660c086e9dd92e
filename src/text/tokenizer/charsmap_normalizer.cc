#include "text/tokenizer/charsmap_normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include "text/tokenizer/unicode.h"
#include "wire/base64.h"

namespace pixii::text {

namespace {

// A unit of the double array, as darts-clone packs it.
bool HasLeaf(std::uint32_t unit) { return (unit >> 8 & 1) != 0; }

std::uint32_t Value(std::uint32_t unit) { return unit & 0x7FFFFFFF; }

std::uint32_t Label(std::uint32_t unit) { return unit & 0x800000FF; }

std::uint32_t Offset(std::uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }

std::uint32_t ReadU32(std::string_view bytes) {
  std::uint32_t value = 0;
  for (int i = 3; i >= 0; --i) {
    value = value << 8 | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  }
  return value;
}

// Calls visit(part) for each grapheme cluster.
template <class Visit>
void ForEachGrapheme(std::string_view text, Visit visit) {
  std::size_t begin = 0;
  std::size_t at = 0;
  utf8proc_int32_t before = 0;
  utf8proc_int32_t state = 0;
  ForEachChar(text, [&](char32_t c, std::string_view bytes) {
    auto code_point = static_cast<utf8proc_int32_t>(c);
    if (at > 0 && utf8proc_grapheme_break_stateful(before, code_point, &state)) {
      visit(text.substr(begin, at - begin));
      begin = at;
    }
    before = code_point;
    at += bytes.size();
  });
  if (begin < at) {
    visit(text.substr(begin, at - begin));
  }
}

}  // namespace

Result<std::unique_ptr<const Normalizer>> CharsmapNormalizer::FromBase64(std::string_view base64,
                                                                         const JsonPlace& place) {
  auto bytes = wire::DecodeBase64(base64);
  if (!bytes || bytes->size() < 4) {
    return place.Refuse("must be base64 of at least 4 bytes");
  }
  std::size_t trie_bytes = ReadU32(*bytes);
  if (trie_bytes % 4 != 0 || trie_bytes > bytes->size() - 4 || trie_bytes == 0) {
    return place.Refuse(
        fmt::format("names a trie of {} bytes within {}", trie_bytes, bytes->size() - 4));
  }
  auto out = std::make_unique<CharsmapNormalizer>();
  for (std::size_t at = 4; at < 4 + trie_bytes; at += 4) {
    out->trie_.push_back(ReadU32(std::string_view(*bytes).substr(at)));
  }
  out->texts_ = bytes->substr(4 + trie_bytes);
  if (!IsValidUtf8(out->texts_)) {
    return place.Refuse("has texts that are not valid UTF-8");
  }
  return std::unique_ptr<const Normalizer>(std::move(out));
}

std::optional<std::string_view> CharsmapNormalizer::Replacement(std::string_view part) const {
  std::size_t node = Offset(trie_[0]);
  for (char c : part) {
    auto byte = static_cast<unsigned char>(c);
    node ^= byte;
    if (byte == 0 || node >= trie_.size() || Label(trie_[node]) != byte) {
      return std::nullopt;
    }
    std::uint32_t unit = trie_[node];
    node ^= Offset(unit);
    if (HasLeaf(unit)) {
      std::size_t begin = node < trie_.size() ? Value(trie_[node]) : texts_.size();
      if (begin > texts_.size()) {
        return std::nullopt;
      }
      std::string_view text = std::string_view(texts_).substr(begin);
      text = text.substr(0, text.find('\0'));
      // An offset into the middle of a character would make the text ill-formed.
      return IsValidUtf8(text) ? std::optional(text) : std::nullopt;
    }
  }
  return std::nullopt;
}

Result<void> CharsmapNormalizer::Apply(std::string& text, std::size_t bytes_max) const {
  constexpr std::size_t kWholeGraphemeBytesMax =
      5;  // longer ones are looked up character by character
  std::string out;
  out.reserve(text.size());
  bool too_large = false;
  ForEachGrapheme(text, [&](std::string_view grapheme) {
    too_large = too_large || out.size() > bytes_max;
    if (too_large) {
      return;
    }
    if (grapheme.size() <= kWholeGraphemeBytesMax) {
      if (auto replacement = Replacement(grapheme)) {
        out.append(*replacement);
        return;
      }
    }
    ForEachChar(grapheme, [&](char32_t, std::string_view bytes) {
      out.append(out.size() > bytes_max ? std::string_view() : Replacement(bytes).value_or(bytes));
    });
  });
  if (too_large || out.size() > bytes_max) {
    return Fail(Code::kTooLarge,
                fmt::format("the normalized text has more than {} bytes", bytes_max));
  }
  text = std::move(out);
  return {};
}

}  // namespace pixii::text
