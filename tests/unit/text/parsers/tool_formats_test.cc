// Every tool-call format: what it means, and that the cuts of the stream change nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <thread>

#include "text/parsers/chat_parser.h"
#include "text/parsers/json_scanner.h"
#include "unit/text/parsers/format_cases.h"

namespace pixii::text::parsers {
namespace {

using testing::AllWriters;
using testing::FormatWriter;
using testing::WrittenCall;
using wire::Json;

// Any value but what the schema says; "text" is a string, "count" a number, "deep" an object.
const ToolSet& Tools() {
  static const ToolSet tools(*wire::ParseJson(R"([
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object",
      "properties": {"text": {"type": "string"}, "count": {"type": "integer"},
        "rate": {"type": ["number", "null"]}, "on": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "string"}}, "deep": {"$ref": "#/$defs/d"}},
      "$defs": {"d": {"type": "object"}}}}},
    {"type": "function", "function": {"name": "now"}},
    {"type": "function", "function": {"name": "needs", "parameters": {"type": "object",
      "properties": {"a": {"type": "string"}}, "required": ["a"]}}}])"));
  return tools;
}

struct Parsed {
  std::string content;
  std::string reasoning;
  std::vector<ParsedCall> calls;
};

Parsed Summed(const std::vector<ParseEvent>& events) {
  Parsed out;
  for (const ParseEvent& event : events) {
    if (event.kind == ParseEvent::Kind::kContent) {
      out.content += event.text;
    } else if (event.kind == ParseEvent::Kind::kReasoning) {
      out.reasoning += event.text;
    } else if (event.kind == ParseEvent::Kind::kCall) {
      EXPECT_EQ(event.index, out.calls.size());
      out.calls.push_back(event.call);
    }
  }
  return out;
}

std::vector<ParseEvent> ParseCut(const ChatFormat& format, std::string_view text,
                                 const std::vector<std::size_t>& cuts) {
  ChatParser parser(format, Tools(), {.calls = true}, {});
  std::vector<ParseEvent> events;
  const auto take = [&](std::vector<ParseEvent> more) {
    std::ranges::move(more, std::back_inserter(events));
  };
  std::size_t at = 0;
  for (std::size_t cut : cuts) {
    take(parser.Push(text.substr(at, cut - at)));
    at = cut;
  }
  take(parser.Push(text.substr(at)));
  take(parser.End());
  return JoinEvents(std::move(events));
}

ChatFormat FormatOf(const std::string& name, const std::string& reasoning = "none") {
  Result<ChatFormat> format = MakeChatFormat(name, reasoning, {});
  EXPECT_TRUE(format);
  return format ? *format : ChatFormat{};
}

Parsed Parse(const std::string& format, std::string_view text) {
  const ChatFormat made = FormatOf(format);
  return Summed(ParseAll(made, Tools(), {.calls = true}, {}, text));
}

// All 2-cuts, every byte alone, and random partitions give what the whole text gives.
void ExpectSameForAllCuts(const ChatFormat& format, const std::string& text, int random_count) {
  const std::vector<ParseEvent> whole = ParseCut(format, text, {});
  std::vector<std::size_t> all;
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    ASSERT_EQ(ParseCut(format, text, {cut}), whole) << "cut at " << cut << " of " << text;
    all.push_back(cut);
  }
  ASSERT_EQ(ParseCut(format, text, all), whole) << text;
  std::mt19937 random(7);
  for (int i = 0; i < random_count; ++i) {
    std::vector<std::size_t> cuts;
    std::sample(all.begin(), all.end(), std::back_inserter(cuts),
                static_cast<std::ptrdiff_t>(random() % (text.size() + 1)), random);
    ASSERT_EQ(ParseCut(format, text, cuts), whole) << text;
  }
}

const std::vector<WrittenCall>& OneCall() {
  static const std::vector<WrittenCall> calls = {
      {"get_weather", R"({"text": "Oslo", "count": 3})"}};
  return calls;
}

