// What a constrained answer must look like: a JSON schema, any JSON object, a regular expression, a
// choice of texts, a grammar (EBNF/GBNF, Lark) or structural tags, compiled once and shared by
// requests. docs/structured_output.md
//
// Thread: Grammar is immutable; any thread may compile. What masks tokens is grammar_matcher.h.
// Source: JSON Schema drafts 4, 6, 7, 2019-09 and 2020-12; ECMA-262 for patterns; llama.cpp's GBNF
// and Lark's manual for the notations (facts only); the automaton is ours: docs/adr/0015.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/messages/constraint.h"

namespace pixii::text::grammar {

using GrammarKind = wire::ConstraintKind;
using GrammarSpec = wire::Constraint;
using wire::JsonSpelling;
using wire::StructuralTag;

/// Bounds of one compilation and of the automaton that its matchers build while they run.
struct CompileBudget {
  std::uint64_t text_bytes_max = 4'194'304;  // bytes of the specification
  std::uint64_t steps_max = 6'000'000;       // of Fuel
  std::uint64_t nodes_max = 2'000'000;       // automaton and formula nodes, about 100 bytes each
  std::uint64_t bytes_max = 67'108'864;      // of the automaton
  std::uint32_t depth_max = 256;             // nested arrays and objects of an instance
};

class Machine;

/// A compiled grammar. Copies of what is here are what matchers work on.
class Grammar final {
 public:
  explicit Grammar(std::unique_ptr<const Machine> machine);
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;
  ~Grammar();

  const Machine& machine() const { return *machine_; }

 private:
  std::unique_ptr<const Machine> machine_;
};

/// Compiles `spec`. Errors: kUnsupported naming the keyword and, for schemas, its JSON pointer in
/// detail and param; kInvalidArgument for text that is no schema, pattern or grammar, or that
/// nothing satisfies; kTooLarge past the budget.
Result<std::shared_ptr<const Grammar>> Compile(const GrammarSpec& spec,
                                               const CompileBudget& budget = {});

}  // namespace pixii::text::grammar
