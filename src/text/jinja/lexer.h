// Template text to tokens, with Jinja's white-space rules (trim_blocks and lstrip_blocks on, as
// transformers sets them).
//
// Source: Jinja 3.1, template designer documentation, "Whitespace Control"; behaviour checked
// against Jinja 3.1.6.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::text::jinja {

enum class TokenType : std::uint8_t {
  kData,           // text between the tags
  kVariableBegin,  // {{
  kVariableEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kInteger,
  kFloat,
  kString,    // unescaped
  kOperator,  // text is the operator
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::uint32_t line = 0;
  std::string text;
};

/// Cuts `source` into tokens; the last one is kEnd. Pre: valid UTF-8.
/// Errors: kInvalidArgument with the line.
Result<std::vector<Token>> Tokenize(std::string_view source);

/// "chat template line 3: TemplateSyntaxError: ...", the form of every refusal at load.
tl::unexpected<Error> SyntaxError(std::uint32_t line, std::string_view message);

}  // namespace pixii::text::jinja
