// What an answer must be made of, as a script for a grammar: reasoning, then calls of a format, or
// free text in which calls are enforced, or text of another constraint.
//
// Thread: pure functions. Law: what a script lets be written, the format's parser reads back as
// just these calls (tests/unit/text/parsers/call_script_test.cc).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/parsers/chat_format.h"
#include "wire/json.h"
#include "wire/messages/constraint.h"

namespace pixii::text::parsers {

struct ScriptTool {
  std::string name;
  wire::Json parameters;  // JSON schema of the arguments; null: none are taken
  bool enforced = true;   // false: any object will do
};

struct CallScriptOptions {
  std::vector<ScriptTool> tools = {};  // that may be called
  bool required = false;               // true: at least one call, and nothing else but reasoning
  bool one_call = false;               // no call behind the first
  /// Not required: what the answer is if it is no call. Empty: any text.
  std::string content_schema = {};
};

/// `prompt_tail`: as ChatParser's. Errors: kUnsupported if the format's calls cannot be enforced or
/// the name of a tool cannot be written in it.
Result<wire::Script> CallScript(const ChatFormat& format, const CallScriptOptions& options,
                                std::string_view prompt_tail);

/// Reasoning, if there is any, then the body. Empty where the answer cannot begin with reasoning.
wire::Script ReasoningScript(const ChatFormat& format, std::string_view prompt_tail);

}  // namespace pixii::text::parsers
