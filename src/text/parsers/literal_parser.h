// Values and calls in notations that are not JSON, brought to JSON: Python's literals and calls,
// and Gemma's bare-key objects.
//
// Thread: pure functions. Digits of numbers are never changed, but for what JSON cannot say:
// underscores, a leading plus, a bare point, hexadecimal, octal and binary.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/parse_events.h"
#include "text/parsers/tool_set.h"

namespace pixii::text::parsers {

/// JSON of one Python literal: strings, numbers, True, False, None (or JSON's names), lists,
/// tuples, dicts. Nothing if `text` is no such.
std::optional<std::string> PythonLiteral(std::string_view text);

/// The calls of `[f(a=1), g(b="x")]`, or of the same without brackets; arguments without a name
/// take the schema's order. Calls behind the first that cannot be read are left out. `complete`
/// tells whether all could.
std::vector<ParsedCall> PythonCalls(std::string_view text, const ToolSet& tools, bool& complete);

inline constexpr std::string_view kGemmaQuote = "<|\"|>";

/// The call of `call:f{k:<|"|>text<|"|>,n:42}`.
std::optional<ParsedCall> GemmaCall(std::string_view text, std::string_view quote);

}  // namespace pixii::text::parsers
