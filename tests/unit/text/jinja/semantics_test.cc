// Small templates as Jinja2 3.1 answered them (tests/golden/jinja, recorded by make_cases.py
// there).
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "support/golden.h"
#include "text/jinja/chat_template.h"
#include "wire/json.h"

namespace pixii::text {
namespace {

wire::Json ParseOrFail(std::string_view text) {
  auto json = wire::ParseJson(text);
  EXPECT_TRUE(json.has_value()) << text.substr(0, 200);
  return json ? std::move(*json) : wire::Json();
}

Result<RenderedPrompt> Render(const std::string& source, const wire::Json& variables) {
  PX_TRY(const ChatTemplate parsed, ChatTemplate::Parse(source, {}));
  const wire::Json messages{wire::Json::Array()};
  ChatTemplateInput input;
  input.messages = &messages;
  input.variables = &variables;
  input.now = {.year = 2026, .month = 11, .day = 20, .hour = 9, .minute = 5, .second = 7};
  return parsed.Render(input);
}

/// Whether our refusal is what Python raised: the same exception with the same words. Where Jinja
/// refuses the source, that we do too is enough: its wording names its own tokens.
bool SameRefusal(const Error& ours, const std::string& python) {
  if (python.starts_with("Template") || python.starts_with("SyntaxError")) {
    return true;
  }
  const std::string detail =
      ours.param() == "messages" ? "TemplateError: " + ours.detail() : ours.detail();
  return detail.ends_with(python);
}

TEST(JinjaSemantics, SmallTemplatesGiveWhatJinjaGives) {
  const std::string folder = pixii::testing::OwnGoldenDir() + "/jinja";
  const wire::Json variables =
      ParseOrFail(pixii::testing::ReadFileOrFail(folder + "/variables.json"));
  const std::string lines = pixii::testing::ReadFileOrFail(folder + "/cases.jsonl");
  int cases = 0;
  for (std::size_t begin = 0; begin < lines.size();) {
    const std::size_t end = std::min(lines.find('\n', begin), lines.size());
    const wire::Json golden = ParseOrFail(std::string_view(lines).substr(begin, end - begin));
    begin = end + 1;
    ++cases;
    const std::string& source = golden.Find("template")->string();
    const auto rendered = Render(source, variables);
    if (const wire::Json* text = golden.Find("text")) {
      EXPECT_TRUE(rendered.has_value()) << source << "\n" << rendered.error().ToString();
      if (rendered) {
        EXPECT_EQ(rendered->text, text->string()) << source;
      }
      continue;
    }
    const std::string& error = golden.Find("error")->string();
    EXPECT_FALSE(rendered.has_value()) << source << "\nrendered instead of " << error;
    if (!rendered) {
      EXPECT_TRUE(SameRefusal(rendered.error(), error)) << source << "\n"
                                                        << rendered.error().ToString() << "\n"
                                                        << error;
    }
  }
  EXPECT_GT(cases, 150);
}

}  // namespace
}  // namespace pixii::text
