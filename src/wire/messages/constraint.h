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
  kScript,          // `script` alone
};

/// Stands before a token that was written as one, in texts of scripts and of parsers: no UTF-8
/// holds this byte, so what follows it is the token itself and never text that spells it.
inline constexpr char kTokenMark = '\xFF';

/// How the members of an object are written where an instance of a schema stands.
enum class ScriptNotation : std::uint8_t {
  kJson,      // as JSON
  kElements,  // each between tags of its own: `ScriptElements`
  kPython,    // a=1, b="x") behind the bracket that opens a call
  kBareKeys,  // a:1,b:QxQ} behind the brace, Q the quote of `ScriptElements`
};

/// Tags of kElements: parameter_opener NAME name_closer [attributes >] value_opener VALUE
/// value_closer, any number of them and white space between, then `end`.
struct ScriptElements {
  std::string parameter_opener = {};
  std::string name_closer = {};
  bool attributes = false;  // string="true|false"> is written behind name_closer
  bool kinds = false;       // the attribute tells whether the value is a text
  std::string value_opener = {};
  std::string value_closer = {};
  bool framed = false;     // a line break stands at either end of a value
  std::string end = {};    // of the call
  std::string quote = {};  // kBareKeys: on either side of a text

  bool operator==(const ScriptElements&) const = default;
};

/// Kinds of values that an element may hold, as bits.
enum ScriptKind : std::uint32_t {
  kScriptString = 1,
  kScriptNumber = 2,
  kScriptBool = 4,
  kScriptNull = 8,
  kScriptObject = 16,
  kScriptArray = 32,
  kScriptAny = 64,  // nothing is said: JSON is what it is, but for strings; all else is text
};

struct ScriptMember {
  std::string name;
  std::uint32_t kinds = kScriptAny;

  bool operator==(const ScriptMember&) const = default;
};

/// An object that may stand in a script: the arguments of one tool.
struct ScriptValue {
  std::string name;                        // for messages
  std::string schema;                      // JSON schema
  bool any_kind = false;                   // true: any value, as JSON whatever the notation
  std::vector<ScriptMember> members = {};  // kElements: how the text of each is read
  std::uint32_t other_kinds = kScriptAny;  // likewise of those that are not named

  bool operator==(const ScriptValue&) const = default;
};

inline constexpr std::uint32_t kScriptNoValue = 0xFFFFFFFF;
inline constexpr std::uint32_t kScriptBody = 0xFFFFFFFE;   // goes on as `kind` says, to the end
inline constexpr std::uint32_t kScriptNever = 0xFFFFFFFF;  // must not be written

/// `text`, then an instance of a value, then what `next` says.
struct ScriptEdge {
  std::string text;  // empty: taken for a byte that no other edge of the node begins with
  std::uint32_t next = kScriptNever;  // node
  std::uint32_t value = kScriptNoValue;

  bool operator==(const ScriptEdge&) const = default;
};

struct ScriptNode {
  bool free = false;          // any text, in which the edges' texts are found wherever they stand
  bool may_end = false;       // the answer
  std::uint32_t gap_max = 0;  // bytes of white space before an edge; of no meaning where free
  std::vector<ScriptEdge> edges = {};  // not free: none begins another's text

  bool operator==(const ScriptNode&) const = default;
};

/// What stands around constrained parts, as an automaton that begins at node 0: reasoning, markers
/// of calls, names of tools.
struct Script {
  std::vector<ScriptNode> nodes;
  std::vector<ScriptValue> values;
  ScriptNotation notation = ScriptNotation::kJson;
  ScriptElements elements;

  bool empty() const { return nodes.empty(); }

  bool operator==(const Script&) const = default;
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
  Script script;  // not empty: the answer follows it, `kind` says what comes at kScriptBody

  bool operator==(const Constraint&) const = default;
};

}  // namespace pixii::wire
