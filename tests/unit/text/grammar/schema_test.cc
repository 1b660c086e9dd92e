#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "unit/text/grammar/grammar_cases.h"

namespace pixii::text::grammar {
namespace {

TEST(Schema, MembersComeInAnyOrder) {
  Judge judge(SchemaSpec(R"({"type":"object","properties":{"a":{"type":"integer"},
      "b":{"type":"string"}},"required":["a","b"],"additionalProperties":false})"));
  EXPECT_TRUE(judge.Takes(R"({"a":1,"b":"x"})"));
  EXPECT_TRUE(judge.Takes(R"({ "b" : "x" , "a" : 1 })"));
  EXPECT_FALSE(judge.Takes(R"({"a":1})"));
  EXPECT_FALSE(judge.Begins(R"({"a":1})"));
  EXPECT_FALSE(judge.Begins(R"({"c)"));
}

TEST(Schema, ANamedMemberComesOnce) {
  Judge judge(SchemaSpec(R"({"type":"object","properties":{"a":{"type":"integer"},"ab":{}}})"));
  EXPECT_TRUE(judge.Begins(R"({"a":1,"ab":2})"));
  EXPECT_FALSE(judge.Begins(R"({"a":1,"a")"));
  EXPECT_TRUE(judge.Begins(R"({"a":1,"a)"));  // another name may go on from here
}

TEST(Schema, EscapesSpellTheSameCharacters) {
  Judge judge(SchemaSpec(R"({"enum":["a/é😀"]})"));
  EXPECT_TRUE(judge.Takes(R"("a/é😀")"));
  EXPECT_TRUE(judge.Takes(R"("\u0061\/\u00e9\ud83d\ude00")"));
  EXPECT_FALSE(judge.Begins(R"("a\u00)"
                            R"(30)"));
  EXPECT_FALSE(judge.Begins(R"("a/é\ud83c)"));
  Judge keys(SchemaSpec(R"({"properties":{"é":{"type":"null"}},"additionalProperties":false})"));
  EXPECT_TRUE(keys.Takes(R"({"\u00E9":null})"));
  EXPECT_FALSE(keys.Begins(R"({"\u00e8)"));
}

TEST(Schema, LoneSurrogatesAndIllFormedBytesAreRefused) {
  Judge judge(SchemaSpec(R"({"type":"string"})"));
  EXPECT_FALSE(judge.Begins("\"\\udc00"));
  EXPECT_FALSE(judge.Begins("\"\\ud800x"));
  EXPECT_FALSE(judge.Begins("\"\xC0"));
  EXPECT_FALSE(judge.Begins("\"\xED\xA0"));
  EXPECT_FALSE(judge.Begins("\"\xF4\x90"));
  EXPECT_FALSE(judge.Begins("\"\n"));
  EXPECT_TRUE(judge.Takes("\"\xF0\x9F\x98\x80\""));
}

TEST(Schema, NumbersKeepTheirBounds) {
  Judge judge(SchemaSpec(R"({"type":"integer","minimum":5,"maximum":120})"));
  for (const char* valid : {"5", "120", "99", "1e2", "5.0", "1.2e2", "50e0"}) {
    EXPECT_TRUE(judge.Takes(valid)) << valid;
  }
  for (const char* invalid : {"4", "121", "0", "-5", "5.5", "1e3", "05", "1.21e2"}) {
    EXPECT_FALSE(judge.Takes(invalid)) << invalid;
  }
  EXPECT_FALSE(judge.Begins("2000"));
  EXPECT_FALSE(judge.Begins("-"));
  Judge large(SchemaSpec(R"({"type":"integer","maximum":20000000000})"));
  EXPECT_TRUE(large.Takes("20000000000"));
  EXPECT_FALSE(large.Takes("20000000001"));
  EXPECT_TRUE(large.Takes("-99999999999999999999999999"));
  Judge step(SchemaSpec(R"({"type":"number","multipleOf":0.01,"minimum":0})"));
  EXPECT_TRUE(step.Takes("19.99"));
  EXPECT_TRUE(step.Takes("1e-02"));
  EXPECT_FALSE(step.Takes("19.999"));
  EXPECT_FALSE(step.Takes("-0.01"));
  EXPECT_TRUE(step.Takes("-0"));
}

TEST(Schema, EqualValuesAreEqualHoweverTheyAreSpelt) {
  Judge judge(SchemaSpec(R"({"const":{"a":[1,{"b":null}],"c":"x"}})"));
  EXPECT_TRUE(judge.Takes(R"({"c":"x","a":[1.0,{"b":null}]})"));
  EXPECT_TRUE(judge.Takes(R"({"c":"\u0078","a":[1e0,{"b":null}]})"));
  EXPECT_FALSE(judge.Takes(R"({"a":[1,{"b":null}]})"));
  Judge unique(SchemaSpec(R"({"type":"array","uniqueItems":true})"));
  EXPECT_TRUE(unique.Takes(R"([1,2,[1],{"a":1,"b":2}])"));
  EXPECT_FALSE(unique.Takes(R"([1,2,1.0])"));
  EXPECT_FALSE(unique.Takes(R"([{"a":1,"b":2},{"b":2,"a":1}])"));
  EXPECT_TRUE(unique.Takes(R"([[1,1],[1]])"));
}

TEST(Schema, NothingAcceptedEndsInADeadEnd) {
  // The second alternative is chosen by kind; then its own members are required.
  Judge judge(SchemaSpec(R"({"oneOf":[
      {"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"integer"}},
       "required":["kind","x"],"additionalProperties":false},
      {"type":"object","properties":{"kind":{"const":"b"},"y":{"type":"string"}},
       "required":["kind","y"],"additionalProperties":false}]})"));
  EXPECT_TRUE(judge.Takes(R"({"kind":"b","y":"z"})"));
  EXPECT_TRUE(judge.Takes(R"({"x":3,"kind":"a"})"));
  EXPECT_FALSE(judge.Begins(R"({"kind":"b","x)"));
  EXPECT_FALSE(judge.Begins(R"({"x":3,"kind":"b)"));
  EXPECT_FALSE(judge.Begins(R"({"kind":"b"})"));
  // An object whose only way on leads to itself has no value.
  EXPECT_FALSE(Judge(SchemaSpec(R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object",
      "properties":{"n":{"$ref":"#/$defs/n"}},"required":["n"]}}})"))
                   .compiled());
  EXPECT_FALSE(Judge(SchemaSpec(R"({"type":"string","pattern":"^a+$","minLength":3,
      "maxLength":2})"))
                   .compiled());
  EXPECT_FALSE(Judge(SchemaSpec(R"({"allOf":[{"type":"string"},{"type":"number"}]})")).compiled());
}

TEST(Schema, ErrorsNameTheKeywordAndItsPlace) {
  Judge judge(SchemaSpec(R"({"properties":{"a":{"type":"string","pattern":"(?<=x)y"}}})"));
  EXPECT_NE(judge.error().find("pattern at /properties/a/pattern"), std::string::npos)
      << judge.error();
  EXPECT_NE(judge.error().find("look-behind"), std::string::npos);
  EXPECT_NE(Judge(SchemaSpec(R"({"$ref":"https://example.com/x.json"})")).error().find("$ref"),
            std::string::npos);
  EXPECT_NE(Judge(SchemaSpec(R"({"required":"a"})")).error().find("required at /required"),
            std::string::npos);
}

// Adversarial grammars, each answered by an error or by a grammar that holds.
TEST(Schema, FieldReportCase25GrammarsAreAnsweredOrRefused) {
  EXPECT_TRUE(Judge(RegexSpec("^(.*)$")).Takes("anything"));
  EXPECT_TRUE(Judge(RegexSpec("^(|.*)$")).Takes(""));
  EXPECT_TRUE(Judge(RegexSpec("[\\x00-\\u2e7f]+")).Takes("abc"));
  EXPECT_TRUE(Judge(RegexSpec("(a+)+$")).Takes(std::string(2000, 'a')));
  EXPECT_TRUE(Judge(RegexSpec("^(a|a)*$")).Takes(std::string(2000, 'a')));
  EXPECT_TRUE(Judge(RegexSpec("^hello there indeed\\\\!$")).Takes("hello there indeed\\!"));
  Judge not_a_schema(SchemaSpec(R"({"properties":{"foo":"bar"}})"));
  EXPECT_NE(not_a_schema.error().find("/properties/foo"), std::string::npos);
  EXPECT_FALSE(Judge(SchemaSpec(R"({"$ref":"#"})")).compiled());
  std::string nested = R"({"type":"integer"})";
  for (int depth = 0; depth < 12; ++depth) {
    nested = R"({"oneOf":[{"type":"string"},{"type":"array","items":)" + nested + "}]}";
  }
  EXPECT_TRUE(Judge(SchemaSpec(nested)).Takes(R"([[["x"]]])"));
  std::string values = R"({"enum":[)";
  for (int i = 0; i < 10'000; ++i) {
    values += (i > 0 ? "," : "") + ("\"value-" + std::to_string(i) + "\"");
  }
  Judge many(SchemaSpec(values + "]}"));
  EXPECT_TRUE(many.Takes("\"value-9999\""));
  EXPECT_FALSE(many.Takes("\"value-10000\""));
  std::string properties = R"({"type":"object","additionalProperties":false,"properties":{)";
  for (int i = 0; i < 10'000; ++i) {
    properties += (i > 0 ? "," : "") + ("\"p" + std::to_string(i) + "\":{\"type\":\"integer\"}");
  }
  Judge wide(SchemaSpec(properties + "}}"));
  EXPECT_TRUE(wide.Takes(R"({"p7777":1,"p0":2,"p9999":3})"));
  EXPECT_FALSE(wide.Begins(R"({"p10000)"));
}

TEST(Schema, BudgetsEndCompilation) {
  CompileBudget budget;
  budget.steps_max = 2'000;
  Judge judge(SchemaSpec(R"({"type":"string","pattern":"^(a?){300}(b|c|d|ab){100}$",
      "not":{"pattern":"x.{200}y"}})"),
              budget);
  EXPECT_FALSE(judge.compiled());
  EXPECT_NE(judge.error().find("TooLarge"), std::string::npos) << judge.error();
  budget = {};
  budget.text_bytes_max = 10;
  EXPECT_FALSE(Judge(SchemaSpec(R"({"type":"string"})"), budget).compiled());
}

TEST(StructuralTags, TextIsFreeButForWhatTheyBegin) {
  GrammarSpec spec;
  spec.kind = GrammarKind::kStructuralTags;
  spec.tags = {{"<fn=add>", R"({"type":"object","properties":{"a":{"type":"integer"}},
                   "required":["a"],"additionalProperties":false})",
                "</fn>"},
               {"<fn=now>", R"({"type":"integer"})", "</fn>"}};
  spec.triggers = {"<fn="};
  Judge judge(spec);
  EXPECT_TRUE(judge.Takes("no call at all, a < b \"<f\""));
  EXPECT_TRUE(judge.Takes("x <fn=add>{\"a\":1}</fn> then <<fn=now>12</fn>\n"));
  EXPECT_FALSE(judge.Begins("<fn=s"));
  EXPECT_FALSE(judge.Begins("<fn=add>{\"b"));
  EXPECT_FALSE(judge.Takes("<fn=add>{\"a\":1}"));
  EXPECT_FALSE(judge.Begins("<fn=now>12</x"));
  spec.triggers = {"<other"};
  EXPECT_FALSE(Judge(spec).compiled());
}

TEST(Schema, PatternsWhoseAutomatonExplodesAreRefused) {
  Judge judge(SchemaSpec(R"({"pattern":"^(?=.{1,255}$)((.{1,63}\\.){1,127}[a-z0-9-]+\\.?)$"})"));
  EXPECT_NE(judge.error().find("pattern at /pattern: the pattern is too ambiguous"),
            std::string::npos)
      << judge.error();
  EXPECT_TRUE(Judge(SchemaSpec(R"({"pattern":"^[a-z]{1,63}(\\.[a-z]{1,63}){0,9}$"})")).compiled());
}

TEST(Schema, DepthIsBounded) {
  Judge judge(SchemaSpec("true"), {.depth_max = 8});
  EXPECT_TRUE(judge.Takes("[[[[[[[[1]]]]]]]]"));
  EXPECT_FALSE(judge.Begins("[[[[[[[[["));
}

// Writes random bytes that the masks allow, nearer to the end the longer it gets: the answer can
// always go on or end, and is what the schema says.
void ExpectNoDeadEnd(const std::string& schema, unsigned seed, std::size_t bytes_max = 3'000) {
  Judge judge(SchemaSpec(schema));
  ASSERT_TRUE(judge.compiled()) << schema << ": " << judge.error();
  GrammarMatcher matcher(judge.runtime());
  const auto vocabulary = ByteVocabulary();
  std::vector<std::uint32_t> mask(vocabulary->mask_words());
  std::mt19937 random(seed);
  std::string text;
  while (text.size() < bytes_max) {
    matcher.FillMask(mask);
    std::string allowed;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool plain = byte > ' ' && byte != '\\' && byte < 0x7F;
      if ((mask[byte / 32] >> (byte % 32) & 1) != 0 && (plain || random() % 8 == 0)) {
        allowed += static_cast<char>(byte);
      }
    }
    if (allowed.empty()) {
      if (matcher.CanEnd()) {
        break;
      }
      ASSERT_TRUE(std::ranges::any_of(mask, [](auto word) { return word != 0; }))
          << schema << ": nothing follows " << text;
      continue;  // only what was left to the dice
    }
    const char byte = allowed[random() % allowed.size()];
    ASSERT_TRUE(matcher.AcceptBytes(std::string_view(&byte, 1)));
    text += byte;
  }
  if (matcher.CanEnd()) {
    EXPECT_TRUE(judge.Takes(text)) << schema << ": " << text;
  }
}

TEST(Schema, UniqueItemsNeverRunOutOfValues) {
  for (const char* schema : {
           R"({"type":"array","uniqueItems":true,"items":{"type":"boolean"}})",
           R"({"type":"array","uniqueItems":true,"minItems":2,"items":{"type":"boolean"}})",
           R"({"type":"array","uniqueItems":true,"items":{"const":"x"}})",
           R"({"type":"array","uniqueItems":true,"minItems":4,
               "items":{"enum":["red","green","re",null,7]}})",
           R"({"type":"array","uniqueItems":true,"minItems":3,
               "items":{"type":"integer","minimum":1,"maximum":3}})",
           R"({"type":"array","uniqueItems":true,"minItems":30,
               "items":{"type":"integer","minimum":-20,"maximum":40}})",
           R"({"type":"array","uniqueItems":true,"items":{"type":"integer","minimum":0}})",
           R"({"type":"array","uniqueItems":true,"items":{"type":"number","maximum":2.5,
               "multipleOf":0.5,"minimum":0}})",
           R"({"type":"array","uniqueItems":true,"minItems":40,
               "items":{"type":"string","maxLength":2}})",
           R"({"type":"array","uniqueItems":true,"minItems":5,
               "items":{"type":"string","pattern":"^([ab]{1,2}|c.*)$"}})",
           R"({"type":"array","uniqueItems":true,"minItems":3,
               "items":{"anyOf":[{"type":"boolean"},{"type":"integer"}]}})",
           R"({"type":"array","uniqueItems":true,"minItems":3,"items":{"enum":[1,2,3]},
               "contains":{"const":1},"maxContains":1})",
           R"({"type":"array","uniqueItems":true,"maxItems":2,"items":{"enum":[1,2,3]},
               "contains":{"const":1}})",
           R"({"type":"array","minItems":2,"maxItems":3,"items":{"enum":["a","b"]},
               "contains":{"const":"a"},"maxContains":1})",
           R"({"type":"array","maxItems":4,"items":{"enum":["a","b"]},
               "contains":{"const":"a"},"minContains":2,"maxContains":3})",
           R"({"type":"array","uniqueItems":true,"prefixItems":[{"const":1},{"const":2}],
               "items":{"type":"boolean"},"minItems":4})",
           R"({"type":"object","properties":{"tags":{"type":"array","uniqueItems":true,
               "minItems":2,"items":{"enum":["a","ab","abc"]}}},"required":["tags"]})",
       }) {
    for (unsigned seed = 1; seed <= 12; ++seed) {
      ExpectNoDeadEnd(schema, seed, 600);
    }
  }
}

