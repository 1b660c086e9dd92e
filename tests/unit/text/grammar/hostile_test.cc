// Grammars made to be costly: each is refused or answered, with its masks, within two seconds of
// the processor and within the budget of memory.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <ctime>
#include <functional>
#include <random>

#include "unit/text/grammar/grammar_cases.h"
#include "wire/json.h"

namespace pixii::text::grammar {
namespace {

constexpr double kSecondsMax = 2;
constexpr std::size_t kBytesMax = 512U << 20;
constexpr int kTokens = 12;  // of an answer that is walked

std::shared_ptr<const GrammarVocabulary> Words() {
  static const std::shared_ptr<const GrammarVocabulary> kWords = [] {
    std::mt19937 random(3);
    std::vector<std::string> out;
    for (int byte = 0; byte < 256; ++byte) {
      out.emplace_back(1, static_cast<char>(byte));
    }
    constexpr std::string_view kLetters = "aaabbbxyz01289 ._-{}[]\":,AB\n\xC3\xA9";
    while (out.size() < 1'500) {
      std::string word;
      for (std::size_t n = 2 + random() % 7; n > 0; --n) {
        word += kLetters[random() % kLetters.size()];
      }
      out.push_back(word);
    }
    return *GrammarVocabulary::FromBytes(std::move(out), {});
  }();
  return kWords;
}

std::string Repeated(std::string_view text, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) {
    out += text;
  }
  return out;
}

std::string Joined(std::size_t count, const std::function<std::string(std::size_t)>& part) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) {
    out += (i > 0 ? "," : "") + part(i);
  }
  return out;
}

// Compiles, then writes random tokens that the masks allow.
void Answer(const GrammarSpec& spec) {
  const std::string name = spec.text.substr(0, 90);
  const auto vocabulary = Words();
  const std::clock_t begin = std::clock();
  const auto grammar = Compile(spec);
  const char* how = "refused";
  if (grammar) {
    how = "answered";
    std::mt19937 random(5);
    auto runtime = std::make_shared<GrammarRuntime>(*grammar, vocabulary);
    GrammarMatcher matcher(runtime);
    std::vector<std::uint32_t> mask(vocabulary->mask_words());
    for (int step = 0; step < kTokens && !matcher.exhausted(); ++step) {
      matcher.FillMask(mask);
      std::vector<TokenId> allowed;
      for (std::uint32_t id = 0; id < vocabulary->vocab_size(); ++id) {
        if ((mask[id / 32] >> (id % 32) & 1) != 0) {
          allowed.push_back(static_cast<TokenId>(id));
        }
      }
      if (allowed.empty()) {
        break;
      }
      ASSERT_TRUE(matcher.Accept(allowed[random() % allowed.size()])) << name;
    }
    how = matcher.exhausted() ? "given up" : how;
    EXPECT_LT(runtime->size_bytes(), kBytesMax) << name;
  } else {
    EXPECT_FALSE(grammar.error().detail().empty()) << name;
  }
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, kSecondsMax) << how << ": " << name;
}

TEST(Hostile, FieldReportCase25PatternsAreAnsweredInTime) {
  const std::vector<std::string> patterns = {
      "(a+)+$",
      "(a|aa)+b",
      "(a*)*b",
      "(x+x+)+y",
      "((a{1,50}){1,50}){1,50}",
      "(.*a){40}",
      "[ab]*a[ab]{30}",
      "(a?){1000}a{1000}",
      "a{1000000}",
      "(ab|ba){0,100000}",
      ".*.*.*.*.*.*x",
      "((((((.{1,100}){1,100}){1,100}){1,100}){1,100}){1,100})",
      "^(([a-z])+.)+[A-Z]([a-z])+$",
      "(a|b|ab)*c{5000,}",
      "(?=.*a)(?=.*b)(?=.*x)(?=.*y)(?=.*z)(?=.*0)(?=.*1)(?=.*2)(?=.*8)(?=.*9).{20,40}",
      Repeated("(", 20'000) + "a" + Repeated(")", 20'000),
      Repeated("(a|", 5'000),
      Repeated("a?", 10'000),
      Repeated("[a-z]{1,99}", 100)};
  for (const std::string& pattern : patterns) {
    Answer(RegexSpec(pattern));
    std::string escaped;
    wire::AppendJsonString(escaped, pattern);
    Answer(SchemaSpec(fmt::format(R"({{"patternProperties":{{{}:{{"type":"string"}}}},
                                      "additionalProperties":false}})",
                                  escaped)));
  }
}

