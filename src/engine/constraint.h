// Constrained answers: which tokens a request's grammar lets follow.
//
// Thread: the engine thread. What a row may hold depends on the request's grammar and the choice's
// generated tokens alone, so a choice continues anywhere from its tokens. docs/subsystems/engine.md
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/grammar/grammar_library.h"
#include "text/grammar/grammar_matcher.h"
#include "wire/messages/constraint.h"

namespace pixii::engine {

/// The grammar of one request, walked along each of its choices.
class RequestConstraint final {
 public:
  RequestConstraint(std::shared_ptr<text::grammar::GrammarRuntime> runtime,
                    std::uint32_t choice_count);

  /// Walks `choice` to the end of `generated`, which begins with what it was walked along before.
  /// Errors: kInvalidArgument if the grammar does not allow one of the tokens.
  Result<void> Follow(std::uint32_t choice, std::span<const TokenId> generated);

  /// Excludes from `logits` [vocab] what may not follow `generated`. Errors: those of Follow;
  /// kResourceExhausted if the grammar's automaton grew past its budget.
  Result<void> Apply(std::uint32_t choice, std::span<const TokenId> generated,
                     std::span<float> logits);

 private:
  std::shared_ptr<text::grammar::GrammarRuntime> runtime_;
  std::vector<text::grammar::GrammarMatcher> matchers_;  // [choice_count]
  std::vector<std::uint32_t> mask_;
};

/// The grammars that a worker's requests use, with what their masks have taught.
class Constraints final {
 public:
  /// `library` may be null: constrained requests are refused.
  explicit Constraints(std::shared_ptr<text::grammar::GrammarLibrary> library);

  /// Errors: kUnsupported without a library; those of compiling, with the field as param.
  Result<std::unique_ptr<RequestConstraint>> Open(const wire::Constraint& constraint,
                                                  std::uint32_t choice_count);

 private:
  struct Kept {
    std::string key;
    std::shared_ptr<text::grammar::GrammarRuntime> runtime;
  };

  std::shared_ptr<text::grammar::GrammarLibrary> library_;
  std::list<Kept> kept_;  // the one used last first
};

}  // namespace pixii::engine