const std::vector<WrittenCall>& HardCalls() {
  static const std::vector<WrittenCall> calls = {
      {"get_weather",
       R"({"text": "삼겹살 🦊 \"}]\" ls 2>&1 mkdir -p test/{test1,test2", )"
       R"("count": 12345678901234567890123, "rate": -0.0, "on": true, )"
       R"("list": ["a,b", "", "]"], "deep": {"n": {"m": [1, 2.50, null]}, "e": {}}})"},
      {"now", "{}"},
      {"get_weather", R"({"rate": null, "text": "print(\"</parameter>\") </tool_call"})"},
  };
  return calls;
}

void ExpectCalls(const FormatWriter& writer, const std::vector<WrittenCall>& calls,
                 const Parsed& parsed) {
  ASSERT_EQ(parsed.calls.size(), calls.size()) << writer.name << ": " << writer.write(calls);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(parsed.calls[i].name, calls[i].name);
    if (writer.exact) {
      EXPECT_EQ(parsed.calls[i].arguments, calls[i].arguments) << writer.name;
    } else {
      Result<Json> json = wire::ParseJson(parsed.calls[i].arguments);
      ASSERT_TRUE(json) << writer.name << ": " << parsed.calls[i].arguments;
      EXPECT_EQ(json->Dump(), wire::ParseJson(calls[i].arguments)->Dump()) << writer.name;
    }
  }
}

TEST(ToolFormats, EveryFormatHasATest) {
  std::set<std::string> written;
  for (const FormatWriter& writer : AllWriters()) {
    written.insert(writer.name);
  }
  for (const NamedCallFormat& format : CallFormats()) {
    EXPECT_TRUE(written.contains(format.names[0])) << format.names[0];
  }
}

TEST(ToolFormats, OneCallParallelCallsAndHardArguments) {
  for (const FormatWriter& writer : AllWriters()) {
    ExpectCalls(writer, OneCall(), Parse(writer.name, writer.write(OneCall())));
    ExpectCalls(writer, HardCalls(), Parse(writer.name, writer.write(HardCalls())));
    EXPECT_EQ(Parse(writer.name, writer.write(HardCalls())).content, "") << writer.name;
  }
}

TEST(ToolFormats, TextBeforeACallStaysAsItIs) {
  for (const FormatWriter& writer : AllWriters()) {
    if (writer.name == "pythonic" || writer.name == "harmony") {
      continue;  // a list stands alone; harmony has a channel for it
    }
    Parsed parsed = Parse(writer.name, "Let me look: <b> 1 < 2\n" + writer.write(OneCall()));
    ExpectCalls(writer, OneCall(), parsed);
    EXPECT_EQ(parsed.content, "Let me look: <b> 1 < 2\n") << writer.name;
  }
}

TEST(ToolFormats, TextBehindACallIsContentAndItsWhiteSpaceIsNot) {
  EXPECT_EQ(Parse("hermes", "<tool_call>{\"name\":\"now\"}</tool_call>\n\n").content, "");
  EXPECT_EQ(Parse("hermes", "<tool_call>{\"name\":\"now\"}</tool_call>\n\nDone.").content,
            "\n\nDone.");
  EXPECT_EQ(Parse("llama3_json", "<|python_tag|>{\"name\":\"now\",\"parameters\":{}} ok").content,
            "ok");
}

TEST(ToolFormats, TextWithoutCallsPassesThroughWhole) {
  for (const FormatWriter& writer : AllWriters()) {
    for (std::string text : {"Hello <world> [1, 2] {\"a\": 1}", "  \n", "<tool_", "[", "{\"x\": [",
                             "[ 1, 2 ]", "{\"name\": \"Bob\", \"age\": 3}", ""}) {
      EXPECT_EQ(Parse(writer.name, text).content, text) << writer.name;
      EXPECT_TRUE(Parse(writer.name, text).calls.empty()) << writer.name;
    }
  }
}

// Field report, case 21: two calls of the same tool, one without arguments; every partition.
TEST(ToolFormats, FieldReportCase21EveryPartitionIsParsedAlike) {
  const std::vector<std::vector<WrittenCall>> cases = {
      {{"now", "{}"}, {"get_weather", R"({"text": "a"})"}},
      {{"get_weather", R"({"text": "a"})"}, {"now", "{}"}},
      {{"get_weather", R"({"text": "a"})"}, {"get_weather", "{}"}},
      HardCalls()};
  for (const FormatWriter& writer : AllWriters()) {
    const ChatFormat format = FormatOf(writer.name);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      ExpectSameForAllCuts(format, writer.write(cases[i]), i == 3 ? 1'000 : 100);
      ExpectCalls(writer, cases[i], Parse(writer.name, writer.write(cases[i])));
    }
  }
}