TEST(Hostile, FieldReportCase25SchemasAreAnsweredInTime) {
  const std::vector<std::string> schemas = {
      Repeated(R"({"type":"array","items":)", 5'000) + "true" + Repeated("}", 5'000),
      Repeated(R"({"not":)", 300) + "true" + Repeated("}", 300),
      Repeated(R"({"if":{"const":1},"then":false,"else":)", 200) + "true" + Repeated("}", 200),
      R"({"type":"array","minItems":1000000000,"items":{"type":"integer"}})",
      R"({"type":"array","minItems":50,"uniqueItems":true,"items":{"type":"boolean"}})",
      R"({"type":"array","contains":{"const":1},"minContains":1000000,"maxContains":2000000})",
      R"({"type":"string","minLength":1000000000,"maxLength":1000000000000000000})",
      R"({"type":"string","maxLength":65536,"format":"uri"})",
      R"({"type":"object","minProperties":1000000})",
      R"({"type":"number","multipleOf":1e-300,"minimum":1e300})",
      R"({"type":"integer","multipleOf":999999999999999999,"minimum":123456789123456789123456789})",
      R"({"$ref":"#"})",
      R"({"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}})",
      R"({"$defs":{"a":{"items":{"$ref":"#/$defs/a"},"minItems":1}},"$ref":"#/$defs/a"})",
      R"({"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"allOf":[{"$ref":"#/$defs/a"}]}]}},
          "$ref":"#/$defs/a"})",
      R"({"$ref":"#/$defs/d0","$defs":{)" +
          Joined(5'000,
                 [](std::size_t i) {
                   return fmt::format(R"("d{}":{{"$ref":"#/$defs/d{}"}})", i, (i + 1) % 5'000);
                 }) +
          "}}",
      R"({"$ref":"#/$defs/d0","$defs":{"d40":true,)" +
          Joined(40,
                 [](std::size_t i) {
                   return fmt::format(
                       R"("d{}":{{"anyOf":[{{"$ref":"#/$defs/d{}"}},{{"properties":{{"p{}":)"
                       R"({{"$ref":"#/$defs/d{}"}}}}}}]}})",
                       i, i + 1, i, i + 1);
                 }) +
          "}}",
      R"({"enum":[)" +
          Joined(50'000, [](std::size_t i) { return fmt::format(R"("value {}")", i * 7919); }) +
          "]}",
      R"({"enum":[)" + Joined(20'000, [](std::size_t i) { return fmt::format("{}.5", i * 31); }) +
          "]}",
      R"({"anyOf":[)" +
          Joined(2'000,
                 [](std::size_t i) {
                   return fmt::format(
                       R"({{"properties":{{"a{0}":{{"const":{0}}}}},"required":["a{0}"]}})", i);
                 }) +
          "]}",
      R"({"oneOf":[)" +
          Joined(
              300,
              [](std::size_t i) {
                return fmt::format(
                    R"({{"properties":{{"kind":{{"type":"string"}},"x{0}":{{"type":"integer"}}}}}})",
                    i);
              }) +
          "]}",
      R"({"allOf":[)" +
          Joined(24,
                 [](std::size_t i) {
                   return fmt::format(
                       R"({{"anyOf":[{{"required":["a{0}"]}},{{"required":["b{0}"]}}]}})", i);
                 }) +
          R"(],"type":"object","maxProperties":12})",
      R"({"unevaluatedProperties":false,"allOf":[)" +
          Joined(20,
                 [](std::size_t i) {
                   return fmt::format(R"({{"anyOf":[{{"properties":{{"a{0}":{{"const":1}}}}}},)"
                                      R"({{"properties":{{"b{0}":{{"const":2}}}}}}]}})",
                                      i);
                 }) +
          "]}",
      R"({"type":"object","additionalProperties":false,"patternProperties":{)" +
          Joined(60,
                 [](std::size_t i) {
                   return fmt::format(R"("^[a-z]*{}[a-z]*${}":{{"minLength":{}}})",
                                      static_cast<char>('a' + i % 26),
                                      i < 26 ? "" : fmt::format("|x{}", i), i);
                 }) +
          "}}",
      R"({"type":"object","required":[)" +
          Joined(3'000, [](std::size_t i) { return fmt::format(R"("k{}")", i); }) +
          R"(],"dependentSchemas":{)" +
          Joined(200,
                 [](std::size_t i) {
                   return fmt::format(R"("k{}":{{"required":["k{}"]}})", i, (i * 7) % 3'000);
                 }) +
          "}}",
      R"({"type":"array","uniqueItems":true,"items":{"type":"array","uniqueItems":true,
          "items":{"type":"array","uniqueItems":true}}})",
  };
  for (const std::string& schema : schemas) {
    Answer(SchemaSpec(schema));
  }
}

