// How a model writes tool calls and reasoning: the table of formats by name, and the choice of one
// from a chat template. docs/tool_calls.md
//
// Thread: immutable. Source of names and markers: the public names of Dynamo's, vLLM's and SGLang's
// parsers, and the models' own chat templates.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "text/parsers/harmony_parser.h"
#include "text/parsers/json_calls.h"
#include "text/parsers/literal_calls.h"
#include "text/parsers/named_json_calls.h"
#include "text/parsers/reasoning_splitter.h"
#include "text/parsers/xml_calls.h"

namespace pixii::text::parsers {

/// What a parser of calls is given.
using CallFormat =
    std::variant<JsonCallFormat, NamedJsonFormat, XmlCallFormat, LiteralCallFormat, HarmonyFormat>;

struct NamedCallFormat {
  std::vector<std::string> names;  // the first is the name, the others are aliases
  CallFormat format;
};

struct NamedReasoningFormat {
  std::vector<std::string> names;
  ReasoningFormat format;
  bool harmony = false;  // its channels say what is reasoning
};

/// All formats, in the order of docs/tool_calls.md.
std::span<const NamedCallFormat> CallFormats();
std::span<const NamedReasoningFormat> ReasoningFormats();

/// What may be a marker's token in any of the formats, each once.
std::vector<std::string> MarkerTexts();

/// The two formats of one served model.
struct ChatFormat {
  std::string calls_name;      // "none": calls stay text
  std::string reasoning_name;  // "none": it stays text
  std::optional<CallFormat> calls;
  std::optional<ReasoningFormat> reasoning;
  std::vector<std::string> token_markers;  // tokens that MarkTokens found in the markers

  bool harmony() const {
    return calls.has_value() && std::holds_alternative<HarmonyFormat>(*calls);
  }

  /// Each token (`is_token`) that is a marker, or a word in brackets within one, is found by that
  /// token alone, text that spells it is none: such get kTokenMark in front.
  void MarkTokens(const std::function<bool(std::string_view)>& is_token);
};

/// `calls`, `reasoning`: a name or alias, in any case, "none", or "auto": what `template_source`
/// (may be empty) tells. Errors: kInvalidArgument (field tool_call_parser or reasoning_parser) for
/// an unknown name, with the nearest known one.
Result<ChatFormat> MakeChatFormat(std::string_view calls, std::string_view reasoning,
                                  std::string_view template_source);

/// Names of the formats whose markers a chat template writes; "none" where there are none.
std::string_view DetectCalls(std::string_view template_source);
std::string_view DetectReasoning(std::string_view template_source);

}  // namespace pixii::text::parsers
