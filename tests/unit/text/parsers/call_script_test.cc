// What a constrained model can write is read back by the format's own parser, for every format.
#include "text/parsers/call_script.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "text/grammar/grammar.h"
#include "text/grammar/grammar_matcher.h"
#include "text/parsers/call_form.h"
#include "text/parsers/chat_parser.h"
#include "wire/json.h"

namespace pixii::text::parsers {
namespace {

using grammar::GrammarMatcher;
using grammar::GrammarVocabulary;
using wire::Json;

constexpr int kStepsMax = 6'000;  // tokens of one walk

constexpr std::string_view kTools = R"([
  {"type":"function","function":{"name":"get","parameters":{"type":"object","properties":{
    "city":{"type":"string","maxLength":5},"days":{"type":"integer","minimum":-3,"maximum":40},
    "unit":{"enum":["c","f",null,true]},"at":{"type":["string","null"],"maxLength":4}},
    "required":["city"],"additionalProperties":false}}},
  {"type":"function","function":{"name":"get_all","parameters":{"type":"object","properties":{
    "tags":{"type":"array","items":{"type":"string","maxLength":3},"maxItems":2},
    "box":{"type":"object","properties":{"x":{"type":"number","multipleOf":0.5,"minimum":0,
    "maximum":9},"note":{"type":"string","maxLength":4}},"required":["x"],
    "additionalProperties":false},"on":{"type":"boolean"}},"required":["box","on"],
    "additionalProperties":false}}},
  {"type":"function","function":{"name":"ping","parameters":{"type":"object","properties":{},
    "additionalProperties":false}}}])";

struct Setting {
  bool required = true;
  bool one_call = false;
  bool marked = false;  // markers are tokens
  std::string only = {};
  std::string content_schema = {};
  std::string prompt_tail = {};
};

// Bytes, pieces of text and, if they are tokens, the markers of the formats; 0 is the end.
std::vector<std::string> Tokens(bool marked) {
  std::vector<std::string> out = {""};
  for (int byte = 1; byte < 0xFF; ++byte) {
    if (byte >= ' ' || byte == '\n') {
      out.emplace_back(1, static_cast<char>(byte));
    }
  }
  out.insert(out.end(), {"é", "\":", "</", "{\"", "\"}", "\\n", "\n\n", "null", "True", "tool",
                         "｜", "▁", "◁"});
  for (const std::string& marker : MarkerTexts()) {
    out.push_back(marked ? wire::kTokenMark + marker : marker);
  }
  return out;
}

class Walker final {
 public:
  Walker(const ChatFormat& format, const Setting& setting) : format_(format), setting_(setting) {
    const Json tools = *wire::ParseJson(kTools);
    for (const Json& tool : tools.array()) {
      const Json& function = *tool.Find("function");
      const std::string& name = function.Find("name")->string();
      if (setting.only.empty() || setting.only == name) {
        options_.tools.push_back({.name = name, .parameters = *function.Find("parameters")});
      }
    }
    options_.required = setting.required;
    options_.one_call = setting.one_call;
    options_.content_schema = setting.content_schema;
    tokens_ = Tokens(setting.marked);
    std::vector<std::string> bytes = tokens_;
    vocabulary_ = *GrammarVocabulary::FromBytes(std::move(bytes), {.eos_ids = {0}});
  }

  /// Errors of making and compiling the script.
  Result<void> Open() {
    PX_TRY(spec_.script, CallScript(format_, options_, setting_.prompt_tail));
    spec_.kind = wire::ConstraintKind::kScript;
    spec_.spelling = {.whitespace_run_max = 1, .needless_escapes = false};
    PX_TRY(grammar_, grammar::Compile(spec_));
    runtime_ = std::make_shared<grammar::GrammarRuntime>(grammar_, vocabulary_);
    return {};
  }

  /// A text of random tokens that the masks allow, empty if none was found in time.
  std::string Walk(std::uint32_t seed) {
    std::mt19937 random(seed);
    GrammarMatcher matcher(runtime_);
    std::vector<std::uint32_t> mask(vocabulary_->mask_words());
    std::string out;
    for (int step = 0; step < kStepsMax; ++step) {
      matcher.FillMask(mask);
      std::vector<TokenId> allowed;
      for (std::size_t id = 0; id < tokens_.size(); ++id) {
        if ((mask[id / 32] >> (id % 32) & 1U) == 0) {
          continue;
        }
        const std::string& text = tokens_[id];
        const bool ends = id == 0 || text.find_first_of("\"}])>:,'") != std::string::npos;
        // What closes is taken more often: walks end.
        allowed.insert(allowed.end(), ends && step > 40 ? 40U : 1U, static_cast<TokenId>(id));
      }
      if (allowed.empty()) {
        ADD_FAILURE() << "a dead end behind\n" << out;
        return {};
      }
      const TokenId token = allowed[random() % allowed.size()];
      EXPECT_TRUE(matcher.Accept(token));
      if (token == 0) {
        return out;
      }
      out += tokens_[static_cast<std::size_t>(token)];
    }
    return {};
  }

