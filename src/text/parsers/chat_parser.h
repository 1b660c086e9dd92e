// The text of one choice to its parts: reasoning first, tool calls on the rest.
//
// Thread: a value of one choice.
// Law: the joined events depend on the bytes alone, not on how Push cut them. Text is held back
// only as long as it may still be a marker; calls come whole, but for `pieces`.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "text/parsers/chat_format.h"
#include "text/parsers/harmony_parser.h"
#include "text/parsers/parse_events.h"
#include "text/parsers/reasoning_splitter.h"
#include "text/parsers/tool_call_parser.h"

namespace pixii::text::parsers {

struct ChatParserOptions {
  bool calls = false;     // the request has tools and lets the model call them
  bool reasoning = true;  // false: it stays in the content, without being told apart
  bool one_call = false;  // parallel_tool_calls=false
  bool pieces = false;    // calls are enforced: arguments come while they are written
};

class ChatParser final {
 public:
  /// `format` and `tools` outlive it. `prompt_tail`: the end of the rendered prompt, tokens that
  /// are markers with their kTokenMark: a marker that stands there was opened by the template.
  ChatParser(const ChatFormat& format, const ToolSet& tools, ChatParserOptions options,
             std::string_view prompt_tail);

  /// Takes text in any pieces and returns what is sure now.
  std::vector<ParseEvent> Push(std::string_view text);
  std::vector<ParseEvent> End();

  /// The choice is over for the client: its only call has come.
  bool finished() const;

  /// Whole calls so far.
  std::uint32_t call_count() const { return events_.call_count(); }

 private:
  EventList events_;
  std::optional<HarmonyParser> harmony_;
  std::optional<ReasoningSplitter> reasoning_;
  std::optional<ToolCallParser> calls_;
};

/// Where in `list` the marker stands with which the prompt ends, white space aside.
std::optional<std::size_t> OpenedBy(std::string_view prompt_tail,
                                    const std::vector<std::string>& list);

/// The answer begins as reasoning. Pre: the format is not harmony's.
bool BeginsInReasoning(const ReasoningFormat& format, std::string_view prompt_tail);

/// All of `text` at once.
std::vector<ParseEvent> ParseAll(const ChatFormat& format, const ToolSet& tools,
                                 ChatParserOptions options, std::string_view prompt_tail,
                                 std::string_view text);

/// Joins neighbours of one kind, as if the text had come at once.
std::vector<ParseEvent> JoinEvents(std::vector<ParseEvent> events);

}  // namespace pixii::text::parsers
