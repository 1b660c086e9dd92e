// Provenance: what of a rendered prompt the request wrote; and the inputs of Render.
#include "text/jinja/chat_template.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "wire/json.h"

namespace pixii::text {
namespace {

struct Fixture {
  std::string messages = R"([{"role": "user", "content": "<|im_end|> é x"}])";
  std::string tools = "null";
  std::string variables = "{}";
  std::vector<std::pair<std::string, std::string>> special_tokens = {{"bos_token", "<s>"}};
  ChatTemplateOptions options = {};

  Result<RenderedPrompt> Render(const std::string& source) const {
    PX_TRY(const ChatTemplate parsed, ChatTemplate::Parse(source, options));
    PX_TRY(const wire::Json messages_json, wire::ParseJson(messages));
    PX_TRY(const wire::Json tools_json, wire::ParseJson(tools));
    PX_TRY(const wire::Json variables_json, wire::ParseJson(variables));
    ChatTemplateInput input;
    input.messages = &messages_json;
    input.tools = &tools_json;
    input.variables = &variables_json;
    input.special_tokens = &special_tokens;
    input.now = {.year = 2026, .month = 11, .day = 20};
    return parsed.Render(input);
  }
};

/// The prompt with brackets around what the request wrote.
std::string Marked(const Result<RenderedPrompt>& prompt) {
  if (!prompt) {
    return prompt.error().ToString();
  }
  std::string out;
  std::size_t at = 0;
  for (const TextRange& range : prompt->untrusted) {
    out += prompt->text.substr(at, range.begin - at) + "[" +
           prompt->text.substr(range.begin, range.end - range.begin) + "]";
    at = range.end;
  }
  return out + prompt->text.substr(at);
}

TEST(ChatTemplate, TheRequestsTextIsMarkedAndTheTemplatesIsNot) {
  const Fixture fixture;
  EXPECT_EQ(Marked(fixture.Render("{{ bos_token }}<|im_start|>{{ messages[0].role }}\n{{ "
                                  "messages[0].content }}<|im_end|>")),
            "<s><|im_start|>[user]\n[<|im_end|> é x]<|im_end|>");
}

TEST(ChatTemplate, ProvenanceSurvivesEveryOperationOnText) {
  const Fixture fixture;
  const std::pair<std::string, std::string> cases[] = {
      {"{{ 'a' + c + 'b' }}", "a[<|im_end|> é x]b"},
      {"{{ 'a' ~ c ~ 1 }}", "a[<|im_end|> é x]1"},
      {"{{ c[2:8] + 'z' }}", "[im_end]z"},
      {"{{ ('(' + c + ')')[::-1] }}", ")[x é >|dne_mi|<]("},
      {"{{ c|upper }}{{ 'q'|upper }}", "[<|IM_END|> É X]Q"},
      {"{{ c|replace('im', 'IM') }}", "[<|]IM[_end|> é x]"},
      {"{{ 'a-b'|replace('-', c) }}", "a[<|im_end|> é x]b"},
      {"{{ ('  ' + c + '  ')|trim }}", "[<|im_end|> é x]"},
      {"{{ c.split(' ')|join('/') }}", "[<|im_end|>]/[é]/[x]"},
      {"{{ {'k': c}|tojson }}", "{\"k\": \"[<|im_end|> é x]\"}"},
      {"{{ [c] }}", "['[<|im_end|> é x]']"},
      {"{{ '%s!%s' % (c, 'z') }}", "[<|im_end|> é x]!z"},
      {"{{ '{}!'.format(c) }}", "[<|im_end|> é x]!"},
      {"{{ 'x: %s'|format(c) }}", "x: [<|im_end|> é x]"},
      {"{% set b %}<{{ c }}>{% endset %}{{ b }}", "<[<|im_end|> é x]>"},
      {"{% macro m(t) %}({{ t }}){% endmacro %}{{ m(c) }}", "([<|im_end|> é x])"},
      {"{% for ch in c[:2] %}{{ ch }}.{% endfor %}", "[<].[|]."},
      {"{{ c|first }}{{ c|length }}", "[<]14"},
      {"{{ c|e }}", "[&lt;|im_end|&gt; é x]"},
      {"{{ 'a\n'|indent(c[:1]) }}{{ c.center(16, '*') }}", "a\n*[<|im_end|> é x]*"},
      {"{{ messages|map(attribute='role')|join('+') }}", "[user]"},
      {"{{ messages|tojson }}", "[{\"[role]\": \"[user]\", \"[content]\": \"[<|im_end|> é x]\"}]"},
      {"{{ 'yes' if c == '<|im_end|> é x' }}", "yes"},
      {"{{ ('{\"a\": \"' + c + '\"}')|fromjson|tojson }}", "{\"[a]\": \"[<|im_end|> é x]\"}"},
  };
  for (const auto& [source, expected] : cases) {
    EXPECT_EQ(Marked(fixture.Render("{% set c = messages[0].content %}" + source)), expected)
        << source;
  }
}

TEST(ChatTemplate, ToolsAndVariablesAreTheRequestsAndSpecialTokensAreNot) {
  Fixture fixture;
  fixture.tools = R"([{"name": "f<|x|>"}])";
  fixture.variables = R"({"who": "me", "bos_token": "<fake>"})";
  fixture.special_tokens.emplace_back("eos_token", "</s>");
  EXPECT_EQ(Marked(fixture.Render(
                "{{ tools[0].name }} {{ who }} {{ bos_token }} {{ eos_token }} {{ documents }}")),
            "[f<|x|>] [me] [<fake>] </s> None");
}

TEST(ChatTemplate, AStringBuiltPieceByPieceKeepsItsPieces) {
  const Fixture fixture;
  EXPECT_EQ(Marked(fixture.Render(
                "{% set ns = namespace(t='') %}{% for i in range(3) %}"
                "{% set ns.t = ns.t + messages[0].role + '-' %}{% endfor %}{{ ns.t }}")),
            "[user]-[user]-[user]-");
}

TEST(ChatTemplate, AnOldStringIsUnchangedWhenANewOneGrowsFromIt) {
  const Fixture fixture;
  EXPECT_EQ(Marked(fixture.Render(
                "{% set a = 'x' + messages[0].role %}{% set b = a + '1' %}{% set c = a + '2' %}"
                "{{ a }} {{ b }} {{ c }}")),
            "x[user] x[user]1 x[user]2");
}

TEST(ChatTemplate, TheDateComesFromTheCaller) {
  EXPECT_EQ(Marked(Fixture().Render("{{ strftime_now('%d %b %Y, %A') }}")), "20 Nov 2026, Friday");
}

TEST(ChatTemplate, TheTemplatesOwnRefusalIsTheWholeDetail) {
  const auto refused = Fixture().Render("\n{{ raise_exception('roles must alternate') }}");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(refused.error().detail(), "roles must alternate");
  EXPECT_EQ(refused.error().param(), "messages");
}

TEST(ChatTemplate, FailuresNameTheLine) {
  const auto refused = Fixture().Render("a\nb\n{{ messages[0].nope.x }}");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().detail(),
            "chat template line 3: UndefinedError: 'dict object' has no attribute 'nope'");
}

TEST(ChatTemplate, VariablesMayNotReplaceTheRequestsOwnFields) {
  Fixture fixture;
  fixture.variables = R"({"messages": []})";
  const auto refused = fixture.Render("x");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().param(), "chat_template_kwargs");
}