 private:
  const ChatFormat& format_;
  Setting setting_;
  CallScriptOptions options_;
  std::vector<std::string> tokens_;
  std::shared_ptr<const GrammarVocabulary> vocabulary_;
  grammar::GrammarSpec spec_;
  std::shared_ptr<const grammar::Grammar> grammar_;
  std::shared_ptr<grammar::GrammarRuntime> runtime_;
};

/// Events with the pieces of calls put together.
std::vector<ParseEvent> Whole(const std::vector<ParseEvent>& events) {
  std::vector<ParseEvent> out;
  for (const ParseEvent& event : events) {
    if (event.kind != ParseEvent::Kind::kCallPiece) {
      out.push_back(event);
      continue;
    }
    if (event.begins) {
      out.push_back(
          {.kind = ParseEvent::Kind::kCall, .text = {}, .call = event.call, .index = event.index});
      continue;
    }
    const auto call = std::ranges::find_if(out, [&](const ParseEvent& known) {
      return known.kind == ParseEvent::Kind::kCall && known.index == event.index;
    });
    EXPECT_NE(call, out.end());
    call->call.arguments += event.call.arguments;
  }
  return out;
}

bool Satisfies(const std::string& arguments, const Json& schema) {
  grammar::GrammarSpec spec;
  spec.kind = wire::ConstraintKind::kJsonSchema;
  spec.text = schema.Dump();
  std::vector<std::string> bytes;
  for (int byte = 0; byte < 256; ++byte) {
    bytes.emplace_back(1, static_cast<char>(byte));
  }
  GrammarMatcher matcher(*grammar::Compile(spec),
                         *GrammarVocabulary::FromBytes(std::move(bytes), {}));
  return matcher.AcceptBytes(arguments) && matcher.CanEnd();
}

class Reader final {
 public:
  Reader(const ChatFormat& format, const Setting& setting)
      : format_(format), setting_(setting), json_(*wire::ParseJson(kTools)), tools_(json_) {}

  std::vector<ParseEvent> Read(const std::string& text) const {
    return ParseAll(format_, tools_, Options(), setting_.prompt_tail, text);
  }

  /// The same in random pieces; `written`: arguments come while they are written.
  std::vector<ParseEvent> ReadPieces(const std::string& text, std::uint32_t seed,
                                     bool written = false) const {
    std::mt19937 random(seed);
    ChatParserOptions options = Options();
    options.pieces = written;
    ChatParser parser(format_, tools_, options, setting_.prompt_tail);
    std::vector<ParseEvent> out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = 1 + random() % 7;
      std::ranges::move(parser.Push(std::string_view(text).substr(at, size)),
                        std::back_inserter(out));
      at += size;
    }
    std::ranges::move(parser.End(), std::back_inserter(out));
    return JoinEvents(std::move(out));
  }

  void Check(const std::string& text, std::uint32_t seed) const {
    const std::vector<ParseEvent> events = Read(text);
    EXPECT_EQ(events, ReadPieces(text, seed)) << text;
    const std::vector<ParseEvent> pieces = ReadPieces(text, seed, true);
    EXPECT_EQ(pieces, ReadPieces(text, seed + 1, true)) << text;
    EXPECT_EQ(Whole(pieces), events) << text;
    std::size_t calls = 0;
    std::string content;
    for (const ParseEvent& event : events) {
      if (event.kind == ParseEvent::Kind::kContent) {
        content += event.text;
      }
      if (event.kind != ParseEvent::Kind::kCall) {
        continue;
      }
      ++calls;
      EXPECT_TRUE(setting_.only.empty() || event.call.name == setting_.only);
      const Json* schema = nullptr;
      for (const Json& tool : json_.array()) {
        const Json& function = *tool.Find("function");
        schema = function.Find("name")->string() == event.call.name ? function.Find("parameters")
                                                                    : schema;
      }
      ASSERT_NE(schema, nullptr) << event.call.name << " of\n" << text;
      EXPECT_TRUE(Satisfies(event.call.arguments, *schema))
          << event.call.name << event.call.arguments << " of\n"
          << text;
    }
    if (setting_.required) {
      EXPECT_GE(calls, 1U) << text;
      EXPECT_EQ(content, "") << text;
    }
    if (setting_.one_call) {
      EXPECT_LE(calls, 1U) << text;
    }
    if (calls == 0 && !setting_.content_schema.empty()) {
      EXPECT_TRUE(Satisfies(content, *wire::ParseJson(setting_.content_schema))) << text;
    }
  }

 private:
  ChatParserOptions Options() const { return {.calls = true, .one_call = setting_.one_call}; }

  const ChatFormat& format_;
  Setting setting_;
  Json json_;
  ToolSet tools_;
};

