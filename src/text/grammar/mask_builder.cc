#include "text/grammar/mask_builder.h"

#include <algorithm>
#include <vector>

namespace pixii::text::grammar {

namespace {

class Walk final {
 public:
  Walk(Machine& machine, std::span<std::uint32_t> mask) : machine_(machine), mask_(mask) {}

  /// Sets the tokens of `trie` that `state` takes.
  void Run(std::span<const GrammarVocabulary::Node> nodes, std::span<const TokenId> tokens,
           const State& state) {
    states_.assign(1, state);
    for (std::uint32_t at = 1; at < nodes.size();) {
      const GrammarVocabulary::Node& node = nodes[at];
      states_.resize(std::max<std::size_t>(states_.size(), node.depth + 1U));
      State next = states_[node.depth - 1U];
      if (!machine_.Step(next, node.byte)) {
        at = node.end;
        continue;
      }
      Set(tokens.subspan(node.token_begin, node.own_tokens));
      ++at;
      if (node.end == at) {
        continue;
      }
      grammar::Run run = machine_.RunOf(next);
      if ((node.classes & ~run.classes) == 0 && node.chars_below <= run.chars_max &&
          (node.chars_below < 255 || run.chars_max == kUnbounded)) {
        Set(tokens.subspan(node.token_begin, node.token_end - node.token_begin));
        at = node.end;
        continue;
      }
      states_[node.depth] = next;
    }
  }

 private:
  void Set(std::span<const TokenId> tokens) {
    for (TokenId token : tokens) {
      mask_[static_cast<std::size_t>(token) / 32] |= 1U << (token % 32);
    }
  }

  Machine& machine_;
  std::span<std::uint32_t> mask_;
  std::vector<State> states_;
};

}  // namespace

void BuildMask(Machine& machine, const GrammarVocabulary& vocabulary, const State& state,
               std::span<std::uint32_t> mask) {
  Walk walk(machine, mask);
  Run run = machine.RunOf(state);
  if ((run.classes & kPlainClasses) != kPlainClasses) {
    std::fill(mask.begin(), mask.end(), 0);
    walk.Run(vocabulary.nodes(), vocabulary.tokens(), state);
    return;
  }
  // Inside a string that takes any character: plain tokens at once, then what ends or escapes.
  std::span<const std::uint32_t> plain =
      vocabulary.PlainMask(std::min(run.chars_max, vocabulary.plain_chars_max()));
  std::copy(plain.begin(), plain.end(), mask.begin());
  std::span<const GrammarVocabulary::Tails> tails = vocabulary.tails();
  if (run.chars_max == kUnbounded) {
    const GrammarVocabulary::Tails& all = tails[kSafePrefixMax + 2];
    walk.Run(all.nodes, all.tokens, state);
    return;
  }
  State after = state;
  for (std::size_t chars = 0; chars <= kSafePrefixMax; ++chars) {
    walk.Run(tails[chars].nodes, tails[chars].tokens, after);
    if (chars == run.chars_max || !machine.Step(after, 'a')) {
      return;
    }
  }
  walk.Run(tails[kSafePrefixMax + 1].nodes, tails[kSafePrefixMax + 1].tokens, state);
}

}  // namespace pixii::text::grammar
