// How the calls of a format are written, from its description: one pattern for all formats, from
// which grammars are made.
//
// Thread: values. docs/tool_calls.md
// A text of all calls: opener begin { before_name NAME after_name ARGUMENTS after_arguments } end
// closer, with `between` between calls.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/chat_format.h"
#include "wire/messages/constraint.h"

namespace pixii::text::parsers {

/// Stand in the texts of a form for what may be written there.
inline constexpr char kFormGap = '\1';     // white space, or nothing
inline constexpr char kFormDigits = '\2';  // a number of up to three digits

struct CallForm {
  std::string opener;
  std::string begin = {};
  std::string before_name = {};
  std::string after_name = {};
  std::string after_arguments = {};
  std::string between = {};
  std::string end = {};
  std::string closer = {};
  bool bare = false;              // may begin behind the opener, and end before the closer
  bool opens_each = false;        // `between` is the opener
  bool quoted_names = false;      // a name is the inside of a JSON string
  std::string content_name = {};  // what is no call has this name
  std::vector<std::string> other_openers = {};  // are read as such, too
  wire::ScriptNotation notation = wire::ScriptNotation::kJson;
  wire::ScriptElements elements = {};
};

/// Of any format but harmony, whose answers are messages. Pre: `format` is no HarmonyFormat.
CallForm FormOf(const CallFormat& format);

/// A message of harmony that is a call.
CallForm FormOf(const HarmonyFormat& format);

/// Whether `name` can be a tool's in a call of the form.
bool CanName(const CallForm& form, std::string_view name);

}  // namespace pixii::text::parsers
