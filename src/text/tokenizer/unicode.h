// What tokenizers ask of Unicode: classes of characters, lower case, normal forms. All linear in
// the text.
//
// Thread: pure functions. Source: utf8proc's tables; class definitions as in Rust's std and Hugging
// Face's tokenizers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/utf8.h"

namespace pixii::text {

enum class NormalForm : std::uint8_t { kNfc, kNfd, kNfkc, kNfkd };

/// Replaces `text` (valid UTF-8) by its normal form. O(bytes log bytes): runs of combining marks
/// are sorted.
void Normalize(std::string& text, NormalForm form);

/// The White_Space property.
bool IsWhitespace(char32_t c);
/// General categories P*, S*, L*, N*, M*.
bool IsPunctuation(char32_t c);
bool IsSymbol(char32_t c);
bool IsLetter(char32_t c);
bool IsNumeric(char32_t c);
bool IsMark(char32_t c);
bool IsNonspacingMark(char32_t c);
/// Cc, Cf, Co, Cn, Cs.
bool IsOther(char32_t c);
/// \w: letters, marks, decimal digits, letter numbers, connector punctuation.
bool IsWord(char32_t c);
/// The blocks that BERT treats as one word per character.
bool IsCjkIdeograph(char32_t c);

/// Appends the lower-case form, which may be two characters.
void AppendLower(std::string& out, char32_t c);

/// Calls `visit(char32_t, std::string_view)` for each character. Pre: `text` is valid UTF-8.
template <class Visit>
void ForEachChar(std::string_view text, Visit visit) {
  while (!text.empty()) {
    auto lead = static_cast<unsigned char>(text[0]);
    std::size_t length = lead < 0x80 ? 1 : Utf8SequenceLength(text);
    if (length == 0) {
      return;
    }
    visit(lead < 0x80 ? static_cast<char32_t>(lead) : DecodeUtf8(text), text.substr(0, length));
    text.remove_prefix(length);
  }
}

/// `text` with every ill-formed part (maximal subpart) replaced by U+FFFD.
std::string ReplaceIllFormed(std::string_view text);

}  // namespace pixii::text