void WalkAndRead(const std::string& name, const Setting& setting, std::uint32_t walks) {
  ChatFormat format = *MakeChatFormat(name, name == "harmony" ? name : "none", "");
  if (setting.marked) {
    format.MarkTokens([](std::string_view text) { return text.size() > 3; });
  }
  SCOPED_TRACE(fmt::format("{} required={} one={} marked={} content={}", name, setting.required,
                           setting.one_call, setting.marked, setting.content_schema));
  Walker walker(format, setting);
  const Result<void> open = walker.Open();
  ASSERT_TRUE(open) << open.error().ToString();
  const Reader reader(format, setting);
  std::uint32_t ended = 0;
  for (std::uint32_t seed = 0; seed < walks; ++seed) {
    const std::string text = walker.Walk(seed);
    if (::testing::Test::HasFatalFailure()) {
      return;
    }
    ended += text.empty() ? 0 : 1;
    if (!text.empty()) {
      reader.Check(text, seed);
    }
  }
  EXPECT_GE(ended, setting.required ? walks / 2 : 1U) << "most walks must come to an end";
}

TEST(CallScript, RequiredCallsOfEveryFormatAreReadBackWithValidArguments) {
  for (const NamedCallFormat& format : CallFormats()) {
    for (const bool marked : {false, true}) {
      WalkAndRead(format.names[0], {.marked = marked}, 12);
      WalkAndRead(format.names[0], {.one_call = true, .marked = marked, .only = "get_all"}, 6);
    }
  }
}

TEST(CallScript, ArgumentsInJsonAreGivenOutWhileTheyAreWritten) {
  const std::string arguments = R"({"city":"a }","days":3})";
  for (const NamedCallFormat& named : CallFormats()) {
    CallForm form = FormOf(named.format);
    if (form.notation != wire::ScriptNotation::kJson) {
      continue;
    }
    SCOPED_TRACE(named.names[0]);
    std::string text = form.opener + form.begin + form.before_name + "get" + form.after_name +
                       arguments + form.after_arguments + form.end + form.closer;
    std::erase(text, kFormGap);
    std::ranges::replace(text, kFormDigits, '0');
    const ChatFormat format = *MakeChatFormat(named.names[0], "none", "");
    const ToolSet tools(*wire::ParseJson(kTools));
    ChatParser parser(format, tools, {.calls = true, .pieces = true}, {});
    std::size_t pieces = 0;
    std::string joined;
    for (const char byte : text.substr(0, text.find(arguments) + arguments.size() - 1)) {
      for (const ParseEvent& event : parser.Push(std::string_view(&byte, 1))) {
        EXPECT_EQ(event.kind, ParseEvent::Kind::kCallPiece);
        EXPECT_EQ(event.begins, pieces == 0);
        EXPECT_EQ(event.call.name, pieces == 0 ? "get" : "");
        ++pieces;
        joined += event.call.arguments;
      }
    }
    EXPECT_EQ(joined + "}", arguments);
    EXPECT_EQ(pieces, arguments.size() - 1) << "each byte as it comes";
    EXPECT_EQ(parser.call_count(), 0U) << "the call is not whole";
  }
}

TEST(CallScript, CallsInFreeTextAreEnforcedOnceTheyBegin) {
  for (const NamedCallFormat& format : CallFormats()) {
    for (const bool marked : {false, true}) {
      WalkAndRead(format.names[0], {.required = false, .marked = marked}, 12);
    }
  }
}

TEST(CallScript, AnswersAreCallsOrFollowTheSchemaOfTheContent) {
  for (const NamedCallFormat& format : CallFormats()) {
    const CallForm form = FormOf(format.format);
    if (form.bare && format.names[0] != "harmony") {
      continue;  // an answer in JSON would be read as a call
    }
    WalkAndRead(format.names[0],
                {.required = false,
                 .marked = true,
                 .content_schema = R"({"type":"object","properties":{"n":{"type":"integer",
                     "maximum":9,"minimum":0}},"required":["n"],"additionalProperties":false})"},
                8);
  }
}

}  // namespace
}  // namespace pixii::text::parsers
