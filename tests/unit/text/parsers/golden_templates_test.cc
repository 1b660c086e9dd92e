// Parsers against the chat templates that real models have: which format a template means, and
// that calls as the template itself writes them are read back; and the public answers of BFCL in
// every format.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

#include "support/golden.h"
#include "text/jinja/chat_template.h"
#include "text/parsers/chat_parser.h"
#include "unit/text/parsers/format_cases.h"

namespace pixii::text::parsers {
namespace {

using testing::AllWriters;
using testing::FormatWriter;
using testing::WrittenCall;
using wire::Json;

std::vector<Json> Lines(const std::string& path) {
  std::vector<Json> out;
  const std::string text = pixii::testing::ReadFileOrFail(path);
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) {
      Result<Json> line = wire::ParseJson(std::string_view(text).substr(begin, end - begin));
      EXPECT_TRUE(line);
      out.push_back(line ? *line : Json());
    }
    begin = end + 1;
  }
  return out;
}

std::map<std::string, std::string> Templates() {
  std::map<std::string, std::string> out;
  const auto golden = pixii::testing::GoldenDir();
  if (!golden) {
    return out;
  }
  for (const auto& entry : std::filesystem::directory_iterator(*golden + "/chat-templates")) {
    if (entry.is_directory()) {
      out[entry.path().filename().string()] =
          pixii::testing::ReadFileOrFail(entry.path().string() + "/template.jinja");
    }
  }
  return out;
}

// Part of a folder's name -> tool calls, reasoning. The first line that fits counts.
struct Expected {
  std::string_view name;
  std::string_view calls;
  std::string_view reasoning;
};

constexpr Expected kExpected[] = {
    {"Apertus", "apertus", "apertus"},
    {"Bielik", "hermes", "basic"},
    {"Cohere2MoE", "command_r7b", "command_r7b"},
    {"command-r7b", "command_r7b", "command_r7b"},
    {"GLM-", "glm47", "basic"},
    {"GigaChat", "gigachat3", "none"},
    {"SmolLM3", "none", "basic"},
    {"smollm3", "hermes", "basic"},
    {"Kimi-K2-Instruct", "kimi_k2", "none"},
    {"Kimi-K2-Thinking", "kimi_k2", "basic"},
    {"LFM2", "lfm2", "none"},
    {"MiroThinker", "hermes", "basic"},
    {"Hermes-", "hermes", "none"},
    {"hermes", "hermes", "none"},
    {"QwQ", "hermes", "basic"},
    {"Qwen3-0.6B", "hermes", "basic"},
    {"qwen3", "hermes", "basic"},
    {"Qwen3-Coder", "qwen3_coder", "none"},
    {"Qwen3.5", "qwen3_coder", "basic"},
    {"Step-3.5", "qwen3_coder", "basic"},
    {"Reka", "hermes", "basic"},
    {"DeepSeek-R1-Distill", "deepseek_v3", "basic"},
    {"cpp-deepseek-r1", "deepseek_v3", "basic"},
    {"DeepSeek-V3.1", "deepseek_v3_1", "basic"},
    {"firefunction", "phi4", "none"},
    {"gemma-2", "none", "none"},
    {"gemma-4", "gemma4", "gemma4"},
    {"granite", "granite", "granite3"},
    {"rwkv", "none", "basic"},
    {"functionary-medium-v3.1", "functionary_v3_1", "none"},
    {"functionary-medium-v3.2", "functionary", "none"},
    {"Llama-3", "llama3_json", "none"},
    {"Ministral", "mistral", "mistral_unforced"},
    {"gpt-oss", "harmony", "gpt_oss"},
    {"Apriel", "jamba", "apriel"},
    {"mistral-common--v1_spm", "none", "none"},
    {"mistral-common--v11_image_think", "mistral", "basic"},
    {"v13_think", "mistral", "mistral_unforced"},
    {"v13_image_think", "mistral", "mistral_unforced"},
    {"mistral-common--v1", "mistral", "none"},
    {"mistral-common", "mistral", "none"},
    {"phi-4-mini", "phi4", "none"},
    {"", "none", "none"},
};

TEST(GoldenTemplates, EveryTemplateTellsItsFormats) {
  const std::map<std::string, std::string> templates = Templates();
  if (templates.empty()) {
    GTEST_SKIP() << "no shared goldens";
  }
  for (const auto& [name, source] : templates) {
    const auto* expected = std::ranges::find_if(
        kExpected, [&](const Expected& line) { return name.find(line.name) != std::string::npos; });
    EXPECT_EQ(DetectCalls(source), name == "mistral-common--v1" ? "none" : expected->calls) << name;
    EXPECT_EQ(DetectReasoning(source), expected->reasoning) << name;
  }
}

constexpr std::string_view kTools = R"([
  {"type": "function", "function": {"name": "get_weather", "description": "d", "parameters":
    {"type": "object", "properties": {"location": {"type": "string", "description": "c"},
     "days": {"type": "integer", "description": "n"}, "deep": {"type": "object", "description": "o"},
     "on": {"type": "boolean", "description": "b"}}, "required": ["location"]}}}])";

