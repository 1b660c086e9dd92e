// Every chat template of the shared goldens, as transformers rendered it; and our own model's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "support/golden.h"
#include "text/jinja/chat_template.h"
#include "wire/json.h"

namespace pixii::text {
namespace {

/// The date in the goldens' RENDERED-ON, which strftime_now saw.
CivilTime RenderedOn(const std::string& folder) {
  const std::string text = pixii::testing::ReadFileOrFail(folder + "/RENDERED-ON");
  CivilTime time;
  if (std::sscanf(text.c_str(), "%d-%d-%d", &time.year, &time.month, &time.day) != 3) {
    ADD_FAILURE() << "no date in RENDERED-ON: " << text;
  }
  return time;
}

struct Tally {
  int cases = 0;
  int equal = 0;
  std::vector<std::string> differences;
};

/// How the golden writes our error: "TypeError: ...".
std::string AsPythonError(const Error& error) {
  if (error.param() == "messages") {
    return "TemplateError: " + error.detail();
  }
  const std::size_t line = error.detail().find(": ");
  return line == std::string::npos ? error.detail() : error.detail().substr(line + 2);
}

/// The ranges are sorted, disjoint, inside the text and on character boundaries.
void CheckRanges(const RenderedPrompt& prompt) {
  std::size_t at = 0;
  const auto boundary = [&](std::size_t i) {
    return i == prompt.text.size() || (static_cast<unsigned char>(prompt.text[i]) & 0xC0) != 0x80;
  };
  for (const TextRange& range : prompt.untrusted) {
    ASSERT_LE(at, range.begin);
    ASSERT_LT(range.begin, range.end);
    ASSERT_LE(range.end, prompt.text.size());
    ASSERT_TRUE(boundary(range.begin) && boundary(range.end));
    at = range.end;
  }
}

std::string RunCase(const ChatTemplate& parsed, const wire::Json& golden, const CivilTime& now) {
  const wire::Json no_tools;
  std::vector<std::pair<std::string, std::string>> special_tokens;
  wire::Json variables{wire::Json::Object()};
  for (const auto& [name, value] : golden.Find("variables")->object()) {
    if (name.ends_with("_token")) {
      special_tokens.emplace_back(name, value.string());
    } else {
      variables.Set(name, value);
    }
  }
  ChatTemplateInput input;
  input.messages = golden.Find("messages");
  input.tools = golden.Find("tools");
  input.add_generation_prompt = golden.Find("add_generation_prompt")->boolean();
  input.variables = &variables;
  input.special_tokens = &special_tokens;
  input.now = now;
  const auto rendered = parsed.Render(input);
  if (rendered) {
    CheckRanges(*rendered);
  }
  const wire::Json* text = golden.Find("text");
  const wire::Json* error = golden.Find("error");
  if (text != nullptr && text->is_string()) {
    if (!rendered) {
      return "failed: " + rendered.error().ToString();
    }
    return rendered->text == text->string()
               ? ""
               : "rendered\n" + rendered->text + "\nnot\n" + text->string();
  }
  if (rendered) {
    return "rendered instead of " + error->string();
  }
  const std::string ours = AsPythonError(rendered.error());
  return ours == error->string() ? "" : "error '" + ours + "' instead of '" + error->string() + "'";
}

Tally RunFolder(const std::string& template_path, const std::string& golden_path,
                const CivilTime& now) {
  Tally tally;
  const auto parsed = ChatTemplate::Parse(pixii::testing::ReadFileOrFail(template_path), {});
  if (!parsed) {
    tally.differences.push_back("does not parse: " + parsed.error().ToString());
    return tally;
  }
  const std::string lines = pixii::testing::ReadFileOrFail(golden_path);
  for (std::size_t begin = 0; begin < lines.size();) {
    const std::size_t end = std::min(lines.find('\n', begin), lines.size());
    if (end > begin) {
      const auto golden = wire::ParseJson(std::string_view(lines).substr(begin, end - begin));
      if (!golden) {
        tally.differences.push_back("bad golden line");
        return tally;
      }
      ++tally.cases;
      const std::string difference = RunCase(*parsed, *golden, now);
      tally.equal += difference.empty() ? 1 : 0;
      if (!difference.empty()) {
        tally.differences.push_back("case " + std::to_string(tally.cases) + ": " + difference);
      }
    }
    begin = end + 1;
  }
  return tally;
}

TEST(ChatTemplateGolden, EveryTemplateRendersAsTransformersDoesErrorsIncluded) {
  const auto golden = pixii::testing::GoldenDir();
  if (!golden) {
    GTEST_SKIP() << "no shared goldens";
  }
  const std::string root = *golden + "/chat-templates";
  const CivilTime now = RenderedOn(root);
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (entry.is_directory()) {
      folders.push_back(entry.path().filename().string());
    }
  }
  std::sort(folders.begin(), folders.end());
  ASSERT_FALSE(folders.empty());
  int cases = 0;
  int equal = 0;
  for (const std::string& folder : folders) {
    const Tally tally = RunFolder(root + "/" + folder + "/template.jinja",
                                  root + "/" + folder + "/golden.jsonl", now);
    std::printf("%4d of %4d  %s\n", tally.equal, tally.cases, folder.c_str());
    cases += tally.cases;
    equal += tally.equal;
    EXPECT_GT(tally.cases, 0) << folder;
    for (std::size_t i = 0; i < std::min<std::size_t>(2, tally.differences.size()); ++i) {
      ADD_FAILURE() << folder << " " << tally.differences[i];
    }
    EXPECT_EQ(tally.equal, tally.cases) << folder;
  }
  std::printf("%4d of %4d  in all\n", equal, cases);
}

TEST(ChatTemplateGolden, OurOwnModelsTemplatesRenderAsRecorded) {
  for (const std::string name : {"tiny-chat", "tiny-vlm"}) {
    SCOPED_TRACE(name);
    const std::string golden = pixii::testing::OwnGoldenDir() + "/" + name + "/template.jsonl";
    const std::string source = testing::SourceDir() + "/models/" + name + "/chat_template.jinja";
    const Tally tally = RunFolder(source, golden, {});
    EXPECT_GT(tally.cases, 0);
    for (const std::string& difference : tally.differences) {
      ADD_FAILURE() << difference;
    }
  }
}

}  // namespace
}  // namespace pixii::text
