// Any text, cut by every scanner written by hand and by PCRE2 with the same pattern: the words must
// be equal.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "base/utf8.h"
#include "text/tokenizer/char_class.h"
#include "text/tokenizer/regex.h"
#include "text/tokenizer/unicode.h"
#include "text/tokenizer/word_scanner.h"

using pixii::text::CharClass;
using pixii::text::CharTable;
using pixii::text::Regex;
using pixii::text::RegexScan;
using pixii::text::ScannedPatterns;
using pixii::text::ScannerOf;
using pixii::text::TextRange;

namespace {

struct Program {
  std::string_view pattern;
  Regex regex;
};

const std::vector<Program>& Programs() {
  static const std::vector<Program> programs = [] {
    std::vector<Program> out;
    for (std::string_view pattern : ScannedPatterns()) {
      out.push_back({pattern, *Regex::Compile(pattern)});
    }
    return out;
  }();
  return programs;
}

// Without the characters that one side's Unicode is too old for.
std::string Comparable(std::string_view text) {
  static const Regex unassigned = *Regex::Compile(R"(\p{Cn})");
  RegexScan scan(unassigned);
  scan.Reset(text);
  std::string out;
  std::size_t copied = 0;
  for (TextRange match; *scan.Next(match);) {
    char32_t c = pixii::DecodeUtf8(text.substr(match.begin));
    if (CharTable::Get().ClassOf(c) != CharClass::kOther) {
      out.append(text.substr(copied, match.begin - copied));
      copied = match.end;
    }
  }
  return out.append(text.substr(copied));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string text =
      Comparable(pixii::text::ReplaceIllFormed({reinterpret_cast<const char*>(data), size}));
  const char* end = text.data() + text.size();
  for (const Program& program : Programs()) {
    RegexScan scan(program.regex);
    scan.Reset(text);
    std::vector<std::size_t> ends;
    std::size_t at = 0;
    for (TextRange match; *scan.Next(match);) {
      if (at < match.begin) {
        ends.push_back(match.begin);
      }
      ends.push_back(match.end);
      at = match.end;
    }
    if (at < text.size()) {
      ends.push_back(text.size());
    }
    std::size_t word = 0;
    for (const char* begin = text.data(); begin != end; ++word) {
      const char* after = ScannerOf(program.pattern).next(begin, end);
      PX_ASSERT(after > begin && after <= end);
      PX_ASSERT(word < ends.size() && ends[word] == static_cast<std::size_t>(after - text.data()));
      begin = after;
    }
    PX_ASSERT(word == ends.size());
  }
  return 0;
}