TEST(ToolFormats, FieldReportCase21ManyAtOnceAreParsedLikeOneAlone) {
  for (const FormatWriter& writer : AllWriters()) {
    const ChatFormat format = FormatOf(writer.name);
    const std::string text = writer.write(HardCalls());
    const std::vector<ParseEvent> whole = ParseCut(format, text, {});
    std::vector<ChatParser> parsers;
    for (int i = 0; i < 64; ++i) {
      parsers.emplace_back(format, Tools(), ChatParserOptions{.calls = true}, "");
    }
    std::vector<std::vector<ParseEvent>> events(64);
    for (char byte : text) {
      for (std::size_t i = 0; i < 64; ++i) {
        std::ranges::move(parsers[i].Push({&byte, 1}), std::back_inserter(events[i]));
      }
    }
    for (std::size_t i = 0; i < 64; ++i) {
      std::ranges::move(parsers[i].End(), std::back_inserter(events[i]));
      ASSERT_EQ(JoinEvents(events[i]), whole) << writer.name;
    }
  }
}

// Whatever is cut off: no marker in the content, no call that is not whole, and all cuts alike.
TEST(ToolFormats, TruncatedCallsNeverLeakMarkup) {
  for (const FormatWriter& writer : AllWriters()) {
    const ChatFormat format = FormatOf(writer.name);
    const std::string text = writer.write(OneCall());
    for (std::size_t size = 0; size < text.size(); ++size) {
      std::string cut = text.substr(0, size);
      Parsed parsed = Parse(writer.name, cut);
      for (const std::string& marker : writer.markers) {
        EXPECT_EQ(parsed.content.find(marker), std::string::npos) << writer.name << ": " << cut;
      }
      ASSERT_LE(parsed.calls.size(), 1U);
      if (!parsed.calls.empty()) {
        EXPECT_FALSE(writer.strict) << writer.name << ": " << cut;
        ExpectCalls(writer, OneCall(), parsed);
      }
      ExpectSameForAllCuts(format, cut, 1);
    }
  }
}

TEST(ToolFormats, FieldReportCase22BrokenMarkupStaysOutOfTheContent) {
  EXPECT_EQ(Parse("hermes", "<tool_call>{\"name\": \"get_w").content, "");
  Parsed orphan = Parse(
      "nemotron_deci", R"([{"name": "get_weather", "arguments": {"location": "NYC"}}]</TOOLCALL>)");
  ASSERT_EQ(orphan.calls.size(), 1U);
  EXPECT_EQ(orphan.calls[0].arguments, R"({"location": "NYC"})");
  EXPECT_EQ(orphan.content, "");
  EXPECT_EQ(Parse("mistral", "[/TOOL_CALLS]").content, "");
  Parsed bare = Parse("hermes", "<tool_call>{\"name\": \"now\"}</tool_call>");
  ASSERT_EQ(bare.calls.size(), 1U);
  EXPECT_EQ(bare.calls[0].arguments, "{}");
  EXPECT_TRUE(Parse("hermes", "<tool_call>{\"name\": \"needs\"}</tool_call>").calls.empty());
  EXPECT_EQ(Parse("nemotron_deci", "<TOOLCALL>not a json array</TOOLCALL>").content,
            "not a json array");
  std::string many;
  for (int i = 0; i < 10'000; ++i) {
    many += "<tool_call>";
  }
  for (const NamedCallFormat& format : CallFormats()) {
    if (format.names[0] == "hermes" || format.names[0] == "qwen3_coder" ||
        format.names[0] == "glm47") {
      EXPECT_EQ(Parse(format.names[0], many).content, "") << format.names[0];
      EXPECT_TRUE(Parse(format.names[0], many).calls.empty());
    }
  }
}

TEST(ToolFormats, FieldReportCase22ACallBehindABrokenOneIsFound) {
  EXPECT_EQ(Parse("hermes",
                  "<tool_call>{\"name\": oops}</tool_call> and <tool_call>{\"name\": \"now\", "
                  "\"arguments\": {}}</tool_call>")
                .calls.size(),
            1U);
  // The string never ends, so the first block swallows the rest until the stream is over.
  EXPECT_EQ(Parse("hermes",
                  "<tool_call>{\"name\": \"now}</tool_call> and <tool_call>{'name'}</tool_call>ok")
                .content,
            " and ok");
}

