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
#include <string_view>
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
  /// `encode` may be empty: nothing is guessed.
  RequestConstraint(std::shared_ptr<text::grammar::GrammarRuntime> runtime,
                    std::uint32_t choice_count, text::grammar::TextEncoder encode = {});

  /// Walks `choice` to the end of `generated`, which begins with what it was walked along before.
  /// Errors: kInvalidArgument if the grammar does not allow one of the tokens.
  Result<void> Follow(std::uint32_t choice, std::span<const TokenId> generated);

  /// Excludes from `logits` [vocab] what may not follow `generated`. Errors: those of Follow;
  /// kResourceExhausted if the grammar's automaton grew past its budget.
  Result<void> Apply(std::uint32_t choice, std::span<const TokenId> generated,
                     std::span<float> logits);

  /// Makes the masks of the rows behind `generated` and behind each of `guesses`, so that Apply
  /// finds them: to be called while the rows are computed.
  void Prepare(std::uint32_t choice, std::span<const TokenId> generated,
               std::span<const TokenId> guesses);

  /// Appends at most `count_max` tokens: what the grammar leaves little choice about, as the
  /// model's tokenizer writes it behind `generated`.
  void Guess(std::uint32_t choice, std::span<const TokenId> generated, std::uint32_t count_max,
             std::vector<TokenId>& guesses);

 private:
  using Mask = std::vector<std::uint32_t>;

  // Masks made ahead: of the row behind `begin` generated tokens, then behind each guess.
  struct Ready {
    std::size_t begin = 0;
    std::vector<TokenId> guesses;
    std::vector<Mask> masks;
    std::size_t count = 0;  // of masks
  };

  void Fill(text::grammar::GrammarMatcher& matcher, Mask& mask);
  const Mask* Find(std::uint32_t choice, std::span<const TokenId> generated) const;
  std::vector<TokenId> Encoded(std::string_view before, const std::string& text) const;

  std::shared_ptr<text::grammar::GrammarRuntime> runtime_;
  text::grammar::TextEncoder encode_;
  std::vector<text::grammar::GrammarMatcher> matchers_;  // [choice_count]
  std::vector<Ready> ready_;                             // [choice_count]
  Mask mask_;
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