TEST(Schema, BehindTheLastPossibleItemThereIsNoComma) {
  Judge booleans(SchemaSpec(R"({"type":"array","uniqueItems":true,"items":{"type":"boolean"}})"));
  EXPECT_TRUE(booleans.Takes("[true,false]"));
  EXPECT_FALSE(booleans.Begins("[true,false,"));
  EXPECT_FALSE(booleans.Begins("[true,t"));
  Judge numbers(SchemaSpec(
      R"({"type":"array","uniqueItems":true,"items":{"type":"integer","minimum":7,"maximum":12}})"));
  EXPECT_FALSE(numbers.Begins("[7,7"));
  EXPECT_TRUE(numbers.Begins("[10,1"));
  EXPECT_FALSE(numbers.Begins("[10,11,12,1"));
  EXPECT_FALSE(numbers.Begins("[10,11,12,7,8,9,"));
  Judge one(SchemaSpec(R"({"type":"array","items":{"const":1},"contains":{"const":1},
                           "maxContains":2})"));
  EXPECT_TRUE(one.Takes("[1,1]"));
  EXPECT_FALSE(one.Begins("[1,1,"));
  // Where items may be equal after all, they may.
  Judge either(SchemaSpec(R"({"type":"array","items":{"type":"boolean"},
                              "anyOf":[{"uniqueItems":true},{"maxItems":3}]})"));
  EXPECT_TRUE(either.Takes("[true,true,false]"));
}