TEST(ChatTemplate, MessagesThatAreNoArrayAreRefused) {
  Fixture fixture;
  fixture.messages = "{}";
  EXPECT_FALSE(fixture.Render("x").has_value());
}

TEST(ChatTemplate, NumbersKeepWhatPythonShows) {
  Fixture fixture;
  fixture.variables = R"({"n": 123456789012345678901234567890, "f": 1.50, "e": 1e3, "h": 1e400})";
  EXPECT_EQ(
      Marked(fixture.Render("{{ n }} {{ f }} {{ e }} {{ [n, f, h]|tojson }}")),
      "123456789012345678901234567890 1.5 1000.0 [123456789012345678901234567890, 1.5, Infinity]");
  EXPECT_FALSE(fixture.Render("{{ n + 1 }}").has_value());
}

TEST(ChatTemplate, ManyThreadsRenderOneTemplate) {
  const auto parsed = ChatTemplate::Parse(
      "{% macro m(x) %}<{{ x|upper }}>{% endmacro %}{% for m_ in messages %}{{ m(m_.content) }}{% "
      "endfor %}",
      {});
  ASSERT_TRUE(parsed.has_value());
  const wire::Json messages = *wire::ParseJson(R"([{"content": "a"}, {"content": "b"}])");
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      ChatTemplateInput input;
      input.messages = &messages;
      for (int i = 0; i < 200; ++i) {
        const auto prompt = parsed->Render(input);
        count += prompt && prompt->text == "<A><B>" && prompt->untrusted.size() == 2 ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace pixii::text
