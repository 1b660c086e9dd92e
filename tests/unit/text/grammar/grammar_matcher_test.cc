#include "text/grammar/grammar_matcher.h"

#include <gtest/gtest.h>

#include <random>

#include "unit/text/grammar/grammar_cases.h"

namespace pixii::text::grammar {
namespace {

std::vector<std::string> RandomTokens(std::mt19937& random) {
  std::vector<std::string> out;
  const std::vector<std::string> parts = {"{",        "}",
                                          "[",        "]",
                                          "\"",       ":",
                                          ",",        " ",
                                          "\n",       "a",
                                          "b",        "ab",
                                          "1",        "0",
                                          "-",        ".",
                                          "e",        "\\",
                                          "\\n",      "u00",
                                          "\xC3\xA9", "\xC3",
                                          "Z",        "_",
                                          "/",        "\t",
                                          "x",        "true",
                                          "null",     "name",
                                          "kind",     "\xE3\x80\x80",
                                          "7",        "12",
                                          "E5",       "\xA9",
                                          "\xE3\x80", "\xF0\x9F",
                                          "\xE0",     "\"a\"",
                                          "\"ab",     "\xF0\x9F\x98\x80"};
  // Every byte is a token: no token allowed is then a dead end of the grammar's own.
  for (int byte = 0; byte < 256; ++byte) {
    out.emplace_back(1, static_cast<char>(byte));
  }
  for (int i = 0; i < 400; ++i) {
    std::string token;
    for (std::size_t n = 1 + random() % 5; n > 0; --n) {
      token += parts[random() % parts.size()];
    }
    out.push_back(token);
  }
  for (std::size_t n = 20; n < 40; ++n) {
    out.emplace_back(n, 'a');
    out.push_back(std::string(n, 'a') + "\",");
  }
  return out;
}

std::vector<GrammarSpec> Specs() {
  std::vector<GrammarSpec> out;
  for (
      const char* schema :
      {R"(true)",
       R"({"type":"object","properties":{"name":{"type":"string"},"kind":{"enum":["ab","a1"]},
              "\u00e9":{}},"required":["name"]})",
       R"({"type":"object","properties":{"a":{"maxLength":3},"ab":{"minLength":4}},
              "additionalProperties":false})",
       R"({"type":"array","items":{"type":"integer","minimum":0,"maximum":120},"minItems":1})",
       R"({"type":"array","uniqueItems":true,"items":{"type":["string","number"]}})",
       R"({"type":"string","pattern":"^[a-z]+( [a-z]+)*$","maxLength":26})",
       R"({"type":"string","minLength":3,"maxLength":27})",
       R"({"anyOf":[{"properties":{"a":{"type":"integer"}}},{"type":"array"}]})",
       R"({"type":"object","patternProperties":{"^a":{"type":"number"}},
              "additionalProperties":{"type":"boolean"}})",
       R"({"type":"string","pattern":"^\\S+\\s+\\S*$"})",
       R"({"type":"array","uniqueItems":true,"items":{"type":"string","pattern":"^[ab\\n\u00e9]*$"}})",
       R"({"type":"array","uniqueItems":true,
              "items":{"type":"array","uniqueItems":true,
                "items":{"type":"string","pattern":"^[ab]*$"}}})",
       R"({"type":"array","uniqueItems":true,"items":{"type":"object","additionalProperties":
              {"type":"array","uniqueItems":true,"items":{"pattern":"^[ab]*$"}}}})",
       R"({"type":"string","minLength":30,"maxLength":60})",
       R"({"anyOf":[{"type":"string","pattern":"^(a|b){2}-"},
              {"type":"string","not":{"pattern":"aa|\u3000"}}]})",
       R"({"type":"string","pattern":"^[a-z]{1,9}(\\.[a-z]{1,9}){0,3}$"})",
       R"({"type":"string","pattern":"^[a-z]{1,9}(-[a-z]{1,9}){1,3}$","maxLength":14})",
       R"({"type":"string","pattern":"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$","minLength":2})",
       R"({"type":"object","patternProperties":{"^[a-z]{1,30}$":{"maxLength":4}},
              "properties":{"name":{},"Z/":{"type":"integer"}},"additionalProperties":false})"}) {
    out.push_back(SchemaSpec(schema));
  }
  out.push_back(RegexSpec("[a-b]+(\\n|é|😀)*1?"));
  out.push_back(RegexSpec("(.|\\n)*"));
  GrammarSpec choice;
  choice.kind = GrammarKind::kChoice;
  choice.choices = {"name", "namea", "true", "\xC3\xA9"};
  out.push_back(choice);
  GrammarSpec tags;
  tags.kind = GrammarKind::kStructuralTags;
  tags.tags = {{"{a", R"({"type":"object","properties":{"ab":{"type":"string"}}})", "}"}};
  tags.triggers = {"{a"};
  out.push_back(tags);
  GrammarSpec narrow = SchemaSpec(R"({"type":"object"})");
  narrow.spelling = {.whitespace_run_max = 2, .needless_escapes = false};
  out.push_back(narrow);
  return out;
}

