#include "text/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/utf8.h"

namespace pixii::text::jinja {

namespace {

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool AsciiAlpha(char32_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

struct Special {
  char32_t from;
  const char32_t* upper;
  const char32_t* title;
};

/// Characters whose capital is more than one character: Unicode's SpecialCasing.txt, the
/// unconditional Latin ones.
constexpr Special kSpecials[] = {
    {0x00DF, U"SS", U"Ss"},   {0x0149, U"\u02BCN", U"\u02BCN"}, {0x01F0, U"J\u030C", U"J\u030C"},
    {0xFB00, U"FF", U"Ff"},   {0xFB01, U"FI", U"Fi"},           {0xFB02, U"FL", U"Fl"},
    {0xFB03, U"FFI", U"Ffi"}, {0xFB04, U"FFL", U"Ffl"},         {0xFB05, U"ST", U"St"},
    {0xFB06, U"ST", U"St"},
};

}  // namespace

bool IsSpace(char32_t c) {
  if (c < 0x80) {
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32);
  }
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsAlpha(char32_t c) {
  if (c < 0x80) {
    return AsciiAlpha(c);
  }
  const auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsDecimal(char32_t c) {
  return c < 0x80 ? c >= '0' && c <= '9' : Category(c) == UTF8PROC_CATEGORY_ND;
}

bool IsNumeric(char32_t c) {
  if (c < 0x80) {
    return IsDecimal(c);
  }
  const auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool IsPrintable(char32_t c) {
  if (c < 0x80) {
    return c >= 0x20 && c < 0x7F;
  }
  const auto category = Category(c);
  return category != UTF8PROC_CATEGORY_CN && category < UTF8PROC_CATEGORY_ZS;
}

bool IsUpper(char32_t c) {
  return c < 0x80 ? c >= 'A' && c <= 'Z' : utf8proc_isupper(static_cast<utf8proc_int32_t>(c)) != 0;
}

bool IsLower(char32_t c) {
  return c < 0x80 ? c >= 'a' && c <= 'z' : utf8proc_islower(static_cast<utf8proc_int32_t>(c)) != 0;
}

bool IsCased(char32_t c) {
  return c < 0x80 ? AsciiAlpha(c) : IsUpper(c) || IsLower(c) || Category(c) == UTF8PROC_CATEGORY_LT;
}

bool IsWord(char32_t c) { return c == '_' || IsAlpha(c) || IsNumeric(c); }

void AppendCased(std::u32string& out, char32_t c, Case wanted) {
  if (c < 0x80) {
    const bool up = wanted == Case::kUpper || wanted == Case::kTitle;
    if (up && c >= 'a' && c <= 'z') {
      c -= 32;
    } else if (!up && c >= 'A' && c <= 'Z') {
      c += 32;
    }
    out.push_back(c);
    return;
  }
  if (wanted == Case::kUpper || wanted == Case::kTitle) {
    for (const Special& special : kSpecials) {
      if (special.from == c) {
        out += wanted == Case::kUpper ? special.upper : special.title;
        return;
      }
    }
  }
  if (c == 0x130 && (wanted == Case::kLower || wanted == Case::kFold)) {
    out += U"i\u0307";
    return;
  }
  if (c == 0xDF && wanted == Case::kFold) {
    out += U"ss";
    return;
  }
  const auto point = static_cast<utf8proc_int32_t>(c);
  switch (wanted) {
    case Case::kUpper:
      out.push_back(static_cast<char32_t>(utf8proc_toupper(point)));
      return;
    case Case::kTitle:
      out.push_back(static_cast<char32_t>(utf8proc_totitle(point)));
      return;
    case Case::kLower:
    case Case::kFold:
      out.push_back(static_cast<char32_t>(utf8proc_tolower(point)));
      return;
  }
}

std::string_view TrimLeft(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = std::max<std::size_t>(1, Utf8SequenceLength(text));
    const char32_t c = length == 1 ? static_cast<unsigned char>(text[0]) : DecodeUtf8(text);
    if (!IsSpace(c)) {
      break;
    }
    text.remove_prefix(length);
  }
  return text;
}

std::string_view TrimRight(std::string_view text) {
  while (!text.empty()) {
    std::size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) {
      --at;
    }
    const char32_t c =
        at + 1 == text.size() ? static_cast<unsigned char>(text[at]) : DecodeUtf8(text.substr(at));
    if (!IsSpace(c)) {
      break;
    }
    text = text.substr(0, at);
  }
  return text;
}

std::size_t LineEndLength(std::string_view text) {
  if (text.empty()) {
    return 0;
  }
  const auto first = static_cast<unsigned char>(text[0]);
  if (first == '\r') {
    return text.size() > 1 && text[1] == '\n' ? 2 : 1;
  }
  if ((first >= 10 && first <= 12) || (first >= 28 && first <= 30)) {
    return 1;
  }
  if (text.starts_with("\xC2\x85")) {
    return 2;
  }
  return text.starts_with("\xE2\x80\xA8") || text.starts_with("\xE2\x80\xA9") ? 3 : 0;
}

}  // namespace pixii::text::jinja
