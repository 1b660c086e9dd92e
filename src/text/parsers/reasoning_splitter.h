// Splits what a model thinks from what it says, by markers.
//
// Thread: a value of one choice.
// Reasoning and content, one after another, are the text without the markers. A marker between two
// backticks is a mention, and text.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/marker_scanner.h"
#include "text/parsers/parse_events.h"

namespace pixii::text::parsers {

struct ReasoningFormat {
  std::vector<std::string> openers = {};
  std::vector<std::string> closers = {};
  std::vector<std::string> dropped = {};  // belong to neither
  bool forced = false;  // the answer begins inside, whether the prompt says so or not
};

class ReasoningSplitter final {
 public:
  using TakeContent = std::function<void(std::string_view)>;

  /// `inside`: the answer begins as reasoning.
  ReasoningSplitter(const ReasoningFormat& format, bool inside);

  void Push(std::string_view text, EventList& events, const TakeContent& content);
  void End(EventList& events, const TakeContent& content);

 private:
  void PushByte(char byte, EventList& events, const TakeContent& content);
  void Emit(std::string_view text, EventList& events, const TakeContent& content);
  void OnMarker(std::size_t marker, EventList& events);

  std::vector<std::string> markers_;  // openers, closers, dropped
  std::size_t closers_begin_;
  std::size_t dropped_begin_;
  MarkerScanner scanner_;
  std::optional<std::size_t> mentioned_;  // came behind a backtick: what follows decides
  char last_ = '\0';                      // of the text
  bool inside_;
  bool begun_ = false;  // reasoning that is not closed was given out
};

}  // namespace pixii::text::parsers