TEST(GrammarMatcher, MasksAreExactlyTheTokensThatAreAccepted) {
  std::mt19937 random(11);
  for (const GrammarSpec& spec : Specs()) {
    Result<std::shared_ptr<const Grammar>> grammar = Compile(spec);
    ASSERT_TRUE(grammar) << spec.text << grammar.error().ToString();
    std::vector<std::string> tokens = RandomTokens(random);
    tokens.emplace_back();  // the end token
    auto eos = static_cast<TokenId>(tokens.size() - 1);
    std::size_t count = tokens.size();
    auto vocabulary = *GrammarVocabulary::FromBytes(std::move(tokens), {.eos_ids = {eos}});
    auto runtime = std::make_shared<GrammarRuntime>(*grammar, vocabulary);
    std::vector<std::uint32_t> mask(vocabulary->mask_words());
    for (int walk = 0; walk < 12; ++walk) {
      GrammarMatcher matcher(runtime);
      for (int step = 0; step < 25; ++step) {
        matcher.FillMask(mask);
        std::vector<TokenId> allowed;
        for (std::size_t id = 0; id < count; ++id) {
          GrammarMatcher copy = matcher;
          bool accepted = copy.Accept(static_cast<TokenId>(id));
          bool set = (mask[id / 32] >> (id % 32) & 1) != 0;
          ASSERT_EQ(set, accepted)
              << spec.text << " step " << step << " token " << vocabulary->Bytes(TokenId(id));
          if (accepted && static_cast<TokenId>(id) != eos) {
            allowed.push_back(static_cast<TokenId>(id));
          }
        }
        if (allowed.empty()) {
          ASSERT_TRUE(matcher.CanEnd()) << spec.text;
          break;
        }
        ASSERT_TRUE(matcher.Accept(allowed[random() % allowed.size()]));
      }
    }
  }
}

TEST(GrammarMatcher, RollbackRestoresTheMask) {
  Judge judge(SchemaSpec(R"({"type":"array","items":{"type":"integer"}})"));
  GrammarMatcher matcher(judge.runtime());
  ASSERT_TRUE(matcher.AcceptBytes("["));
  std::vector<std::uint32_t> before(8);
  std::vector<std::uint32_t> after(8);
  matcher.FillMask(before);
  GrammarMatcher copy = matcher;
  ASSERT_TRUE(copy.AcceptBytes("1"));
  ASSERT_TRUE(copy.AcceptBytes(","));
  copy.FillMask(after);
  EXPECT_NE(before, after);
  copy.Rollback(2);
  copy.FillMask(after);
  EXPECT_EQ(before, after);
  EXPECT_EQ(copy.accepted(), 1U);
  EXPECT_FALSE(copy.AcceptBytes("x"));
  EXPECT_EQ(copy.accepted(), 1U);
}

TEST(GrammarMatcher, TheEndIsTakenOnlyWhereTheGrammarEnds) {
  auto vocabulary = *GrammarVocabulary::FromBytes({"1", "2", ""}, {.eos_ids = {2}});
  GrammarMatcher matcher(*Compile(RegexSpec("12")), vocabulary);
  EXPECT_FALSE(matcher.Accept(2));
  EXPECT_TRUE(matcher.Accept(0));
  EXPECT_TRUE(matcher.Accept(1));
  EXPECT_TRUE(matcher.Accept(2));
  EXPECT_TRUE(matcher.ended());
  EXPECT_FALSE(matcher.Accept(0));
  matcher.Rollback(1);
  EXPECT_FALSE(matcher.ended());
  EXPECT_TRUE(matcher.CanEnd());
}

TEST(GrammarMatcher, ForcedBytesAreThoseOfEveryContinuation) {
  GrammarSpec spec = SchemaSpec(R"({"type":"object","properties":{"kind":{"const":"ab"}},
      "required":["kind"],"additionalProperties":false})");
  spec.spelling = {.whitespace_run_max = 0, .needless_escapes = false};
  Judge judge(spec);
  GrammarMatcher matcher(judge.runtime());
  EXPECT_EQ(matcher.Forced(), R"({"kind":"ab"})");
  EXPECT_EQ(matcher.Forced(4), R"({"ki)");
  ASSERT_TRUE(matcher.AcceptBytes(R"({"kind":"ab"})"));
  EXPECT_EQ(matcher.Forced(), "");
  EXPECT_TRUE(matcher.CanEnd());
}

TEST(GrammarMatcher, LikelyBytesFollowTheSpellingOfTheAnswerSoFar) {
  GrammarSpec spec = SchemaSpec(R"({"type":"object","properties":{"kind":{"const":"a b"},
      "size":{"enum":["xs","xl"]}},"required":["kind","size"],"additionalProperties":false})");
  spec.spelling = {.whitespace_run_max = 8, .needless_escapes = false};
  Judge judge(spec);
  GrammarMatcher matcher(judge.runtime());
  EXPECT_EQ(matcher.Forced(), "");
  EXPECT_EQ(matcher.Likely(""), R"({")");
  EXPECT_EQ(matcher.state(), GrammarMatcher(judge.runtime()).state());
  ASSERT_TRUE(matcher.AcceptBytes(R"({"k)"));
  EXPECT_EQ(matcher.Likely(R"({"k)"), R"(ind":"a b","size":"x)");
  ASSERT_TRUE(matcher.AcceptBytes(R"(ind": "a b")"));
  EXPECT_EQ(matcher.Likely(R"({"kind": "a b")"), R"(,"size": "x)");
  EXPECT_EQ(matcher.Likely(R"({"kind": "a b")", 4), R"(,"si)");
}

TEST(GrammarMatcher, NarrowSpellingsLeaveNoRoom) {
  GrammarSpec spec = SchemaSpec(R"({"enum":[["a",1]]})");
  spec.spelling = {.whitespace_run_max = 1, .needless_escapes = false};
  Judge judge(spec);
  EXPECT_TRUE(judge.Takes(R"(["a", 1])"));
  EXPECT_FALSE(judge.Begins(R"(["a",  )"));
  EXPECT_FALSE(judge.Begins(R"(["\u00)"));
}

}  // namespace
}  // namespace pixii::text::grammar
