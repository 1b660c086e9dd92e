#include "text/tokenizer/pre_tokenizer.h"

#include <gtest/gtest.h>

namespace pixii::text {
namespace {

// The words that the pre-tokenizer described by `json` cuts `text` into.
std::vector<std::string> Cut(std::string_view json, std::string_view text, bool first = true) {
  auto parsed = wire::ParseJson(json);
  EXPECT_TRUE(parsed.has_value());
  auto pre_tokenizer = PreTokenizer::FromJson(*parsed, {"file", "pre_tokenizer"});
  EXPECT_TRUE(pre_tokenizer.has_value()) << pre_tokenizer.error().ToString();
  Words words;
  words.Reset(text, first);
  auto done = (*pre_tokenizer)->Apply(words);
  EXPECT_TRUE(done.has_value()) << done.error().ToString();
  std::vector<std::string> out;
  for (const Word& word : words.words()) {
    out.emplace_back(words.TextOf(word));
  }
  return out;
}

using List = std::vector<std::string>;

std::string Split(std::string_view behavior, bool invert = false) {
  return std::string(R"({"type":"Split","pattern":{"String":"-"},"behavior":")") +
         std::string(behavior) + R"(","invert":)" + (invert ? "true}" : "false}");
}

TEST(PreTokenizerTest, EveryBehaviorTreatsDelimitersAsTheReferenceDoes) {
  std::string text = "the-final--countdown";
  EXPECT_EQ(Cut(Split("Removed"), text), (List{"the", "final", "countdown"}));
  EXPECT_EQ(Cut(Split("Isolated"), text), (List{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(Cut(Split("MergedWithPrevious"), text), (List{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(Cut(Split("MergedWithNext"), text), (List{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(Cut(Split("Contiguous"), text), (List{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(Cut(Split("Removed", true), text), (List{"-", "-", "-"}));
}

TEST(PreTokenizerTest, WhiteSpaceInPatternsIsTheUnicodeProperty) {
  // U+180E is no white space since Unicode 6.3, U+0085 is.
  std::string json =
      R"({"type":"Split","pattern":{"Regex":"\\s"},"behavior":"Removed","invert":false})";
  EXPECT_EQ(Cut(json,
                "a\xE1\xA0\x8E"
                "b\xC2\x85"
                "c"),
            (List{"a\xE1\xA0\x8E"
                  "b",
                  "c"}));
}

TEST(PreTokenizerTest, AClassInAClassAddsItsCharacters) {
  auto split = [](std::string_view pattern) {
    return wire::Json(wire::Json::Object{{"type", "Split"},
                                         {"pattern", wire::Json::Object{{"Regex", pattern}}},
                                         {"behavior", "Isolated"}})
        .Dump();
  };
  // BLOOM's: a space, then anything but blanks, brackets, bars and marks.
  EXPECT_EQ(Cut(split(" ?[^(\\s|[.,!?])]+"), "Hi, (you) all!"),
            (List{"Hi", ", (", "you", ")", " all", "!"}));
  EXPECT_EQ(Cut(split("[a[-b-]d]+"), "abcd-"), (List{"ab", "c", "d-"}));
  EXPECT_EQ(Cut(split("[]x]"), "a]xb"), (List{"a", "]", "x", "b"}));
  EXPECT_EQ(Cut(split("[[:digit:]x]+"), "a1xb"), (List{"a", "1x", "b"}));
  EXPECT_EQ(Cut(split("\\h+"), "xfAz"), (List{"x", "fA", "z"}));
}

TEST(PreTokenizerTest, AClassIntersectionHasTheCharactersOfBoth) {
  auto split = [](std::string_view pattern) {
    return wire::Json(wire::Json::Object{{"type", "Split"},
                                         {"pattern", wire::Json::Object{{"Regex", pattern}}},
                                         {"behavior", "Isolated"}})
        .Dump();
  };
  EXPECT_EQ(Cut(split("[a-z&&[^b]]+"), "abcb"), (List{"a", "b", "c", "b"}));
  EXPECT_EQ(Cut(split("[a-z&&x-z]+"), "axyb"), (List{"a", "xy", "b"}));
  // Kimi's: Han apart from other letters.
  EXPECT_EQ(Cut(split(R"([\p{Han}]+|[\p{Lo}\p{Ll}&&[^\p{Han}]]+)"),
                "ab\xE4\xB8\xAD\xE6\x96\x87\xE3\x81\x82"),
            (List{"ab", "\xE4\xB8\xAD\xE6\x96\x87", "\xE3\x81\x82"}));
}

TEST(PreTokenizerTest, WhatPcre2WouldReadOtherwiseIsRefused) {
  for (const char* pattern : {"[^a-z&&[^b]]", "[a[^b]]", "\\"}) {
    wire::Json json(wire::Json::Object{{"type", "Split"},
                                       {"pattern", wire::Json::Object{{"Regex", pattern}}},
                                       {"behavior", "Isolated"}});
    auto pre_tokenizer = PreTokenizer::FromJson(json, {"file", "pre_tokenizer"});
    ASSERT_FALSE(pre_tokenizer.has_value());
    EXPECT_EQ(pre_tokenizer.error().code(),
              std::string_view(pattern) == "\\" ? Code::kDataCorrupt : Code::kUnsupported);
  }
}

TEST(PreTokenizerTest, DigitsStandAloneOrTogether) {
  EXPECT_EQ(Cut(R"({"type":"Digits","individual_digits":true})", "ab123c"),
            (List{"ab", "1", "2", "3", "c"}));
  EXPECT_EQ(Cut(R"({"type":"Digits","individual_digits":false})", "ab123c"),
            (List{"ab", "123", "c"}));
}

TEST(PreTokenizerTest, PiecesOfOneLengthAndPiecesBetweenDelimiters) {
  EXPECT_EQ(Cut(R"({"type":"FixedLength","length":2})",
                "ab\xC3\xA9"
                "cd"),
            (List{"ab",
                  "\xC3\xA9"
                  "c",
                  "d"}));
  EXPECT_EQ(Cut(R"({"type":"CharDelimiterSplit","delimiter":"_"})", "_a__bc_"), (List{"a", "bc"}));
  for (const char* json :
       {R"({"type":"FixedLength","length":0})", R"({"type":"CharDelimiterSplit","delimiter":"ab"})",
        R"({"type":"CharDelimiterSplit"})", R"({"type":"UnicodeScripts"})"}) {
    EXPECT_FALSE(PreTokenizer::FromJson(*wire::ParseJson(json), {"file", "pre_tokenizer"}));
  }
}

TEST(PreTokenizerTest, MetaspacePrependsAsItsSchemeSays) {
  auto metaspace = [](std::string_view scheme) {
    return std::string(R"({"type":"Metaspace","replacement":"_","prepend_scheme":")") +
           std::string(scheme) + "\"}";
  };
  EXPECT_EQ(Cut(metaspace("always"), "a b", false), (List{"_a", "_b"}));
  EXPECT_EQ(Cut(metaspace("first"), "a b", true), (List{"_a", "_b"}));
  EXPECT_EQ(Cut(metaspace("first"), "a b", false), (List{"a", "_b"}));
  EXPECT_EQ(Cut(metaspace("never"), "a b"), (List{"a", "_b"}));
  EXPECT_EQ(Cut(metaspace("always"), " a"), (List{"_a"}));
}

TEST(PreTokenizerTest, WordsAndPunctuationPart) {
  EXPECT_EQ(Cut(R"({"type":"Whitespace"})", "Hey man!  ok_1"), (List{"Hey", "man", "!", "ok_1"}));
  EXPECT_EQ(Cut(R"({"type":"WhitespaceSplit"})", "Hey man!\xE3\x80\x80ok"),
            (List{"Hey", "man!", "ok"}));
  EXPECT_EQ(Cut(R"({"type":"Punctuation"})",
                "a,b\xE3\x80\x82"
                "c$"),
            (List{"a", ",", "b", "\xE3\x80\x82", "c", "$"}));
  EXPECT_EQ(Cut(R"({"type":"BertPreTokenizer"})", "Hey, you."), (List{"Hey", ",", "you", "."}));
}

TEST(PreTokenizerTest, ByteLevelCutsAndSpellsBytes) {
  EXPECT_EQ(Cut(R"({"type":"ByteLevel","add_prefix_space":true})", "it's \xC3\xA9"),
            (List{"\xC4\xA0it", "'s", "\xC4\xA0\xC3\x83\xC2\xA9"}));
  EXPECT_EQ(Cut(R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})", "a b"),
            (List{"a\xC4\xA0"
                  "b"}));
}

}  // namespace
}  // namespace pixii::text
