// Walks a grammar over the tokens of one answer: which may come next, which must.
//
// Thread: a GrammarRuntime and all its matchers belong to one thread at a time. Grammars and
// vocabularies are shared freely. A matcher is a few words; copies are cheap (speculation).
// Layout of a mask: bit id % 32 of word id / 32; bits past the vocabulary are zero.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/grammar/grammar.h"
#include "text/grammar/grammar_vocabulary.h"
#include "text/grammar/machine.h"

namespace pixii::text::grammar {

inline constexpr std::uint64_t kNoStop = ~0ULL;

struct RuntimeOptions {
  std::size_t mask_cache_bytes_max = 33'554'432;  // bytes of masks kept
};

/// The automaton of one grammar as far as it was needed, with the masks met: shared by the matchers
/// of all requests with this grammar.
class GrammarRuntime final {
 public:
  GrammarRuntime(std::shared_ptr<const Grammar> grammar,
                 std::shared_ptr<const GrammarVocabulary> vocabulary,
                 const RuntimeOptions& options = {});
  GrammarRuntime(const GrammarRuntime&) = delete;
  GrammarRuntime& operator=(const GrammarRuntime&) = delete;
  ~GrammarRuntime();

  const GrammarVocabulary& vocabulary() const { return *vocabulary_; }

  Machine& machine() { return *machine_; }

  /// The mask of a state; `mask` has the vocabulary's words. False: more than `steps_max` steps of
  /// Fuel would be spent; called again, it goes on from what it has found out.
  bool FillMask(const State& state, std::span<std::uint32_t> mask,
                std::uint64_t steps_max = kNoStop);

  /// Another one of the same grammar, that has met nothing yet.
  std::shared_ptr<GrammarRuntime> Fresh(const RuntimeOptions& options) const;

  bool exhausted() const { return machine_->fuel().exhausted; }

  /// By how much the automaton grew while it ran, about.
  std::size_t grown_bytes() const {
    const std::size_t now = machine_->size_bytes();
    return now - std::min(now, first_size_bytes_);
  }

  /// Steps of Fuel that all calls cost.
  std::uint64_t steps_spent() const { return machine_->fuel().spent; }

  /// Bytes of the automaton and the masks, about.
  std::size_t size_bytes() const;

 private:
  class MaskCache;

  bool FillBefore(const State& state, std::span<std::uint32_t> mask, std::uint64_t stop);

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const GrammarVocabulary> vocabulary_;
  std::unique_ptr<Machine> machine_;
  std::size_t first_size_bytes_;
  std::unique_ptr<MaskCache> cache_;
};

class GrammarMatcher final {
 public:
  explicit GrammarMatcher(std::shared_ptr<GrammarRuntime> runtime);
  /// With a runtime of its own.
  GrammarMatcher(std::shared_ptr<const Grammar> grammar,
                 std::shared_ptr<const GrammarVocabulary> vocabulary);

  /// Takes `token`. False, with nothing changed: the grammar does not allow it here.
  bool Accept(TokenId token);
  /// The same for bytes, which count as one token for Rollback.
  bool AcceptBytes(std::string_view bytes);

  /// Sets the bits of exactly the tokens that Accept would take, clears all others.
  /// False: see GrammarRuntime.
  /// Pre: mask.size() >= vocabulary.mask_words(); words beyond are cleared.
  bool FillMask(std::span<std::uint32_t> mask, std::uint64_t steps_max = kNoStop);

  /// The longest run of bytes (at most `bytes_max`) that every continuation begins with; empty
  /// where the answer may end or more than one byte may follow. The caller tokenizes the text so
  /// far with these bytes anew, so that tokens equal those without jump-ahead.
  std::string Forced(std::size_t bytes_max = 1024);
  /// The same where only white space or an escape could stand instead: then what does without, or
  /// with the white space that followed the same byte before. `before`: the text so far, or its
  /// end. A guess: other continuations exist.
  std::string Likely(std::string_view before, std::size_t bytes_max = 1024);

  /// The answer so far is complete.
  bool CanEnd();

  /// An end token was taken.
  bool ended() const { return ended_; }

  /// The automaton grew past its budget: no token is allowed any more, and the request fails with
  /// kResourceExhausted.
  bool exhausted() const;

  /// Of the runtime.
  std::uint64_t steps_spent() const { return runtime_->steps_spent(); }

  /// Takes back the last `tokens` accepted. Pre: so many were.
  void Rollback(std::size_t tokens);

  /// Where the matcher stands: equal states of one runtime have equal masks.
  const State& state() const { return state_; }

  /// Tokens taken so far.
  std::size_t accepted() const { return history_.size(); }

 private:
  bool StepAll(State& state, std::string_view bytes);

  std::shared_ptr<GrammarRuntime> runtime_;
  State state_;
  std::vector<State> history_;  // before each token
  bool ended_ = false;
};

}  // namespace pixii::text::grammar
