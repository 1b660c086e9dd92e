#include "text/grammar/pattern.h"

#include <gtest/gtest.h>

#include "text/grammar/string_formats.h"

namespace pixii::text::grammar {
namespace {

bool Matches(std::string_view pattern, std::string_view text,
             PatternMode mode = PatternMode::kSearch) {
  RegexStore store;
  Result<RegexId> language = ParsePattern(store, pattern, mode);
  EXPECT_TRUE(language) << pattern << ": " << (language ? "" : language.error().ToString());
  return language && store.Matches(*language, text);
}

TEST(Pattern, MatchesSomewhereUnlessAnchored) {
  EXPECT_TRUE(Matches("b+", "abbc"));
  EXPECT_FALSE(Matches("^b+", "abbc"));
  EXPECT_TRUE(Matches("^(a|b)c$|d", "bc"));
  EXPECT_TRUE(Matches("^(a|b)c$|d", "xdx"));
  EXPECT_FALSE(Matches("^(a|b)c$|d", "bcx"));
  EXPECT_TRUE(Matches("(^|,)x(,|$)", "y,x"));
  EXPECT_FALSE(Matches("(^|,)x(,|$)", "yx"));
  EXPECT_TRUE(Matches("", "anything"));
}

TEST(Pattern, ClassesAreThoseOfEcma) {
  EXPECT_TRUE(Matches("^\\d\\w\\s\\D\\W\\S$", "1_\xC2\xA0x-y"));
  EXPECT_FALSE(Matches("^\\d$", "\xD9\xA1"));  // an Arabic digit is no \d
  EXPECT_TRUE(Matches("^[^a-c\\d-]+$", "xyz"));
  EXPECT_FALSE(Matches("^[^a-c\\d-]+$", "x-z"));
  EXPECT_TRUE(Matches("^\\p{Lu}\\p{L}+$", "\xC3\x89t\xC3\xA9"));
  EXPECT_TRUE(Matches("^.$", "\xF0\x9F\x98\x80"));
  EXPECT_FALSE(Matches("^.$", "\n"));
  EXPECT_TRUE(Matches("^\\u{1F600}\\ud83d\\ude00$", "\xF0\x9F\x98\x80\xF0\x9F\x98\x80"));
}

TEST(Pattern, LookAheadIsExact) {
  EXPECT_TRUE(Matches("^(?!foo)[a-z]+$", "fob"));
  EXPECT_FALSE(Matches("^(?!foo)[a-z]+$", "foob"));
  EXPECT_TRUE(Matches("^(?=.*\\d)(?=.*[a-z]).{4,}$", "abc1"));
  EXPECT_FALSE(Matches("^(?=.*\\d)(?=.*[a-z]).{4,}$", "abcd"));
}

TEST(Pattern, CountsAreCounted) {
  EXPECT_TRUE(Matches("^a{2,4}$", "aaaa"));
  EXPECT_FALSE(Matches("^a{2,4}$", "aaaaa"));
  EXPECT_TRUE(Matches("^(ab?){1000}$", std::string(1000, 'a')));
  EXPECT_FALSE(Matches("^(ab?){1000}$", std::string(999, 'a')));
  EXPECT_TRUE(Matches("^{x}$", "{x}"));
}

TEST(Pattern, WhatIsNotExactIsRefusedByName) {
  RegexStore store;

  struct Case {
    const char* pattern;
    const char* named;
  };

  for (const Case& refused :
       {Case{"(a)\\1", "back-reference"}, Case{"(?<=a)b", "look-behind"}, Case{"\\bword", "\\b"},
        Case{"(?i)x", "flags"}, Case{"(^a)*", "repetition"}, Case{"\\p{Nope}", "Nope"}}) {
    Result<RegexId> language = ParsePattern(store, refused.pattern, PatternMode::kSearch);
    ASSERT_FALSE(language) << refused.pattern;
    EXPECT_NE(language.error().detail().find(refused.named), std::string::npos)
        << language.error().detail();
  }
  for (const char* bad : {"(", ")", "[a", "*a", "a**", "a{2,1}", "[b-a]", "\\"}) {
    EXPECT_FALSE(ParsePattern(store, bad, PatternMode::kSearch)) << bad;
  }
}

TEST(Pattern, EveryFormatHasAPatternThatParses) {
  for (const char* name : {"date-time", "date", "time", "duration", "email", "idn-email", "ipv4",
                           "ipv6", "uri", "uri-reference", "iri", "iri-reference", "uri-template",
                           "uuid", "json-pointer", "relative-json-pointer"}) {
    ASSERT_EQ(SupportOfFormat(name), FormatSupport::kPattern) << name;
    EXPECT_FALSE(Matches(FormatPattern(name), "\n", PatternMode::kWhole)) << name;
  }
  EXPECT_EQ(SupportOfFormat("hostname"), FormatSupport::kRefused);
  EXPECT_EQ(SupportOfFormat("made-up"), FormatSupport::kAnnotation);
}

}  // namespace
}  // namespace pixii::text::grammar
