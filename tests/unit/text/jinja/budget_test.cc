// Hostile templates end with a typed error that names what stopped them, in bounded time, memory
// and stack.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "text/jinja/chat_template.h"
#include "wire/json.h"

namespace pixii::text {
namespace {

/// Smaller than the defaults, so that reaching them takes milliseconds.
constexpr ChatTemplateOptions kSmall = {
    .limits = {.steps_max = 2'000'000, .memory_bytes_max = 32 << 20}};

std::string Outcome(const std::string& source, const ChatTemplateOptions& options = kSmall) {
  const auto parsed = ChatTemplate::Parse(source, options);
  if (!parsed) {
    return "load: " + parsed.error().ToString();
  }
  const wire::Json messages{wire::Json::Array()};
  ChatTemplateInput input;
  input.messages = &messages;
  const auto prompt = parsed->Render(input);
  return prompt ? "text: " + prompt->text.substr(0, 200) : prompt.error().ToString();
}

void ExpectStopped(const std::string& source, const std::string& by,
                   const ChatTemplateOptions& options = kSmall) {
  const std::string outcome = Outcome(source, options);
  EXPECT_NE(outcome.find(by), std::string::npos) << source.substr(0, 200) << "\n"
                                                 << outcome.substr(0, 400);
}

std::string Repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) {
    out += text;
  }
  return out;
}

TEST(JinjaBudget, AnEndlessRangeIsRefused) {
  ExpectStopped("{% for i in range(1000000000) %}x{% endfor %}", "Range too big");
}

TEST(JinjaBudget, NestedLoopsRunOutOfSteps) {
  ExpectStopped("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
                "steps_max");
}

TEST(JinjaBudget, AGiantStringIsRefusedBeforeItIsMade) {
  ExpectStopped("{{ 'a' * 10**10 }}", "memory_bytes_max");
  ExpectStopped("{{ [1] * 10**10 }}", "_max");
  ExpectStopped("{{ '%999999999d' % 1 }}", "width");
  ExpectStopped("{{ 'a'.center(10**15) }}", "memory_bytes_max");
}

TEST(JinjaBudget, DoublingStringsAndListsRunOutOfMemory) {
  ExpectStopped(
      "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% "
      "endfor %}",
      "memory_bytes_max");
  ExpectStopped(
      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% "
      "endfor %}",
      "_max");
  ExpectStopped(
      "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('a', "
      "ns.x) %}"
      "{% endfor %}",
      "_max");
}

TEST(JinjaBudget, OutputIsBounded) {
  ChatTemplateOptions options = kSmall;
  options.limits.output_bytes_max = 1'000;
  ExpectStopped("{% for i in range(99999) %}xxxxxxxxxx{% endfor %}", "output_bytes_max", options);
}

