// What Python's str knows about characters, by utf8proc's tables. docs/subsystems/text.md
#pragma once

#include <string>
#include <string_view>

namespace pixii::text::jinja {

/// str.isspace of one character.
bool IsSpace(char32_t c);
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
/// str.isnumeric and str.isdigit both, to the extent of the category N*.
bool IsNumeric(char32_t c);
bool IsPrintable(char32_t c);
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
/// Has a case at all.
bool IsCased(char32_t c);
/// \w of Python's re.
bool IsWord(char32_t c);

enum class Case { kUpper, kLower, kTitle, kFold };

/// Appends `c` in that case; one character may become several (ß, ligatures).
void AppendCased(std::u32string& out, char32_t c, Case wanted);

/// `text` without white space at its ends.
std::string_view TrimLeft(std::string_view text);
std::string_view TrimRight(std::string_view text);

/// Bytes of the line end at the start of `text` as str.splitlines sees it, 0 if there is none.
std::size_t LineEndLength(std::string_view text);

}  // namespace pixii::text::jinja
