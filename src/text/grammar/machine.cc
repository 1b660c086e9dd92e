#include "text/grammar/machine.h"

#include "text/grammar/grammar_vocabulary.h"

namespace pixii::text::grammar {

Safe Machine::SafeOf(const State& state, std::uint32_t slice) {
  const Run run = RunOf(state);
  return {.chars = (SliceClasses()[slice] & ~run.classes) == 0 ? run.chars_max : 0};
}

bool Machine::Loosen(const State& state, Free& free) {
  (void)state;
  (void)free;
  return false;
}

ByteSet Machine::Apart(const State& state, const State& from) {
  (void)state;
  (void)from;
  return {};
}

}  // namespace pixii::text::grammar
