// Any text through any pair of formats: cut anywhere it gives what it gives whole, calls have
// arguments that are JSON objects, and no mark of a token comes out.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

#include "base/assert.h"
#include "text/parsers/chat_parser.h"

namespace {

using pixii::text::parsers::ChatFormat;
using pixii::text::parsers::ChatParser;
using pixii::text::parsers::ChatParserOptions;
using pixii::text::parsers::ParseEvent;
using pixii::text::parsers::ToolSet;

constexpr std::string_view kTools = R"([
  {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties":
    {"a": {"type": "string"}, "b": {"type": ["integer", "null"]}, "c": {"type": "object"}}}}},
  {"type": "function", "function": {"name": "g", "parameters": {"required": ["x"]}}}])";

void Check(const std::vector<ParseEvent>& events) {
  std::uint32_t calls = 0;
  for (const ParseEvent& event : events) {
    PX_ASSERT(event.text.find('\xFF') == std::string::npos);
    PX_ASSERT(event.call.arguments.find('\xFF') == std::string::npos);
    if (event.kind == ParseEvent::Kind::kCallPiece) {
      calls += event.begins ? 1 : 0;
      PX_ASSERT(event.index + 1 == calls);
    }
    if (event.kind != ParseEvent::Kind::kCall) {
      continue;
    }
    PX_ASSERT(event.index == calls++);
    PX_ASSERT(!event.call.name.empty());
    PX_ASSERT(event.call.arguments.starts_with('{') && event.call.arguments.ends_with('}'));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const ToolSet tools(*pixii::wire::ParseJson(kTools));
  constexpr std::size_t kHeadBytes = 4;
  if (size < kHeadBytes) {
    return 0;
  }
  const auto calls = pixii::text::parsers::CallFormats();
  const auto reasoning = pixii::text::parsers::ReasoningFormats();
  ChatFormat format;
  format.calls = calls[data[0] % calls.size()].format;
  const auto& thinking = reasoning[data[1] % reasoning.size()];
  if (!thinking.harmony) {
    format.reasoning = thinking.format;
  }
  const ChatParserOptions options{.calls = (data[2] & 1) != 0,
                                  .reasoning = (data[2] & 2) != 0,
                                  .one_call = (data[2] & 4) != 0,
                                  .pieces = (data[2] & 32) != 0};
  if ((data[2] & 8) != 0) {
    format.MarkTokens([](std::string_view marker) { return marker.ends_with('>'); });
  }
  const std::string_view tail = (data[2] & 16) != 0 ? "<think>\n" : "";
  const std::string_view text(reinterpret_cast<const char*>(data) + kHeadBytes, size - kHeadBytes);
  const std::vector<ParseEvent> whole =
      pixii::text::parsers::ParseAll(format, tools, options, tail, text);
  Check(whole);
  ChatParser parser(format, tools, options, tail);
  std::vector<ParseEvent> events;
  std::uint32_t state = data[3] + 1U;
  for (std::size_t at = 0; at < text.size();) {
    state = state * 1'664'525U + 1'013'904'223U;
    std::size_t piece = data[3] == 0 ? 1 : 1 + (state >> 24U) % 9;
    std::ranges::move(parser.Push(text.substr(at, piece)), std::back_inserter(events));
    at += piece;
  }
  std::ranges::move(parser.End(), std::back_inserter(events));
  PX_ASSERT(pixii::text::parsers::JoinEvents(std::move(events)) == whole);
  return 0;
}
