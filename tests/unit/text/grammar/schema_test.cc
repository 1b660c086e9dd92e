#include <gtest/gtest.h>

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

}  // namespace
}  // namespace pixii::text::grammar