// `as_string`: some templates join the arguments' text.
Json Conversation(const std::vector<WrittenCall>& calls, bool as_string) {
  Json::Array messages = wire::ParseJson(R"([{"role": "user", "content": "Weather?"}])")->array();
  if (!calls.empty()) {
    Json::Array made;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      Json function;
      function.Set("name", Json(calls[i].name));
      function.Set("arguments",
                   as_string ? Json(calls[i].arguments) : *wire::ParseJson(calls[i].arguments));
      Json call;
      call.Set("id", Json("abcdefgh" + std::to_string(i)));
      call.Set("type", Json("function"));
      call.Set("function", std::move(function));
      made.push_back(std::move(call));
    }
    Json message;
    message.Set("role", Json("assistant"));
    message.Set("content", Json(""));
    message.Set("tool_calls", Json(std::move(made)));
    messages.push_back(std::move(message));
  }
  return Json(std::move(messages));
}

Result<std::string> Render(const ChatTemplate& parsed, const Json& messages, bool prompt) {
  static const Json tools = *wire::ParseJson(kTools);
  static const std::vector<std::pair<std::string, std::string>> tokens = {{"bos_token", "<s>"},
                                                                          {"eos_token", "</s>"}};
  ChatTemplateInput input;
  input.messages = &messages;
  input.tools = &tools;
  input.add_generation_prompt = prompt;
  input.special_tokens = &tokens;
  input.now = {.year = 2026, .month = 11, .day = 20};
  PX_TRY(RenderedPrompt rendered, parsed.Render(input));
  return std::move(rendered.text);
}

// The calls of the template's own text, or why there are none.
Result<std::vector<ParsedCall>> ReadBack(const std::string& source,
                                         const std::vector<WrittenCall>& calls, bool as_string) {
  PX_TRY(ChatTemplate parsed, ChatTemplate::Parse(source, {}));
  PX_TRY(std::string prompt, Render(parsed, Conversation({}, false), true));
  PX_TRY(std::string whole, Render(parsed, Conversation(calls, as_string), false));
  std::size_t common =
      static_cast<std::size_t>(std::ranges::mismatch(prompt, whole).in1 - prompt.begin());
  // Not inside a marker that both begin alike.
  while (common < prompt.size() && common > 0 &&
         std::string_view(">\n]:").find(whole[common - 1]) == std::string::npos) {
    --common;
  }
  PX_TRY(ChatFormat format, MakeChatFormat("auto", "auto", source));
  const ToolSet tools(*wire::ParseJson(kTools));
  std::vector<ParsedCall> out;
  for (ParseEvent& event : ParseAll(format, tools, {.calls = true}, prompt.substr(0, common),
                                    std::string_view(whole).substr(common))) {
    if (event.kind == ParseEvent::Kind::kCall) {
      out.push_back(std::move(event.call));
    }
  }
  return out;
}

// With its keys in order: some templates sort them.
Json Sorted(const Json& value) {
  if (value.is_array()) {
    Json::Array out;
    for (const Json& item : value.array()) {
      out.push_back(Sorted(item));
    }
    return Json(std::move(out));
  }
  if (!value.is_object()) {
    return value;
  }
  Json::Object out;
  for (const auto& [key, member] : value.object()) {
    out.emplace_back(key, Sorted(member));
  }
  std::ranges::sort(out, {}, [](const wire::JsonMember& member) { return member.first; });
  return Json(std::move(out));
}

bool Equal(const std::vector<ParsedCall>& parsed, const std::vector<WrittenCall>& calls) {
  bool equal = parsed.size() == calls.size();
  for (std::size_t i = 0; equal && i < calls.size(); ++i) {
    Result<Json> json = wire::ParseJson(parsed[i].arguments);
    equal = parsed[i].name == calls[i].name && json &&
            Sorted(*json) == Sorted(*wire::ParseJson(calls[i].arguments));
  }
  return equal;
}

