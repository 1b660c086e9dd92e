// What an answer must look like, as a request says it: a JSON schema, any JSON object, a regular
// expression, a choice of texts, a grammar or structural tags.
//
// Thread: values. docs/structured_output.md
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pixii::wire {

enum class ConstraintKind : std::uint8_t {
  kJsonSchema,      // `text`: the schema, an object or a boolean
  kJsonObject,      // any JSON object
  kRegex,           // `text`: ECMA-262 without /.../; the whole answer must match
  kChoice,          // `choices`: one of these texts
  kEbnf,            // `text`: GBNF as of llama.cpp, or ISO/W3C-like EBNF; start rule "root"
  kLark,            // `text`: Lark; start rule "start"
  kStructuralTags,  // `tags`: free text, in which certain beginnings start constrained parts
};

/// `begin`, then an instance of `schema`, then `end`.
struct StructuralTag {
  std::string begin;
  std::string schema;  // JSON schema; empty: any JSON value
  std::string end;

  bool operator==(const StructuralTag&) const = default;
};

/// Which of the spellings of one JSON value may be written. The defaults take every spelling;
/// narrower ones leave more to jump ahead over and no room for endless white space.
struct JsonSpelling {
  /// Longest run of white space between two JSON tokens, in bytes. 0: none at all.
  std::uint32_t whitespace_run_max = 0xFFFFFFFF;
  /// True: \uXXXX and \/ may stand for characters that need no escape, as RFC 8259 has it.
  bool needless_escapes = true;

  bool operator==(const JsonSpelling&) const = default;
};

struct Constraint {
  ConstraintKind kind = ConstraintKind::kJsonObject;
  std::string text;
  std::vector<std::string> choices;
  std::vector<StructuralTag> tags;
  /// kStructuralTags: no text but a tag's `begin` may follow one of these, each a prefix of some
  /// `begin`. Empty: the `begin`s themselves.
  std::vector<std::string> triggers;
  JsonSpelling spelling;

  bool operator==(const Constraint&) const = default;
};

}  // namespace pixii::wire
