#include <gtest/gtest.h>

#include "unit/text/grammar/grammar_cases.h"

namespace pixii::text::grammar {
namespace {

GrammarSpec Ebnf(std::string_view text) {
  GrammarSpec spec;
  spec.kind = GrammarKind::kEbnf;
  spec.text = text;
  return spec;
}

GrammarSpec Lark(std::string_view text) {
  GrammarSpec spec;
  spec.kind = GrammarKind::kLark;
  spec.text = text;
  return spec;
}

TEST(Ebnf, NestsAndRepeats) {
  Judge judge(Ebnf(R"gbnf(
      # sums in brackets
      root ::= sum
      sum  ::= term (" "? [-+] " "? term)*
      term ::= num |
               "(" sum ")"
      num  ::= [0-9]{1,3} ("." [0-9]+)?
  )gbnf"));
  EXPECT_TRUE(judge.Takes("1+(2 - (3.25+444))"));
  EXPECT_FALSE(judge.Takes("1+(2"));
  EXPECT_FALSE(judge.Begins("1234"));
  EXPECT_FALSE(judge.Begins("1+)"));
}

TEST(Ebnf, DirectLeftRecursionIsRepetition) {
  Judge judge(Ebnf("root ::= root \"+\" n | n\nn ::= [0-9]+"));
  EXPECT_TRUE(judge.Takes("1+22+3"));
  EXPECT_FALSE(judge.Begins("+"));
  EXPECT_FALSE(judge.Takes("1+"));
  Judge indirect(Ebnf("root ::= a \"x\" | \"y\"\na ::= root \"z\""));
  EXPECT_NE(indirect.error().find("left recursion"), std::string::npos) << indirect.error();
}

TEST(Ebnf, WaysWithoutATextAreNoDeadEnds) {
  Judge judge(Ebnf("root ::= \"a\" loop | \"ab\"\nloop ::= \"b\" loop"));
  EXPECT_TRUE(judge.Takes("ab"));
  EXPECT_FALSE(judge.Begins("abb"));
  EXPECT_FALSE(Judge(Ebnf("root ::= \"a\" root")).compiled());
}

TEST(Ebnf, ErrorsSayWhere) {
  EXPECT_NE(Judge(Ebnf("root ::= \"a\"\nb ::= \"x")).error().find("line 2"), std::string::npos);
  EXPECT_NE(Judge(Ebnf("root ::= nowhere")).error().find("nowhere"), std::string::npos);
  EXPECT_NE(Judge(Ebnf("rout::=\"route\"")).error().find("root"), std::string::npos);
}

TEST(Ebnf, TextIsUnicode) {
  Judge judge(Ebnf(R"(root ::= "\u00e9" [^a-z]+ 'ü')"));
  EXPECT_TRUE(judge.Takes("é😀ü"));
  EXPECT_FALSE(judge.Begins("éa"));
}

TEST(Ebnf, DeepNestingIsBounded) {
  Judge judge(Ebnf("root ::= \"(\" root \")\" | \"x\""));
  EXPECT_TRUE(judge.Takes(std::string(50, '(') + "x" + std::string(50, ')')));
  EXPECT_FALSE(judge.Takes(std::string(5000, '(') + "x" + std::string(5000, ')')));
  EXPECT_TRUE(judge.Takes("(x)"));
}

TEST(Lark, RulesTerminalsAndIgnored) {
  Judge judge(Lark(R"lark(
      start: assignment+
      assignment: NAME "=" value ";"   -> assign
      ?value: NUMBER | list
            | ESCAPED_STRING
      list: "[" [value ("," value)*] "]"
      NAME.2: /[a-z_]/ ("a".."z" | DIGIT)~0..3
      %import common.DIGIT
      %import common.SIGNED_NUMBER -> NUMBER
      %import common.ESCAPED_STRING
      %import common.WS
      %ignore WS
      // a comment
  )lark"));
  EXPECT_TRUE(judge.Takes("ab1=5;"));
  EXPECT_TRUE(judge.Takes(" x = [1, -2.5e3 ,\"q\\\"\"] ;\n y=[];\n"));
  EXPECT_FALSE(judge.Begins("abcde"));
  EXPECT_FALSE(judge.Takes("x=1"));
  EXPECT_FALSE(judge.Begins("x=]"));
}

TEST(Lark, LettersInEitherCase) {
  Judge judge(Lark("start: \"select\"i \" \" /[a-c]+/"));
  EXPECT_TRUE(judge.Takes("SeLect abc"));
  EXPECT_FALSE(judge.Begins("SeLect d"));
}

TEST(Lark, WhatIsNotReadIsNamed) {
  EXPECT_NE(Judge(Lark("start: \"a\"\n%declare X")).error().find("declare"), std::string::npos);
  EXPECT_NE(Judge(Lark("start: x{1}")).error().find("templates"), std::string::npos);
  EXPECT_NE(Judge(Lark("start: /a/i")).error().find("flags"), std::string::npos);
}

}  // namespace
}  // namespace pixii::text::grammar
