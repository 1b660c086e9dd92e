#include "text/grammar/mask_builder.h"

#include <algorithm>
#include <vector>

namespace pixii::text::grammar {

namespace {

constexpr std::uint32_t kNodesOfStep = 16;  // walked in the time of a step of Fuel

class Walk final {
 public:
  /// Stops behind the step with which the machine has spent `stop`; then nothing is known.
  Walk(Machine& machine, std::span<std::uint32_t> mask, std::uint64_t stop)
      : machine_(machine), mask_(mask), stop_(stop) {}

  bool stopped() const { return stopped_; }

  /// Sets the tokens of the trie that `state` takes, but for those that begin with `skip` kinds.
  void Run(std::span<const GrammarVocabulary::Node> nodes, std::span<const TokenId> tokens,
           const State& state, std::uint32_t skip = 0) {
    states_.assign(1, state);
    for (std::uint32_t at = 1; at < nodes.size() && GoesOn();) {
      const GrammarVocabulary::Node& node = nodes[at];
      if ((skip != 0 && node.depth == 1 && OfKinds(node.byte, skip)) || !Step(node)) {
        at = node.end;
        continue;
      }
      at = Take(node, tokens, at);
    }
  }

  void Run(const GrammarVocabulary::Trie& trie, const State& state) {
    Run(trie.nodes, trie.tokens, state);
  }

  /// The same for tokens of `kinds` alone and of more than `chars` characters.
  void RunLonger(const GrammarVocabulary& vocabulary, const State& state, std::uint32_t kinds,
                 std::uint32_t chars) {
    std::span<const GrammarVocabulary::Node> nodes = vocabulary.nodes();
    std::span<const TokenId> tokens = vocabulary.tokens();
    states_.assign(1, state);
    std::vector<std::uint32_t> read(1, 0);  // characters on the way, by depth
    for (std::uint32_t at = 1; at < nodes.size() && GoesOn();) {
      const GrammarVocabulary::Node& node = nodes[at];
      read.resize(std::max<std::size_t>(read.size(), node.depth + 1U));
      read[node.depth] = read[node.depth - 1U] + ((node.byte & 0xC0) != 0x80 ? 1 : 0);
      bool short_below = node.chars_below < 255 && read[node.depth] + node.chars_below <= chars;
      if (!OfKinds(node.byte, kinds) || short_below || !Step(node)) {
        at = node.end;
        continue;
      }
      at = Take(node, tokens, at);
    }
  }

  /// Sets and clears what `state` takes.
  void Judge(const GrammarVocabulary::Trie& trie, const State& state) {
    states_.assign(1, state);
    for (std::uint32_t at = 1; at < trie.nodes.size() && GoesOn();) {
      const GrammarVocabulary::Node& node = trie.nodes[at];
      if (!Step(node)) {
        Clear(std::span(trie.tokens).subspan(node.token_begin, node.token_end - node.token_begin));
        at = node.end;
        continue;
      }
      at = Take(node, trie.tokens, at);
    }
  }

  /// Sets and clears on the ways that the machine tells apart; leaves all else.
  void Correct(std::span<const GrammarVocabulary::Node> nodes, std::span<const TokenId> tokens,
               const State& state) {
    states_.assign(1, state);
    std::vector<ByteSet> apart(1, machine_.Apart(state, state));  // by depth
    if (apart[0].none()) {
      return;
    }
    for (std::uint32_t at = 1; at < nodes.size() && GoesOn();) {
      const GrammarVocabulary::Node& node = nodes[at];
      if (!apart[node.depth - 1U].test(node.byte)) {
        at = node.end;
        continue;
      }
      if (!Step(node)) {
        Clear(tokens.subspan(node.token_begin, node.token_end - node.token_begin));
        at = node.end;
        continue;
      }
      Set(tokens.subspan(node.token_begin, node.own_tokens));
      ++at;
      if (at == node.end) {
        continue;
      }
      apart.resize(std::max<std::size_t>(apart.size(), node.depth + 1U));
      apart[node.depth] = machine_.Apart(states_[node.depth], state);
      at = apart[node.depth].none() ? node.end : at;
    }
  }

 private:
  // Looked at between steps alone: what one step found out is kept whole, and is not found out
  // again by the walk that begins anew.
  bool GoesOn() {
    if (++walked_ % kNodesOfStep == 0) {
      machine_.fuel().Burn();
    }
    stopped_ = stopped_ || machine_.fuel().spent >= stop_;
    return !stopped_;
  }

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