TEST(ToolFormats, FieldReportCase23HostileValuesMeanWhatTheModelMeant) {
  const std::set<std::string> kTriedWithMegabytes = {"hermes", "kimi_k2",  "qwen3_coder",
                                                     "gemma4", "pythonic", "harmony"};
  const std::vector<std::string> texts = {"ls 2>&1",
                                          "mkdir -p test/{test1,test2",
                                          "print(\"</parameter>\")",
                                          "echo </tool_call>",
                                          "{\"a\":\"}\\\"]\"}",
                                          "12345678901234567890",
                                          "null",
                                          "</arg_value>x",
                                          "a </parameter>\n<b>",
                                          std::string(5 << 20, 'x')};
  for (const FormatWriter& writer : AllWriters()) {
    for (const std::string& text : texts) {
      if (writer.name == "glm47" && text.find("</arg_value>") != std::string::npos) {
        continue;  // covered below
      }
      if (text.size() > 1'000 && !kTriedWithMegabytes.contains(writer.name)) {
        continue;  // one of each family is enough
      }
      std::vector<WrittenCall> calls = {{"get_weather", "{\"text\": " + Quoted(text) + "}"}};
      Parsed parsed = Parse(writer.name, writer.write(calls));
      ASSERT_EQ(parsed.calls.size(), 1U) << writer.name << ": " << text.substr(0, 50);
      Result<Json> json = wire::ParseJson(parsed.calls[0].arguments);
      ASSERT_TRUE(json);
      ASSERT_NE(json->Find("text"), nullptr);
      EXPECT_TRUE(*json->Find("text") == Json(text)) << writer.name << ": " << text.substr(0, 50);
    }
  }
}

TEST(ToolFormats, RawControlCharactersInStringsAreEscaped) {
  EXPECT_EQ(
      Parse("hermes",
            "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": \"x\ny\t\x01\"}}</tool_call>")
          .calls.at(0)
          .arguments,
      "{\"a\": \"x\\ny\\t\\u0001\"}");
}

TEST(ToolFormats, ArgumentsWrittenAsAStringAreTheObjectInside) {
  EXPECT_EQ(
      Parse("hermes", R"(<tool_call>{"name":"now","arguments":"{\"a\": \"\\u00e9\"}"}</tool_call>)")
          .calls.at(0)
          .arguments,
      R"({"a": "\u00e9"})");
}

TEST(ToolFormats, TypesOfParametersComeFromTheSchema) {
  const auto typed = [](std::string_view parameter, std::string_view text) {
    return Tools().Typed("get_weather", parameter, text);
  };
  EXPECT_EQ(typed("text", "12"), "\"12\"");
  EXPECT_EQ(typed("count", "12"), "12");
  EXPECT_EQ(typed("count", "twelve"), "\"twelve\"");
  EXPECT_EQ(typed("rate", "null"), "null");
  EXPECT_EQ(typed("on", "True"), "true");
  EXPECT_EQ(typed("list", "['a', \"b\"]"), R"(["a", "b"])");
  EXPECT_EQ(typed("deep", "{\"a\":  1.50}"), "{\"a\":  1.50}");
  EXPECT_EQ(typed("unknown", "1e400"), "1e400");
  EXPECT_EQ(typed("unknown", "\"x\""), R"("\"x\"")");
}

TEST(ToolFormats, PythonLiteralsKeepTheirDigits) {
  EXPECT_EQ(
      Parse("pythonic",
            "[get_weather('Oslo', count=0xFFFFFFFFFFFFFFFFFF, rate=1_000.50, deep={'a': (1, .5)})]")
          .calls.at(0)
          .arguments,
      R"({"text": "Oslo", "count": 4722366482869645213695, "rate": 1000.50, "deep": {"a": [1, 0.5]}})");
}

