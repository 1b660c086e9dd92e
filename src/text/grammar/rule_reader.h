// Grammars as people write them to rules.
//
// Source: llama.cpp's GBNF guide (facts only) and W3C's EBNF for what both share; Lark's grammar
// reference. Refused by name: templates, %declare, %override, %extend, %import of other files,
// flags of patterns but i on literals, and left recursion through other rules.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/grammar/regex_store.h"
#include "text/grammar/rule_machine.h"

namespace pixii::text::grammar {

/// GBNF and EBNF with ::=, start rule "root". Returns the start rule, its set prepared.
/// Errors: kInvalidArgument with line; kUnsupported naming the construct; kTooLarge.
Result<std::uint32_t> ReadEbnf(RuleSet& rules, RegexStore& regexes, std::string_view text);

/// Lark, start rule "start". Terminals match wherever the rules allow them, as Lark's dynamic lexer
/// has it; priorities say nothing about which texts match. Errors: likewise.
Result<std::uint32_t> ReadLark(RuleSet& rules, RegexStore& regexes, std::string_view text);

}  // namespace pixii::text::grammar
