#include "text/tokenizer/char_class.h"

#include <utf8proc.h>

#include <algorithm>
#include <map>
#include <span>
#include <string>

#include "text/tokenizer/unicode.h"

namespace pixii::text {

namespace {

CharClass Classify(char32_t c) {
  if (c == '\n' || c == '\r') {
    return CharClass::kNewline;
  }
  if (IsWhitespace(c)) {
    return CharClass::kSpace;
  }
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return CharClass::kUpper;
    case UTF8PROC_CATEGORY_LL:
      return CharClass::kLower;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::kLetter;
    default:
      return IsMark(c)          ? CharClass::kMark
             : IsNumeric(c)     ? CharClass::kNumber
             : IsPunctuation(c) ? CharClass::kPunctuation
             : IsSymbol(c)      ? CharClass::kSymbol
                                : CharClass::kOther;
  }
}

bool IsHangulSyllable(char32_t c) { return c >= 0xAC00 && c <= 0xD7A3; }

// Characters that NFC changes or joins to the one before: by their combining class, as a later part
// of some canonical decomposition, or because their own is not composed again.
std::vector<bool> FindComposing(std::span<const char32_t> characters) {
  std::vector<bool> composing(0x110000);
  std::fill(composing.begin() + 0x1160, composing.begin() + 0x1200, true);  // jamo: vowels, finals
  for (char32_t c : characters) {
    auto code_point = static_cast<utf8proc_int32_t>(c);
    if (utf8proc_get_property(code_point)->combining_class != 0) {
      composing[c] = true;
    }
    if (IsHangulSyllable(c)) {
      continue;
    }
    std::array<utf8proc_int32_t, 32> parts;
    int boundary = 0;
    auto count = utf8proc_decompose_char(code_point, parts.data(), parts.size(), UTF8PROC_DECOMPOSE,
                                         &boundary);
    if (count == 1 && parts[0] == code_point) {
      continue;
    }
    for (utf8proc_ssize_t i = 1; i < count; ++i) {
      composing[static_cast<std::size_t>(parts[static_cast<std::size_t>(i)])] = true;
    }
    count = utf8proc_normalize_utf32(
        parts.data(), count, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (count != 1 || parts[0] != code_point) {
      composing[c] = true;
    }
  }
  return composing;
}

// Planes 4 to 13 are empty, 15 and 16 private.
std::vector<char32_t> AssignedPlanes() {
  std::vector<char32_t> out;
  for (char32_t c = 0; c < 0xF0000; c = c == 0x3FFFF ? 0xE0000 : c + 1) {
    out.push_back(c);
  }
  return out;
}

}  // namespace

CharTable::CharTable() {
  const std::vector<char32_t> characters = AssignedPlanes();
  const std::vector<bool> composing = FindComposing(characters);
  std::vector<std::uint8_t> entries(0x110000);
  for (char32_t c : characters) {
    entries[c] = static_cast<std::uint8_t>(static_cast<unsigned>(Classify(c)) |
                                           (composing[c] ? kMayCompose : 0U));
  }
  std::map<std::string, std::uint32_t> known;
  for (std::size_t block = 0; block < first_.size(); ++block) {
    const std::uint8_t* begin = entries.data() + block * kBlock;
    auto [at, added] = known.try_emplace(std::string(begin, begin + kBlock),
                                         static_cast<std::uint32_t>(blocks_.size()));
    if (added) {
      blocks_.insert(blocks_.end(), begin, begin + kBlock);
    }
    first_[block] = at->second;
  }
}

const CharTable& CharTable::Get() {
  static const CharTable table;
  return table;
}

}  // namespace pixii::text
