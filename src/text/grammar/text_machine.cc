#include "text/grammar/text_machine.h"

#include "text/grammar/json_string.h"

namespace pixii::text::grammar {

std::unique_ptr<Machine> TextMachine::Clone() const { return std::make_unique<TextMachine>(*this); }

State TextMachine::Start() {
  State out;
  out.a = start_;
  out.phase = 1;
  return out;
}

bool TextMachine::Step(State& state, std::uint8_t byte) {
  char32_t c = 0;
  switch (StringBytes::Read(state.b, byte, false, c)) {
    case StringEvent::kCharacter:
      state.a = texts_.Next(store_, state.a, c);
      return state.a != TextStates::kDead;
    case StringEvent::kPending:
      return StringBytes::CanBecome(state.b, true, [&](char32_t low, char32_t high) {
        return texts_.AnyIn(store_, state.a, low, high);
      });
    default:
      return false;
  }
}

bool TextMachine::CanEnd(const State& state) {
  return state.b == 0 && texts_.Accepts(store_, state.a);
}

Run TextMachine::RunOf(const State& state) {
  return state.b == 0 ? texts_.RunOf(store_, state.a) : Run{};
}

}  // namespace pixii::text::grammar