TEST(GoldenTemplates, CallsAsATemplateWritesThemAreReadBack) {
  const std::map<std::string, std::string> templates = Templates();
  if (templates.empty()) {
    GTEST_SKIP() << "no shared goldens";
  }
  // Templates that write no calls at all, or not for the model to read: they cannot be an oracle.
  const std::set<std::string> silent = {
      "llama.cpp--HuggingFaceTB-SmolLM3-3B", "mistral.rs--smollm3", "llama.cpp--LFM2-8B-A1B",
      "tokenizer-config--phi-4-mini", "llama.cpp--ibm-granite-granite-3.3-2B-Instruct"};
  const std::vector<std::vector<WrittenCall>> cases = {
      {{"get_weather", R"({"location":"Oslo"})"}},
      {{"get_weather",
        R"({"location":"東京 & <b> \"x\"","days":3,"deep":{"a":[1,2.5,null]},"on":true})"}},
      {{"get_weather", R"({"location":"A"})"}, {"get_weather", R"({"location":"B","days":-1})"}},
  };
  int read = 0;
  for (const auto& [name, source] : templates) {
    if (DetectCalls(source) == "none" || silent.contains(name)) {
      continue;
    }
    for (std::size_t i = 0; i < cases.size(); ++i) {
      if (i == 2 && (name.find("GigaChat") != std::string::npos ||
                     name.find("gpt-oss") != std::string::npos)) {
        continue;  // these write the first call only
      }
      std::string why;
      bool equal = false;
      bool rendered = false;
      for (bool as_string : {false, true}) {
        Result<std::vector<ParsedCall>> parsed = ReadBack(source, cases[i], as_string);
        if (!parsed) {
          why += parsed.error().detail() + "; ";
          continue;
        }
        rendered = true;
        equal = equal || Equal(*parsed, cases[i]);
        why += std::to_string(parsed->size()) + " calls" +
               (parsed->empty() ? "" : " " + (*parsed)[0].name + (*parsed)[0].arguments) + "; ";
      }
      read += equal ? 1 : 0;
      EXPECT_TRUE(equal || !rendered) << name << " case " << i << ": " << why;
      if (!rendered) {
        std::printf("not rendered: %s case %zu: %s\n", name.c_str(), i, why.c_str());
      }
    }
  }
  std::printf("%d read back\n", read);
  EXPECT_GE(read, 120);
}

// BFCL's foreign type names to JSON Schema's.
Json Mapped(const Json& schema) {
  if (!schema.is_object()) {
    return schema;
  }
  Json out{Json::Object{}};
  for (const auto& [key, value] : schema.object()) {
    if (key == "type" && value.is_string()) {
      static const std::map<std::string, std::string, std::less<>> kNames = {
          {"dict", "object"},   {"float", "number"}, {"tuple", "array"},   {"integer", "integer"},
          {"number", "number"}, {"array", "array"},  {"object", "object"}, {"boolean", "boolean"}};
      auto found = kNames.find(value.string());
      out.Set(key, Json(found == kNames.end() ? "string" : found->second));
    } else if (key == "properties" && value.is_object()) {
      Json properties{Json::Object{}};
      for (const auto& [name, property] : value.object()) {
        properties.Set(name, Mapped(property));
      }
      out.Set(key, std::move(properties));
    } else {
      out.Set(key, value);
    }
  }
  return out;
}

// Whether the value fits the schema's type; others say nothing about a parser.
bool Fits(const Json& schema, const Json& value) {
  const Json* type = schema.Find("type");
  std::string_view name = type == nullptr ? "" : std::string_view(type->string());
  return (name == "string" && value.is_string()) || (name == "array" && value.is_array()) ||
         (name == "object" && value.is_object()) || (name == "boolean" && value.is_bool()) ||
         ((name == "integer" || name == "number") && value.is_number());
}

TEST(GoldenTemplates, AnswersOfBfclAreReadBackInEveryFormat) {
  const auto data = pixii::testing::DataDir();
  if (!data || !std::filesystem::exists(*data + "/tool-calling")) {
    GTEST_SKIP() << "no shared data";
  }
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(*data + "/tool-calling/answers")) {
    std::map<std::string, Json> questions;
    for (Json& line :
         Lines(*data + "/tool-calling/questions/" + entry.path().filename().string())) {
      std::string id = line.Find("id")->string();
      questions[id] = std::move(line);
    }
    for (const Json& line : Lines(entry.path().string())) {
      const Json& question = questions.at(line.Find("id")->string());
      Json::Array tools;
      for (const Json& function : question.Find("function")->array()) {
        Json tool = function;
        tool.Set("parameters", Mapped(*function.Find("parameters")));
        tools.push_back(std::move(tool));
      }
      const Json declared{Json::Array(tools)};
      std::vector<WrittenCall> calls;
      for (const Json& truth : line.Find("ground_truth")->array()) {
        const auto& [name, parameters] = truth.object().at(0);
        Json arguments{Json::Object{}};
        for (const Json& tool : tools) {
          if (tool.Find("name")->string() != name) {
            continue;
          }
          for (const auto& [parameter, values] : parameters.object()) {
            const Json* schema = tool.Find("parameters")->Find("properties")->Find(parameter);
            if (schema != nullptr && !values.array().empty() && Fits(*schema, values.array()[0])) {
              arguments.Set(parameter, values.array()[0]);
            }
          }
        }
        calls.push_back({name, arguments.Dump()});
      }
      const ToolSet set(declared);
      for (const FormatWriter& writer : AllWriters()) {
        const ChatFormat format = *MakeChatFormat(writer.name, "none", {});
        std::vector<ParsedCall> parsed;
        for (ParseEvent& event : ParseAll(format, set, {.calls = true}, {}, writer.write(calls))) {
          if (event.kind == ParseEvent::Kind::kCall) {
            parsed.push_back(std::move(event.call));
          }
        }
        ASSERT_TRUE(Equal(parsed, calls)) << writer.name << " " << line.Find("id")->string() << "\n"
                                          << writer.write(calls);
        ++count;
      }
    }
  }
  std::printf("%d answers read back\n", count);
}

}  // namespace
}  // namespace pixii::text::parsers
