// The tools that a request declares: what their parameters are, and values in plain text brought to
// the types that a tool's schema names.
//
// Thread: immutable.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wire/json.h"
#include "wire/messages/constraint.h"

namespace pixii::text::parsers {

class ToolSet final {
 public:
  ToolSet() = default;

  /// `tools`: OpenAI's list, checked; anything else declares none.
  explicit ToolSet(const wire::Json& tools);

  bool empty() const { return tools_.empty(); }

  bool Has(std::string_view tool) const { return Find(tool) != nullptr; }

  /// Whether a call without arguments can be meant: no parameter is required. True of unknown
  /// tools.
  bool AllowsNoArguments(std::string_view tool) const;

  /// JSON of what `text` means as the parameter: where the schema takes a string, and nothing else
  /// that `text` could be, it is one; otherwise JSON stays byte for byte as it is written. Without
  /// a schema, JSON that is no string stays, all else is a string.
  std::string Typed(std::string_view tool, std::string_view parameter, std::string_view text) const;

  /// Name of the parameter at `position` (from 0) in the schema's order, empty if there is none.
  std::string ParameterAt(std::string_view tool, std::size_t position) const;

 private:
  struct Tool {
    std::string name;
    wire::Json parameters;
  };

  const wire::Json* Find(std::string_view tool) const;

  std::vector<Tool> tools_;
};

/// Kinds of values (wire::ScriptKind bits) that `parameters` takes as the member `name`.
std::uint32_t MemberKinds(const wire::Json& parameters, std::string_view name);

/// Builds the JSON object of a call's arguments; of a name given twice the last value counts.
class ArgumentsBuilder final {
 public:
  void Set(std::string name, std::string json);
  std::string Take();

 private:
  std::vector<std::pair<std::string, std::string>> members_;
};

std::string Quoted(std::string_view text);

}  // namespace pixii::text::parsers