TEST(Hostile, FieldReportCase25GrammarsAreAnsweredInTime) {
  const std::vector<std::string> rules = {
      R"(root ::= root root | "a")",
      R"(root ::= a)"
      "\n"
      R"(a ::= b "x" | "y")"
      "\n"
      R"(b ::= a | "z")",
      R"(root ::= ("a"? "a"?)* "b")",
      R"(root ::= x x x x x x x x)"
      "\n"
      R"(x ::= ("a" | "aa" | "aaa")*)",
      R"x(root ::= "(" root ")" | "(" root | "")x",
      R"(root ::= "a"{1000000})",
      R"(root ::= ("a"{0,1000}){0,1000})",
      R"(root ::= [a-z]* [a-z]* [a-z]* [a-z]* [a-z]* "1")",
      "root ::= " + Repeated("(", 3'000) + "\"a\"" + Repeated(")", 3'000),
      "root ::= " + Repeated(R"("ab" | )", 5'000) + R"("b")",
  };
  for (const std::string& text : rules) {
    GrammarSpec spec;
    spec.kind = GrammarKind::kEbnf;
    spec.text = text;
    Answer(spec);
  }
}

// What a mask costs in one go is bounded, whatever it costs in the end; begun again it goes on.
TEST(Hostile, AMaskIsMadeInSlicesAndIsTheSame) {
  std::size_t slices = 0;
  std::size_t tokens = 0;
  for (const GrammarSpec& spec :
       {RegexSpec("[ab]*a[abxyz ]{12}"), RegexSpec("(.*a.{7}|.*b.{9}|[a-z]*x.{8})"),
        SchemaSpec(R"({"type":"array","minItems":3,"items":{"pattern":"^(.*a.{7}|.*b.{8})$"}})")}) {
    const auto vocabulary = Words();
    const auto grammar = Compile(spec);
    ASSERT_TRUE(grammar) << grammar.error().ToString();
    auto whole = std::make_shared<GrammarRuntime>(*grammar, vocabulary);
    auto sliced = whole->Fresh({});
    GrammarMatcher first(whole);
    GrammarMatcher second(sliced);
    std::vector<std::uint32_t> mask(vocabulary->mask_words());
    std::vector<std::uint32_t> other = mask;
    std::mt19937 random(7);
    for (int step = 0; step < kTokens; ++step) {
      ASSERT_TRUE(first.FillMask(mask));
      constexpr std::uint64_t kSlice = 1'000;
      for (bool done = false; !done; ++slices) {
        const std::uint64_t before = second.steps_spent();
        done = second.FillMask(other, kSlice);
        EXPECT_LT(second.steps_spent() - before, 200 * kSlice);  // one step more, and its measures
      }
      ASSERT_EQ(mask, other) << spec.text << " at token " << step;
      std::vector<TokenId> allowed;
      for (std::uint32_t id = 0; id < vocabulary->vocab_size(); ++id) {
        if ((mask[id / 32] >> (id % 32) & 1) != 0) {
          allowed.push_back(static_cast<TokenId>(id));
        }
      }
      if (allowed.empty()) {
        break;  // it is complete
      }
      const TokenId token = allowed[random() % allowed.size()];
      ASSERT_TRUE(first.Accept(token) && second.Accept(token));
      ++tokens;
    }
  }
  EXPECT_GT(slices, tokens);
}

}  // namespace
}  // namespace pixii::text::grammar
