// Constrained answers: which tokens a request's grammar lets follow.
//
// Thread: the engine thread. What a row may hold depends on the request's grammar and the choice's
// generated tokens alone, so a choice continues anywhere from its tokens. docs/subsystems/engine.md
//
// Whether a grammar costs too much depends on the same alone. Requests with one grammar share an
// automaton while all that it ever cost is a fraction of what one choice may spend: then each of
// them is far below. Past that a choice gets an automaton of its own and walks its answer again
// from the first token, masks and nothing else, so that its cost is what it would be alone.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
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

/// What the grammar of one request may cost beside the model. A step is one of grammar::Fuel.
struct ConstraintBudget {
  std::uint64_t steps_max = 12'000'000;        // of all choices together, about a second
  std::uint64_t steps_of_token = 10'000;       // more for each token of an answer
  std::uint64_t bytes_max = 33'554'432;        // of the automata of all choices together
  std::uint64_t choice_steps_min = 2'000'000;  // what one of many choices has nevertheless
  std::uint64_t choice_bytes_min = 4'194'304;
  std::uint64_t slice_steps = 50'000;  // of one attempt at a mask, which the next continues
};

/// The grammar of one request, walked along each of its choices.
class RequestConstraint final {
 public:
  /// `encode` may be empty: nothing is guessed.
  RequestConstraint(std::shared_ptr<text::grammar::GrammarRuntime> runtime,
                    std::uint32_t choice_count, text::grammar::TextEncoder encode = {},
                    const ConstraintBudget& budget = {});

  /// Walks `choice` to the end of `generated`, which begins with what it was walked along before.
  /// Errors: kInvalidArgument if the grammar does not allow one of the tokens.
  Result<void> Follow(std::uint32_t choice, std::span<const TokenId> generated);

  /// Follow for a choice that was begun elsewhere: what its masks cost there counts here.
  Result<void> Resume(std::uint32_t choice, std::span<const TokenId> generated);

  /// Finds out what may follow `generated`, in about `work` steps: what is spent of them is taken
  /// off. False: not done yet, to be called again. Errors are Apply's to tell.
  bool MakeReady(std::uint32_t choice, std::span<const TokenId> generated, std::uint64_t& work);

  /// Excludes from `logits` [vocab] what may not follow `generated`, however long it takes to find
  /// out. Errors: those of Follow; kInvalidArgument naming the limit that the grammar passed;
  /// kInternal if nothing may follow.
  Result<void> Apply(std::uint32_t choice, std::span<const TokenId> generated,
                     std::span<float> logits);

  /// Makes the masks of the rows behind `generated` and behind each of `guesses` as far as `work`
  /// goes, so that Apply finds them: to be called while the rows are computed.
  void Prepare(std::uint32_t choice, std::span<const TokenId> generated,
               std::span<const TokenId> guesses, std::uint64_t& work);

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

  // A choice that walks alone.
  struct Alone {
    std::shared_ptr<text::grammar::GrammarRuntime> runtime;
    text::grammar::GrammarMatcher matcher;
  };

  bool Fill(text::grammar::GrammarMatcher& matcher, Mask& mask, std::uint64_t& work);
  bool SharedCostsTooMuch() const;
  bool MakeReadyAlone(std::uint32_t choice, std::span<const TokenId> generated,
                      std::uint64_t& work);
  void StartAlone(std::uint32_t choice);
  std::optional<Error> PastBudget(const Alone& alone) const;
  void Keep(std::uint32_t choice, std::size_t begin);
  const Mask* Find(std::uint32_t choice, std::span<const TokenId> generated) const;
  std::vector<TokenId> Encoded(std::string_view before, const std::string& text) const;

  std::shared_ptr<text::grammar::GrammarRuntime> runtime_;
  text::grammar::TextEncoder encode_;
  std::vector<text::grammar::GrammarMatcher> matchers_;  // [choice_count]
  std::vector<std::optional<Alone>> alone_;              // [choice_count]
  std::vector<std::optional<Error>> errors_;             // [choice_count]
  std::vector<Ready> ready_;                             // [choice_count]
  ConstraintBudget budget_;                              // of one choice
  Mask mask_;
};

/// The grammars that a worker's requests use, with what their masks have taught.
class Constraints final {
 public:
  /// `library` may be null: constrained requests are refused.
  explicit Constraints(std::shared_ptr<text::grammar::GrammarLibrary> library,
                       const ConstraintBudget& budget = {});

  /// Errors: kUnsupported without a library; those of compiling, with the field as param.
  Result<std::unique_ptr<RequestConstraint>> Open(const wire::Constraint& constraint,
                                                  std::uint32_t choice_count);

 private:
  struct Kept {
    std::string key;
    std::shared_ptr<text::grammar::GrammarRuntime> runtime;
  };

  bool IsWornOut(const text::grammar::GrammarRuntime& runtime) const;

  std::shared_ptr<text::grammar::GrammarLibrary> library_;
  ConstraintBudget budget_;
  std::list<Kept> kept_;  // the one used last first
};

}  // namespace pixii::engine