TEST(ToolFormats, OnlyTheFirstCallCountsWhereCallsMayNotBeParallel) {
  for (const FormatWriter& writer : AllWriters()) {
    const ChatFormat format = FormatOf(writer.name);
    ChatParser parser(format, Tools(), {.calls = true, .one_call = true}, {});
    Parsed parsed = Summed(parser.Push(writer.write(HardCalls()) + " and text behind"));
    EXPECT_EQ(parsed.calls.size(), 1U) << writer.name;
    EXPECT_EQ(parsed.content, "") << writer.name;
    EXPECT_TRUE(parser.finished()) << writer.name;
  }
}

TEST(ToolFormats, KimiKeepsItsIds) {
  Parsed parsed = Parse(
      "kimi_k2",
      "<|tool_call_section_begin|><|tool_call_begin|>functions.now:12<|tool_call_argument_begin|>{}"
      "<|tool_call_end|><|tool_call_section_end|>");
  EXPECT_EQ(parsed.calls.at(0).id, "functions.now:12");
  EXPECT_EQ(parsed.calls.at(0).name, "now");
}

TEST(ToolFormats, FieldReportCase24HarmonyHeadersInAnyOrder) {
  for (std::string header :
       {"<|channel|>commentary to=functions.web-browsing <|constrain|>json<|message|>",
        " to=functions.web-browsing<|channel|>commentary json<|message|>",
        "<|start|>assistant to=functions.web-browsing<|channel|>––commentary<|message|>"}) {
    Parsed parsed = Parse("harmony", header + "{\"q\": 1}<|call|>");
    ASSERT_EQ(parsed.calls.size(), 1U) << header;
    EXPECT_EQ(parsed.calls[0].name, "web-browsing");
    EXPECT_EQ(parsed.content, "");
  }
  const ChatFormat format = FormatOf("harmony", "gpt_oss");
  Parsed parsed = Summed(ParseAll(
      format, Tools(), {.calls = true}, {},
      "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi!"));
  EXPECT_EQ(parsed.reasoning, "Hm.");
  EXPECT_EQ(parsed.content, "Hi!");
  EXPECT_EQ(Parse("harmony", "plain text").content, "plain text");
}

TEST(ToolFormats, AMarkerThatIsATokenIsNotFoundInText) {
  ChatFormat format = FormatOf("hermes");
  format.MarkTokens([](std::string_view marker) { return marker == "<tool_call>"; });
  EXPECT_EQ(format.token_markers, std::vector<std::string>{"<tool_call>"});
  const std::string spelt = "write <tool_call>{\"name\": \"now\"}";
  EXPECT_EQ(Summed(ParseAll(format, Tools(), {.calls = true}, {}, spelt)).content, spelt);
  Parsed parsed = Summed(ParseAll(format, Tools(), {.calls = true}, {},
                                  "\xFF<tool_call>{\"name\": \"now\"}</tool_call>\xFF<other>"));
  EXPECT_EQ(parsed.calls.size(), 1U);
  EXPECT_EQ(parsed.content, "<other>");
}

TEST(ToolFormats, AnUnknownNameIsRefusedWithTheNearest) {
  Result<ChatFormat> format = MakeChatFormat("hermse", "none", {});
  ASSERT_FALSE(format);
  EXPECT_THAT(format.error().detail(), ::testing::HasSubstr("\"hermes\""));
  EXPECT_EQ(MakeChatFormat("Qwen25", "DEEPSEEK_R1", {})->calls_name, "hermes");
  EXPECT_FALSE(MakeChatFormat("none", "thinkk", {}));
}

TEST(JsonText, TakesWhatJsonTakesAndNothingElse) {
  for (std::string_view good : {"{}", "[]", " [1, -0.5e+3, \"\\u00e9\\n\", true, null] ", "0", "-1",
                                "\"x\"", "{\"a\": {\"b\": []}}"}) {
    EXPECT_TRUE(IsJson(good)) << good;
    EXPECT_TRUE(wire::ParseJson(good)) << good;
  }
  for (std::string_view bad :
       {"", "{", "[1,]", "{\"a\"}", "01", "1.", "+1", "tru", "\"\\x\"", "{\"a\": 1,}", "[1 2]",
        "1 1", "\"a\nb\"", "}", "nul1", "--1", "1e"}) {
    EXPECT_FALSE(IsJson(bad)) << bad;
    EXPECT_FALSE(wire::ParseJson(bad)) << bad;
  }
}

}  // namespace
}  // namespace pixii::text::parsers
