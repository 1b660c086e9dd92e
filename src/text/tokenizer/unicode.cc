#include "text/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "text/tokenizer/char_class.h"

namespace pixii::text {

namespace {

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

int CombiningClass(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// Canonical order: each run of marks is sorted by class and keeps its order within one class.
void SortMarks(std::vector<utf8proc_int32_t>& chars) {
  std::vector<std::pair<std::uint64_t, utf8proc_int32_t>> run;
  for (std::size_t i = 0; i < chars.size();) {
    if (CombiningClass(chars[i]) == 0) {
      ++i;
      continue;
    }
    std::size_t end = i;
    run.clear();
    for (; end < chars.size() && CombiningClass(chars[end]) != 0; ++end) {
      auto order = static_cast<std::uint64_t>(CombiningClass(chars[end])) << 48 | (end - i);
      run.emplace_back(order, chars[end]);
    }
    std::sort(run.begin(), run.end());
    for (std::size_t k = 0; k < run.size(); ++k) {
      chars[i + k] = run[k].second;
    }
    i = end;
  }
}

// Appends the normal form of `text`.
void AppendNormal(std::string_view text, NormalForm form, std::string& out) {
  bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  // Decomposed one by one: utf8proc's own loop sorts marks by insertion, which is quadratic on
  // hostile text.
  auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> chars;
  chars.reserve(text.size());
  ForEachChar(text, [&](char32_t c, std::string_view) {
    std::array<utf8proc_int32_t, 32> parts;  // the longest decomposition has 18 characters
    int boundary = 0;
    auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(),
                                         parts.size(), options, &boundary);
    if (count < 0 || static_cast<std::size_t>(count) > parts.size()) {
      chars.push_back(static_cast<utf8proc_int32_t>(c));
      return;
    }
    chars.insert(chars.end(), parts.begin(), parts.begin() + count);
  });
  SortMarks(chars);
  auto count = static_cast<utf8proc_ssize_t>(chars.size());
  if (compose) {
    auto flags = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    count = utf8proc_normalize_utf32(chars.data(), count, flags);
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    AppendUtf8(out, static_cast<char32_t>(chars[static_cast<std::size_t>(i)]));
  }
}

// The end of the ASCII that `text` has from `at` on.
std::size_t AsciiEnd(std::string_view text, std::size_t at) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080;
  for (std::uint64_t bytes; text.size() - at >= 8; at += 8) {
    std::memcpy(&bytes, text.data() + at, 8);
    if ((bytes & kHighBits) != 0) {
      break;
    }
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) {
    ++at;
  }
  return at;
}

// Characters that may compose are few: only runs of them, each with the character before, are
// normalized.
void Compose(std::string& text) {
  const CharTable& table = CharTable::Get();
  std::string out;
  std::size_t copied = 0;    // text before this is in `out`
  std::size_t previous = 0;  // where the character before `at` begins
  for (std::size_t at = 0; at < text.size();) {
    if (std::size_t end = AsciiEnd(text, at); end > at) {
      at = end;
      previous = at - 1;
      continue;
    }
    std::string_view rest = std::string_view(text).substr(at);
    if (!table.MayCompose(DecodeUtf8(rest))) {
      previous = at;
      at += Utf8SequenceLength(rest);
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && table.MayCompose(DecodeUtf8(std::string_view(text).substr(end)))) {
      end += Utf8SequenceLength(std::string_view(text).substr(end));
    }
    previous = std::max(previous, copied);
    out.append(text, copied, previous - copied);
    AppendNormal(std::string_view(text).substr(previous, end - previous), NormalForm::kNfc, out);
    copied = end;
    at = end;
    previous = end;
  }
  if (copied > 0) {
    out.append(text, copied);
    text = std::move(out);
  }
}

}  // namespace

void Normalize(std::string& text, NormalForm form) {
  if (AsciiEnd(text, 0) == text.size()) {
    return;
  }
  if (form == NormalForm::kNfc) {
    Compose(text);
    return;
  }
  std::string out;
  out.reserve(text.size());
  AppendNormal(text, form, out);
  text = std::move(out);
}

bool IsWhitespace(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsPunctuation(char32_t c) {
  auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool IsSymbol(char32_t c) {
  auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_SM && category <= UTF8PROC_CATEGORY_SO;
}

bool IsLetter(char32_t c) {
  auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsNumeric(char32_t c) {
  auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool IsMark(char32_t c) {
  auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool IsNonspacingMark(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_MN; }

bool IsOther(char32_t c) {
  auto category = Category(c);
  return category == UTF8PROC_CATEGORY_CN ||
         (category >= UTF8PROC_CATEGORY_CC && category <= UTF8PROC_CATEGORY_CO);
}

bool IsWord(char32_t c) {
  auto category = Category(c);
  return IsLetter(c) || IsMark(c) || category == UTF8PROC_CATEGORY_ND ||
         category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC;
}

bool IsCjkIdeograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void AppendLower(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    return;
  }
  if (c == 0x130) {  // the one character whose lower case is two: i and a dot above
    out += "i\xCC\x87";
    return;
  }
  AppendUtf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

std::string ReplaceIllFormed(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    std::size_t length = Utf8SequenceLength(text);
    if (length > 0) {
      out.append(text.substr(0, length));
      text.remove_prefix(length);
      continue;
    }
    // The maximal subpart: the most bytes that begin some well-formed sequence, at least one.
    length = 1;
    for (std::size_t n = 2; n <= 3 && n <= text.size(); ++n) {
      if (Utf8IncompleteTail(text.substr(0, n)) == n) {
        length = n;
      }
    }
    out += "\xEF\xBF\xBD";
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace pixii::text
