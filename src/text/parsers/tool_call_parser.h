// Content and tool calls of one choice, from text that comes in any pieces.
//
// Thread: a value of one choice.
// Markers never reach the content. White space around calls is dropped, that of the narration
// stays. A call is given out once it is whole: nothing that a later byte could spoil is ever sent,
// unless a grammar makes sure that none can (`pieces`).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "text/parsers/call_pieces.h"
#include "text/parsers/call_reader.h"
#include "text/parsers/marker_scanner.h"
#include "text/parsers/parse_events.h"

namespace pixii::text::parsers {

struct ToolCallOptions {
  bool one_call = false;  // parallel_tool_calls=false: the choice ends with its first call
  bool pieces = false;    // arguments are given out while they are written, whatever follows
};

class ToolCallParser final {
 public:
  ToolCallParser(std::unique_ptr<CallReader> reader, ToolCallOptions options);

  /// The prompt ends with an opener: the answer begins inside.
  void StartInside(std::size_t opener);

  void Push(std::string_view text, EventList& events);
  /// The stream ended: recovers what is whole, drops what is not.
  void End(EventList& events);

  /// one_call, and it is there: what follows is not looked at.
  bool finished() const { return finished_; }

 private:
  void PushByte(char byte, EventList& events);
  void PushText(char byte, EventList& events);
  void Open(std::size_t opener);
  void Give(EventList& events);
  void Emit(std::string_view text, EventList& events);

  std::unique_ptr<CallReader> reader_;
  ToolCallOptions options_;
  std::size_t opener_count_;
  MarkerScanner scanner_;
  CallOutput out_;
  CallPieces pieces_;
  std::string body_;   // since Open
  std::string space_;  // held back at the start and behind a call
  bool inside_ = false;
  bool bare_ = false;
  bool bare_allowed_ = true;
  bool called_ = false;  // the body gave a call
  bool fresh_ = true;    // nothing but white space since the start or the last call
  bool finished_ = false;
};

/// `text` without the marks of tokens.
std::string WithoutMarks(std::string_view text);

}  // namespace pixii::text::parsers
