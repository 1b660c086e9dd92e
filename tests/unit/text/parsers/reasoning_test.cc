// Every reasoning format: what is thought and what is said, wherever the stream is cut.
#include <gtest/gtest.h>

#include <iterator>

#include "text/parsers/chat_parser.h"

namespace pixii::text::parsers {
namespace {

struct Split {
  std::string reasoning;
  std::string content;
  int ends = 0;

  friend bool operator==(const Split&, const Split&) = default;
};

Split Read(const ChatFormat& format, std::string_view text, std::size_t cut, std::string_view tail,
           bool calls = false) {
  static const ToolSet tools;
  ChatParser parser(format, tools, {.calls = calls}, tail);
  Split out;
  const auto take = [&](const std::vector<ParseEvent>& events) {
    for (const ParseEvent& event : events) {
      out.reasoning += event.kind == ParseEvent::Kind::kReasoning ? event.text : "";
      out.content += event.kind == ParseEvent::Kind::kContent ? event.text : "";
      out.ends += event.kind == ParseEvent::Kind::kReasoningEnd ? 1 : 0;
    }
  };
  take(parser.Push(text.substr(0, cut)));
  take(parser.Push(text.substr(cut)));
  take(parser.End());
  return out;
}

Split Read(const std::string& name, std::string_view text, std::string_view tail = {}) {
  const ChatFormat format = *MakeChatFormat("none", name, {});
  const Split whole = Read(format, text, text.size(), tail);
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    EXPECT_EQ(Read(format, text, cut, tail), whole) << name << " cut at " << cut;
  }
  return whole;
}

TEST(Reasoning, EveryFormatSplitsAtItsMarkers) {
  for (const NamedReasoningFormat& named : ReasoningFormats()) {
    if (named.harmony) {
      continue;
    }
    for (const std::string& name : named.names) {
      const std::string open = named.format.openers[0];
      const std::string close = named.format.closers[0];
      EXPECT_EQ(Read(name, open + "thinking 삼겹살" + close + "answer"),
                (Split{"thinking 삼겹살", "answer", 1}))
          << name;
      EXPECT_EQ(Read(name, open + close + "answer"), (Split{"", "answer", 0})) << name;
      EXPECT_EQ(Read(name, open + "cut off"), (Split{"cut off", "", 1})) << name;
      if (named.format.forced) {
        EXPECT_EQ(Read(name, "thinking" + close + "answer"), (Split{"thinking", "answer", 1}));
        EXPECT_EQ(Read(name, "answer", open + close + "\n\n"), (Split{"", "answer", 0}));
      } else {
        EXPECT_EQ(Read(name, "just an answer"), (Split{"", "just an answer", 0})) << name;
        EXPECT_EQ(Read(name, "answer" + close + " goes on"), (Split{"", "answer goes on", 0}));
      }
      EXPECT_EQ(Read(name, "thinking" + close + "answer", "user\n" + open + "\n"),
                (Split{"thinking", "answer", 1}))
          << name;
    }
  }
}

TEST(Reasoning, FieldReportCase24AMentionOfTheMarkerIsText) {
  EXPECT_EQ(Read("basic", "<think>the tag `</think>` ends it</think>So `<think>` begins."),
            (Split{"the tag `</think>` ends it", "So `<think>` begins.", 1}));
  EXPECT_EQ(Read("basic", "<think>code `x`</think>y"), (Split{"code `x`", "y", 1}));
  EXPECT_EQ(Read("basic", "<think>code `</think>"), (Split{"code `", "", 1}));
}

TEST(Reasoning, FieldReportCase24AToolCallInsideReasoningIsThought) {
  const ChatFormat format = *MakeChatFormat("hermes", "basic", {});
  const ToolSet tools;
  std::vector<ParseEvent> events =
      ParseAll(format, tools, {.calls = true}, {},
               "<think>I could <tool_call>{\"name\": \"a\"}</tool_call></think>\n\n"
               "<tool_call>{\"name\": \"b\"}</tool_call>");
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].text, "I could <tool_call>{\"name\": \"a\"}</tool_call>");
  EXPECT_EQ(events[1].kind, ParseEvent::Kind::kReasoningEnd);
  EXPECT_EQ(events[2].call.name, "b");
}

TEST(Reasoning, WithoutToolsCallsStayText) {
  const ChatFormat format = *MakeChatFormat("hermes", "basic", {});
  EXPECT_EQ(Read(format, "<think>a</think><tool_call>b", 3, {}), (Split{"a", "<tool_call>b", 1}));
}

}  // namespace
}  // namespace pixii::text::parsers