  // Sets what ends at the node `at`, and all below it where that is sure; the node to look at next.
  std::uint32_t Take(const GrammarVocabulary::Node& node, std::span<const TokenId> tokens,
                     std::uint32_t at) {
    if (at + 1 != node.end && TakesAllBelow(node)) {
      Set(tokens.subspan(node.token_begin, node.token_end - node.token_begin));
      return node.end;
    }
    Set(tokens.subspan(node.token_begin, node.own_tokens));
    return at + 1;
  }

  // From the state of the node above.
  bool Step(const GrammarVocabulary::Node& node) {
    states_.resize(std::max<std::size_t>(states_.size(), node.depth + 1U));
    State& next = states_[node.depth];
    next = states_[node.depth - 1U];
    return machine_.Step(next, node.byte);
  }

  bool TakesAllBelow(const GrammarVocabulary::Node& node) {
    grammar::Run run = machine_.RunOf(states_[node.depth]);
    return (node.classes & ~run.classes) == 0 && node.chars_below <= run.chars_max &&
           (node.chars_below < 255 || run.chars_max == kUnbounded);
  }

  static bool OfKinds(std::uint8_t byte, std::uint32_t classes) {
    return byte >= 0x80 ? (classes & kNonAscii) != 0 : (ClassOfAscii(byte) & classes) != 0;
  }

  Machine& machine_;
  std::span<std::uint32_t> mask_;
  std::uint64_t stop_;
  std::uint32_t walked_ = 0;
  bool stopped_ = false;
  std::vector<State> states_;
};

// The kinds that are best known to be taken: the first that go on for long, else those that are
// taken the longest.
const GrammarVocabulary::Slice* BestSlice(Machine& machine, const GrammarVocabulary& vocabulary,
                                          const State& state, Safe& safe) {
  const GrammarVocabulary::Slice* best = nullptr;
  safe = {};
  for (const GrammarVocabulary::Slice& slice : vocabulary.slices()) {
    Safe now = machine.SafeOf(state, slice.index);
    if (now.chars > safe.chars) {
      best = &slice;
      safe = now;
    }
    if (safe.chars >= kSlicePrefixMax) {
      break;
    }
  }
  return best;
}

}  // namespace

bool BuildMask(Machine& machine, const GrammarVocabulary& vocabulary, const State& state,
               std::uint64_t stop, std::span<std::uint32_t> mask) {
  Walk walk(machine, mask, stop);
  Safe safe;
  const GrammarVocabulary::Slice* slice = BestSlice(machine, vocabulary, state, safe);
  if (slice == nullptr) {
    std::fill(mask.begin(), mask.end(), 0);
    walk.Run(vocabulary.nodes(), vocabulary.tokens(), state);
    return !walk.stopped();
  }
  // Inside a text that takes any character of a set: tokens of the set at once, then those that
  // begin with something else, then those that begin with the set and go on with others.
  std::size_t row = std::min<std::size_t>(safe.chars, kSlicePrefixMax);
  row = safe.chars == kUnbounded ? kSlicePrefixMax + 1 : row;
  std::copy(slice->masks[row].begin(), slice->masks[row].end(), mask.begin());
  const Run run = machine.RunOf(state);
  const bool of_run = (slice->classes & ~run.classes) == 0;
  if (safe.chars != kUnbounded && !(of_run && safe.chars <= kSlicePrefixMax)) {
    walk.RunLonger(vocabulary, state, slice->classes, static_cast<std::uint32_t>(row));
  }
  walk.Run(vocabulary.nodes(), vocabulary.tokens(), state, slice->classes);
  walk.Run(slice->broken, state);
  if (of_run) {
    // Each such character leads to the same place: perhaps one that is not left any more.
    State after = state;
    if (machine.Step(after, slice->sample)) {
      Run later = machine.RunOf(after);
      if (later.same && (slice->classes & ~later.classes) == 0) {
        walk.Run(slice->tails, after);
        return !walk.stopped();
      }
    }
  }
  for (const GrammarVocabulary::Group& group : slice->mixed) {
    bool near = safe.chars == kUnbounded || safe.chars >= kMixedPrefixMax;
    if (!near || group.kind == 0 || (group.kind & safe.next) != 0) {
      walk.Run(group.trie, state);
    }
  }
  return !walk.stopped();
}

bool CorrectMask(Machine& machine, const GrammarVocabulary& vocabulary, const State& state,
                 std::uint64_t stop, std::span<std::uint32_t> mask) {
  Walk walk(machine, mask, stop);
  walk.Correct(vocabulary.nodes(), vocabulary.tokens(), state);
  return !walk.stopped();
}

bool CorrectLongTokens(Machine& machine, const GrammarVocabulary& vocabulary, const State& state,
                       std::uint64_t stop, std::span<std::uint32_t> mask) {
  Walk walk(machine, mask, stop);
  walk.Judge(vocabulary.long_tokens(), state);
  return !walk.stopped();
}

}  // namespace pixii::text::grammar
