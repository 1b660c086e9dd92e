#include "text/grammar/mask_builder.h"

#include <algorithm>
#include <vector>

namespace pixii::text::grammar {

namespace {

class Walk final {
 public:
  Walk(Machine& machine, std::span<std::uint32_t> mask) : machine_(machine), mask_(mask) {}

  /// Sets the tokens of the trie that `state` takes, but for those that begin with `skip` kinds.
  void Run(std::span<const GrammarVocabulary::Node> nodes, std::span<const TokenId> tokens,
           const State& state, std::uint32_t skip = 0) {
    states_.assign(1, state);
    for (std::uint32_t at = 1; at < nodes.size();) {
      const GrammarVocabulary::Node& node = nodes[at];
      if (skip != 0 && node.depth == 1 && Skipped(node.byte, skip)) {
        at = node.end;
        continue;
      }
      states_.resize(std::max<std::size_t>(states_.size(), node.depth + 1U));
      State& next = states_[node.depth];
      next = states_[node.depth - 1U];
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
      }
    }
  }

  /// Sets and clears where names lead; leaves all else.
  void Correct(std::span<const GrammarVocabulary::Node> nodes, std::span<const TokenId> tokens,
               const State& state) {
    states_.assign(1, state);
    for (std::uint32_t at = 1; at < nodes.size();) {
      const GrammarVocabulary::Node& node = nodes[at];
      states_.resize(std::max<std::size_t>(states_.size(), node.depth + 1U));
      State& next = states_[node.depth];
      next = states_[node.depth - 1U];
      if (!machine_.Step(next, node.byte)) {
        Clear(tokens.subspan(node.token_begin, node.token_end - node.token_begin));
        at = node.end;
      } else if (machine_.IsFree(next)) {
        at = node.end;
      } else {
        Set(tokens.subspan(node.token_begin, node.own_tokens));
        ++at;
      }
    }
  }

 private:
  void Set(std::span<const TokenId> tokens) {
    for (TokenId token : tokens) {
      mask_[static_cast<std::size_t>(token) / 32] |= 1U << (token % 32);
    }
  }

  void Clear(std::span<const TokenId> tokens) {
    for (TokenId token : tokens) {
      mask_[static_cast<std::size_t>(token) / 32] &= ~(1U << (token % 32));
    }
  }

  static bool Skipped(std::uint8_t byte, std::uint32_t classes) {
    return byte >= 0x80 ? (classes & kNonAscii) != 0 : (ClassOfAscii(byte) & classes) != 0;
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
  const GrammarVocabulary::Slice* best = nullptr;
  for (const GrammarVocabulary::Slice& slice : vocabulary.slices()) {
    if ((slice.classes & ~run.classes) == 0 && run.classes != 0 && !run.remembered) {
      best = &slice;
      break;
    }
  }
  if (best == nullptr) {
    std::fill(mask.begin(), mask.end(), 0);
    walk.Run(vocabulary.nodes(), vocabulary.tokens(), state);
    return;
  }
  // Inside a text that takes any character of a set: tokens of the set at once, then what follows
  // it in others, then those that begin with something else.
  bool unlimited = run.chars_max == kUnbounded;
  std::size_t row =
      unlimited ? kSlicePrefixMax + 1 : std::min<std::size_t>(run.chars_max, kSlicePrefixMax);
  std::copy(best->masks[row].begin(), best->masks[row].end(), mask.begin());
  walk.Run(vocabulary.nodes(), vocabulary.tokens(), state, best->classes);
  auto tails = [&](const GrammarVocabulary::Trie& trie, const State& from) {
    walk.Run(trie.nodes, trie.tokens, from);
  };
  tails(best->tails[0], state);
  if (run.same) {
    tails(best->all_tails, state);
    return;
  }
  State after = state;
  for (std::size_t chars = 1; chars <= kSlicePrefixMax; ++chars) {
    if (chars > run.chars_max || !machine.Step(after, best->sample)) {
      return;
    }
    tails(best->tails[chars], after);
  }
  tails(best->long_tokens, state);
}

void CorrectMask(Machine& machine, const GrammarVocabulary& vocabulary, const State& state,
                 std::span<std::uint32_t> mask) {
  Walk(machine, mask).Correct(vocabulary.nodes(), vocabulary.tokens(), state);
}

}  // namespace pixii::text::grammar
