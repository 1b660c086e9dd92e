// OpenAI's harmony format: an answer is messages on channels, each with a header.
//
// Thread: a value of one choice.
// analysis is reasoning, final and commentary are content, a message with a recipient is a call.
// A header may hold its words in any order and words that nobody knows. Source: the format's page
// in OpenAI's cookbook (facts only).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "text/parsers/call_pieces.h"
#include "text/parsers/json_scanner.h"
#include "text/parsers/marker_scanner.h"
#include "text/parsers/parse_events.h"
#include "text/parsers/tool_set.h"

namespace pixii::text::parsers {

struct HarmonyFormat {
  std::string start = "<|start|>";
  std::string channel = "<|channel|>";
  std::string message = "<|message|>";
  std::string constrain = "<|constrain|>";
  std::string end = "<|end|>";
  std::string call = "<|call|>";
  std::string done = "<|return|>";
};

struct HarmonyOptions {
  bool calls = true;      // false: what goes to a tool is content
  bool reasoning = true;  // false: analysis is content
  bool one_call = false;
  bool pieces = false;  // arguments are given out while they are written
};

class HarmonyParser final {
 public:
  /// `format` and `tools` outlive it.
  HarmonyParser(const HarmonyFormat& format, const ToolSet& tools, HarmonyOptions options);

  void Push(std::string_view text, EventList& events);
  void End(EventList& events);

  bool finished() const { return finished_; }

 private:
  enum class State : std::uint8_t { kPlain, kHeader, kReasoning, kContent, kCall, kIgnored };

  void PushByte(char byte, EventList& events);
  void OnText(EventList& events);
  void WritePieces(EventList& events);
  void BeginMessage();
  void EndMessage(bool stream_ended, EventList& events);

  const ToolSet& tools_;
  HarmonyOptions options_;
  MarkerScanner scanner_;
  State state_ = State::kPlain;
  bool any_ = false;       // a message has begun
  bool reasoned_ = false;  // reasoning that has not been closed
  bool finished_ = false;
  std::string header_;  // markers of channels and constraints stand in it as "\n" + name
  std::string recipient_;
  std::string body_;  // of a call
  JsonText json_;     // what of it is JSON
  CallPieces pieces_;
  std::uint32_t serial_ = 0;  // of the call
  std::string text_;
};

}  // namespace pixii::text::parsers
