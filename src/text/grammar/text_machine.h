// Texts of one regular language, byte by byte: patterns and choices.
//
// Thread: one owner; a value. Layout of a State: `a` text, `b` bytes of a character begun.
#pragma once

#include <memory>

#include "text/grammar/machine.h"
#include "text/grammar/text_states.h"

namespace pixii::text::grammar {

class TextMachine final : public Machine {
 public:
  TextMachine(RegexStore store, RegexId language) : store_(std::move(store)) {
    start_ = texts_.Start(store_, {language});
  }

  /// Some text is in the language.
  bool possible() const { return start_ != TextStates::kDead; }

  std::unique_ptr<Machine> Clone() const override;
  State Start() override;
  bool Step(State& state, std::uint8_t byte) override;
  bool CanEnd(const State& state) override;
  Run RunOf(const State& state) override;

  Safe SafeOf(const State& state, std::uint32_t slice) override {
    return state.b == 0 ? texts_.SafeOf(store_, state.a, slice) : Safe{};
  }

  Fuel& fuel() override { return store_.fuel; }

  std::size_t size_bytes() const override { return store_.size_bytes() + texts_.size_bytes(); }

 private:
  RegexStore store_;
  TextStates texts_;
  std::uint32_t start_ = 0;
};

}  // namespace pixii::text::grammar