TEST(Schema, MoreUniqueItemsThanValuesAreRefused) {
  for (const char* schema : {
           R"({"type":"array","uniqueItems":true,"minItems":3,"items":{"type":"boolean"}})",
           R"({"type":"array","uniqueItems":true,"minItems":4,"items":{"enum":["a","b",1]}})",
           R"({"type":"array","uniqueItems":true,"minItems":5,
               "items":{"type":"integer","minimum":1,"exclusiveMaximum":5}})",
           R"({"type":"array","uniqueItems":true,"minItems":4,
               "items":{"type":"string","pattern":"^[ab]?$"}})",
           R"({"type":"array","uniqueItems":true,"items":{"enum":[1,2]},
               "contains":{"const":1},"minContains":2})",
           R"({"type":"array","minItems":3,"items":{"type":"string"},
               "contains":{"type":"string"},"maxContains":2})",
           R"({"type":"array","uniqueItems":true,"minItems":3,"items":{"enum":[1,2,3]},
               "contains":{"type":"integer"},"maxContains":1})",
           R"({"type":"array","uniqueItems":true,"minItems":2,
               "prefixItems":[{"enum":["a","b"]},{"const":"a"}]})",
       }) {
    EXPECT_FALSE(Judge(SchemaSpec(schema)).compiled()) << schema;
  }
  const Judge lists(SchemaSpec(R"({"uniqueItems":true,"items":{"enum":[[1],[2]]}})"));
  EXPECT_NE(lists.error().find("uniqueItems"), std::string::npos) << lists.error();
}

