// How chat answers are taken apart: the model's formats, and what one request wants of them.
//
// Thread: immutable once made; shared by the choices of a request.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "frontend/openai_request.h"
#include "frontend/text_processor.h"
#include "text/parsers/chat_format.h"
#include "text/parsers/chat_parser.h"
#include "text/parsers/tool_set.h"

namespace pixii::frontend {

/// What an operator may set; docs/tool_calls.md.
struct ChatAnswerOptions {
  std::string tool_call_parser = "auto";  // a name, "none", or "auto": from the chat template
  std::string reasoning_parser = "auto";
  std::string reasoning_field = "reasoning_content";
  bool exclude_tools_when_none = true;  // tool_choice "none" leaves tools out of the template
  bool tool_call_dispatch = false;      // an event of its own for each call of a stream
  bool reasoning_dispatch = false;      // and one for the whole reasoning
};

/// The formats of a served model, its markers resolved to its tokens.
struct ChatAnswers {
  ChatAnswerOptions options;
  text::parsers::ChatFormat format;
  std::vector<TokenId> marker_tokens;  // ascending
};

/// Errors: kInvalidArgument naming the flag and the nearest known parser.
Result<std::shared_ptr<const ChatAnswers>> MakeChatAnswers(const ChatAnswerOptions& options,
                                                           const TextProcessor& text);

/// What one request wants.
struct ChatParsing {
  std::shared_ptr<const ChatAnswers> answers;
  text::parsers::ToolSet tools;
  text::parsers::ChatParserOptions options;
  std::string prompt_tail;  // with the marks of tokens
};

/// Null: answers of this request are not taken apart. Pre: `prompt` was made by `text`.
std::shared_ptr<const ChatParsing> PlanParsing(const OpenAiRequest& request,
                                               const std::shared_ptr<const ChatAnswers>& answers,
                                               const TextProcessor& text,
                                               std::span<const TokenId> prompt);

/// Whether `token` alone is a marker of the formats.
bool IsMarker(const ChatAnswers& answers, TokenId token);

}  // namespace pixii::frontend
