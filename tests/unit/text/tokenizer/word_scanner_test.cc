#include "text/tokenizer/word_scanner.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "text/tokenizer/char_class.h"
#include "text/tokenizer/regex.h"

namespace pixii::text {
namespace {

using Words = std::vector<std::string>;

Words ByScanner(std::string_view pattern, const std::string& text) {
  Words out;
  const char* end = text.data() + text.size();
  for (const char* at = text.data(); at != end;) {
    const char* after = ScannerOf(pattern).next(at, end);
    out.emplace_back(at, after);
    at = after;
  }
  return out;
}

// Matches and what stands between them.
Words ByPcre2(const Regex& regex, const std::string& text) {
  Words out;
  RegexScan scan(regex);
  scan.Reset(text);
  std::size_t at = 0;
  for (TextRange match; scan.Next(match).value();) {
    if (at < match.begin) {
      out.push_back(text.substr(at, match.begin - at));
    }
    out.push_back(text.substr(match.begin, match.end - match.begin));
    at = match.end;
  }
  if (at < text.size()) {
    out.push_back(text.substr(at));
  }
  return out;
}

// Characters that PCRE2's older Unicode does not know yet.
std::vector<bool> NewerThanPcre2() {
  Regex unassigned = Regex::Compile(R"(\p{Cn})").value();
  RegexScan scan(unassigned);
  std::vector<bool> out(0x110000);
  for (char32_t c = 0; c < out.size(); ++c) {
    if (CharTable::Get().ClassOf(c) == CharClass::kOther || (c >= 0xD800 && c < 0xE000)) {
      continue;
    }
    std::string text;
    AppendUtf8(text, c);
    scan.Reset(text);
    TextRange match;
    out[c] = scan.Next(match).value();
  }
  return out;
}

// Texts of characters that the patterns tell apart, a few of each kind, and any others.
std::string RandomText(std::mt19937& random, const std::vector<bool>& unknown) {
  static const std::vector<std::string> kParts = {"a",
                                                  "e",
                                                  "l",
                                                  "Z",
                                                  "E",
                                                  "'s",
                                                  "'S",
                                                  "'ll",
                                                  "'LL",
                                                  "'v",
                                                  "'",
                                                  " ",
                                                  "  ",
                                                  "\n",
                                                  "\r",
                                                  "\t",
                                                  "\r\n",
                                                  "1",
                                                  "23",
                                                  "4567",
                                                  "/",
                                                  ".",
                                                  "!?",
                                                  "{",
                                                  "\xC3\xA9",
                                                  "\xC3\x89",
                                                  "\xCC\x81",
                                                  "\xE0\xA5\x8D",
                                                  "\xC7\x85",
                                                  "\xCA\xB0",
                                                  "'\xC5\xBF",
                                                  "\xC2\xA0",
                                                  "\xC2\x85",
                                                  "\xE3\x80\x80",
                                                  "\xE4\xB8\xAD",
                                                  "\xE6\x96\x87",
                                                  "\xE3\x81\x82",
                                                  "\xF0\x9F\x98\x80",
                                                  "\xE2\x82\xAC",
                                                  "\xC2\xB2",
                                                  "\x01",
                                                  "_"};
  std::string text;
  for (unsigned i = 0, n = random() % 24; i < n; ++i) {
    if (random() % 6 != 0) {
      text += kParts[random() % kParts.size()];
      continue;
    }
    char32_t c = random() % (random() % 2 == 0 ? 0x3000 : 0x110000);
    if ((c < 0xD800 || c >= 0xE000) && !unknown[c]) {
      AppendUtf8(text, c);
    }
  }
  return text;
}

TEST(WordScannerTest, EveryScannerCutsAsPcre2DoesWithItsPattern) {
  auto seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::vector<bool> unknown = NewerThanPcre2();
  for (std::string_view pattern : ScannedPatterns()) {
    Regex regex = Regex::Compile(pattern).value();
    for (int round = 0; round < 4'000; ++round) {
      std::string text = RandomText(random, unknown);
      ASSERT_EQ(ByScanner(pattern, text), ByPcre2(regex, text)) << pattern << "\n" << text;
    }
  }
}

TEST(WordScannerTest, EveryCharacterHasTheClassThatPcre2GivesIt) {
  const std::vector<bool> unknown = NewerThanPcre2();
  const std::pair<const char*, CharSet> kSets[] = {{R"([\p{Lu}\p{Lt}])", SetOf(CharClass::kUpper)},
                                                   {R"(\p{Ll})", SetOf(CharClass::kLower)},
                                                   {R"([\p{Lm}\p{Lo}])", SetOf(CharClass::kLetter)},
                                                   {R"(\p{M})", kMarks},
                                                   {R"(\p{N})", kNumbers},
                                                   {R"(\p{P})", SetOf(CharClass::kPunctuation)},
                                                   {R"(\p{S})", SetOf(CharClass::kSymbol)},
                                                   {R"(\s)", kWhitespace}};
  for (const auto& [pattern, set] : kSets) {
    Regex regex = Regex::Compile(pattern).value();
    RegexScan scan(regex);
    for (char32_t c = 0; c < 0x110000; ++c) {
      if ((c >= 0xD800 && c < 0xE000) || unknown[c]) {
        continue;
      }
      std::string text;
      AppendUtf8(text, c);
      scan.Reset(text);
      TextRange match;
      ASSERT_EQ(scan.Next(match).value(), Holds(set, CharTable::Get().ClassOf(c)))
          << pattern << " U+" << std::hex << static_cast<unsigned>(c);
      ASSERT_EQ(ReadCharAt(CharTable::Get(), text.data()).bytes, text.size());
    }
  }
}

TEST(WordScannerTest, APatternSpeltOtherwiseHasNone) {
  EXPECT_EQ(ScannerOf(R"(\p{L}+)").next, nullptr);
  EXPECT_EQ(ScannerOf("").next, nullptr);
  EXPECT_GE(ScannedPatterns().size(), 14U);
}

}  // namespace
}  // namespace pixii::text