TEST(Schema, NumbersFarFromOneAreTheirOwnInstances) {
  for (const char* number : {"1e400", "1e500", "-2.5e-1000", "1e20000", "1.23e4569"}) {
    Judge judge(SchemaSpec("{\"const\":" + std::string(number) + "}"));
    EXPECT_TRUE(judge.Takes(number)) << number;
    EXPECT_FALSE(judge.Takes("1e401"));
    EXPECT_FALSE(judge.Begins("7"));
  }
  Judge range(SchemaSpec(R"({"type":"number","minimum":1e450,"maximum":1e500})"));
  EXPECT_TRUE(range.Takes("1e470"));
  EXPECT_FALSE(range.Takes("1e449"));
  EXPECT_FALSE(Judge(SchemaSpec(R"({"minimum":1e100000})")).compiled());
}

TEST(Schema, ThousandsOfUniqueItemsCostWhatTheyAreLong) {
  const auto cost = [](int items) {
    Judge judge(SchemaSpec(
        R"({"type":"array","uniqueItems":true,"items":{"type":"string"},"minItems":9999})"));
    std::string text = "[";
    for (int i = 0; i < items; ++i) {
      text += (i > 0 ? ",\"" : "\"") + std::to_string(i * 7919) + "\"";
    }
    GrammarMatcher matcher(judge.runtime());
    for (const char byte : text) {
      EXPECT_TRUE(matcher.AcceptBytes(std::string_view(&byte, 1)));
    }
    EXPECT_FALSE(matcher.AcceptBytes(",\"7919\","));
    return judge.runtime()->steps_spent();
  };
  const std::uint64_t few = cost(500);
  EXPECT_LT(cost(4'000), 12 * few);
}

}  // namespace
}  // namespace pixii::text::grammar