TEST(JinjaBudget, DeepSourceIsRefusedAtLoad) {
  ExpectStopped(Repeat("{% if true %}", 10'000) + Repeat("{% endif %}", 10'000), "load: ");
  const std::pair<std::string, std::string> nests[] = {
      {"(", ")"},           {"[", "]"},  {"{1:", "}"}, {"not ", ""}, {"-", ""},
      {"1 if 1 else ", ""}, {"f(", ")"}, {"a[", "]"},  {"x|f(", ")"}};
  for (const auto& [open, close] : nests) {
    const std::string outcome =
        Outcome("{{ " + Repeat(open, 10'000) + "1" + Repeat(close, 10'000) + " }}");
    EXPECT_NE(outcome.find("nesting_depth_max"), std::string::npos) << open << outcome;
  }
  for (const std::string& chain :
       {" + 1", ".a", "[0]", "|upper", "()", " is defined", " ** 2", " * 2"}) {
    const std::string outcome = Outcome("{{ x" + Repeat(chain, 10'000) + " }}");
    EXPECT_NE(outcome.find("load: "), std::string::npos) << chain << outcome.substr(0, 300);
  }
  EXPECT_EQ(Outcome("{{ 1" + Repeat(" ~ 1", 100) + " }}"), "text: " + Repeat("1", 101));
}

TEST(JinjaBudget, RecursionIsBounded) {
  ExpectStopped("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "call_depth_max");
  ExpectStopped(
      "{% macro f(x) %}{% for i in [1] %}{% if 1 %}{{ ((f(x) ~ 1)|trim) + ('a' if 1 else 'b') }}{% "
      "endif %}"
      "{% endfor %}{% endmacro %}{{ f(1) }}",
      "_depth_max");
  ExpectStopped("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "call_depth_max");
}

TEST(JinjaBudget, DeepValuesAreBounded) {
  for (const std::string& step :
       {"[ns.x]", "{'a': ns.x}", "(ns.x,)", "ns.x|map('upper')", "ns.x|select", "[ns.x]|list",
        "cycler(ns.x)", "ns.x.items", "{'k': ns.x}.items()", "[ns.x]|reverse"}) {
    const std::string outcome =
        Outcome("{% set ns = namespace(x={}) %}{% for i in range(99999) %}{% set ns.x = " + step +
                " %}{% endfor %}{{ ns.x }}");
    EXPECT_EQ(outcome.find("text: "), std::string::npos) << step << " " << outcome;
  }
  ExpectStopped(
      "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor "
      "%}{{ ns.x }}",
      "_max");
  ExpectStopped(
      "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor "
      "%}"
      "{{ ns.x|tojson }}",
      "_max");
}

TEST(JinjaBudget, ChainsAndRingsOfNamespacesAndLoopsEndCleanly) {
  EXPECT_EQ(Outcome("{% set ns = namespace(x=none) %}{% for i in range(99999) %}{% set ns.x = "
                    "namespace(p=ns.x) %}"
                    "{% endfor %}ok"),
            "text: ok");
  EXPECT_EQ(Outcome("{% set ns = namespace() %}{% set ns.me = ns %}{% macro f() %}{% endmacro %}{% "
                    "set ns.f = f %}ok"),
            "text: ok");
  EXPECT_EQ(Outcome("{% set ns = namespace(x=none) %}{% for i in range(20000) %}{% for j in "
                    "[[namespace(l=ns.x)]] %}"
                    "{% set ns.x = loop %}{% endfor %}{% endfor %}ok"),
            "text: ok");
}

TEST(JinjaBudget, TheSandboxHidesPythonsInside) {
  ExpectStopped("{{ ''.__class__.__mro__ }}", "SecurityError");
  ExpectStopped("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError");
  ExpectStopped("{{ '{0.__class__.__mro__}'.format(1) }}", "SecurityError");
  ExpectStopped("{{ [].append(1) }}", "SecurityError");
  ExpectStopped("{{ namespace.__init__.__globals__ }}", "SecurityError");
}

TEST(JinjaBudget, TagsThatReadFilesAreRefusedAtLoadByName) {
  ExpectStopped("{% include '/etc/passwd' %}", "the tag 'include' is not supported");
  ExpectStopped("{% import 'x' as y %}", "the tag 'import' is not supported");
  ExpectStopped("{% extends 'x' %}", "the tag 'extends' is not supported");
  ExpectStopped("{{ [1]|random }}", "the filter 'random' is not supported");
}

TEST(JinjaBudget, BenignTemplatesOfTheWildRender) {
  EXPECT_EQ(Outcome("{{ ('{\"a\": [1]}'|fromjson).a[0] }}"), "text: 1");
  EXPECT_EQ(Outcome("{% set ns = namespace(name=x if x else 'd') %}{{ ns.name }}"), "text: d");
  EXPECT_EQ(Outcome("{{ {'a': 1}|tojson(indent=4) }}"), "text: {\n    \"a\": 1\n}");
}

TEST(JinjaBudget, IntegersDoNotWrap) {
  ExpectStopped("{{ 9223372036854775807 + 1 }}", "OverflowError");
  ExpectStopped("{{ -9223372036854775807 - 2 }}", "OverflowError");
  ExpectStopped("{{ 2 ** 64 }}", "OverflowError");
  ExpectStopped("{{ 3037000500 * 3037000500 }}", "OverflowError");
  ExpectStopped("{{ 9223372036854775808 }}", "64 bits");
}

TEST(JinjaBudget, ALargeSourceIsRefused) {
  ExpectStopped(std::string(2'000'000, 'x'), "source_bytes_max");
  ExpectStopped("\xff", "UTF-8");
}

}  // namespace
}  // namespace pixii::text
