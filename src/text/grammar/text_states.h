// Automata over code points, made as they are needed: one language that decides what may follow,
// and others watched beside it whose verdict is asked for at the end.
//
// Thread: one owner; a value. The store is handed to each call, since both are copied together.
// Layout of a state: a core (languages without the length they are cut to), or with the top bit a
// core and how many characters may and must still come, so that lengths do not multiply the cores.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "text/grammar/grammar_vocabulary.h"
#include "text/grammar/machine.h"
#include "text/grammar/regex_store.h"

namespace pixii::text::grammar {

class TextStates final {
 public:
  static constexpr std::uint32_t kDead = 0;

  TextStates();

  /// The state of languages[0], with the others watched. kDead: no text is in the first.
  std::uint32_t Start(RegexStore& store, std::vector<RegexId> languages);

  /// After `c`.
  std::uint32_t Next(RegexStore& store, std::uint32_t state, char32_t c) {
    const Expanded& core = Expand(store, CoreOf(state));
    std::uint32_t next = c < 128 ? core.ascii[c] : NextWide(core, c);
    return (state & kCut) == 0 || next == kDead ? next : Shorten(store, state, next);
  }

  /// Some text begins with a character of low .. high.
  bool AnyIn(RegexStore& store, std::uint32_t state, char32_t low, char32_t high);

  /// The text may end here.
  bool Accepts(RegexStore& store, std::uint32_t state) {
    return ((state & kCut) == 0 || cuts_[state & ~kCut].min == 0) &&
           Expand(store, CoreOf(state)).accepts[0];
  }

  /// Per language but the first, whether the text that ends here is in it.
  const std::vector<bool>& Verdicts(RegexStore& store, std::uint32_t state) {
    return Expand(store, CoreOf(state)).accepts;
  }

  Run RunOf(RegexStore& store, std::uint32_t state) {
    Run run = Expand(store, CoreOf(state)).run;
    return (state & kCut) == 0 ? run : CutRun(store, state, run);
  }

  /// See Machine::SafeOf.
  Safe SafeOf(RegexStore& store, std::uint32_t state, std::uint32_t slice);

  /// A state that takes the same texts of at most `chars_max` characters and is more often met;
  /// false: none. For states that lengths alone tell apart.
  bool Loosen(RegexStore& store, std::uint32_t state, std::uint32_t& loose,
              std::uint32_t& chars_max);

  /// About.
  std::size_t size_bytes() const {
    return expanded_.size() * sizeof(Expanded) + expanded_bytes_ + cores_.size_bytes() +
           core_bytes_ + cuts_.size_bytes();
  }

 private:
  static constexpr std::uint32_t kCut = 0x80000000;

  struct Core {
    std::vector<RegexId> nodes;
    // Not part of the identity.
    std::uint32_t expanded = 0;
    std::uint32_t distance = kUnbounded - 1;  // least characters to the end; that: not looked for

    std::uint64_t Hash() const;

    friend bool operator==(const Core& a, const Core& b) { return a.nodes == b.nodes; }
  };

  struct Cut {
    std::uint32_t core = 0;
    std::uint32_t min = 0;
    std::uint32_t max = 0;
    // Not part of the identity: 0 not known, 1 alive, 2 dead.
    std::uint32_t alive = 0;

    std::uint64_t Hash() const {
      return MixHash((static_cast<std::uint64_t>(min) << 32) | max, core);
    }

    friend bool operator==(const Cut& a, const Cut& b) {
      return a.core == b.core && a.min == b.min && a.max == b.max;
    }
  };

  struct Edge {
    char32_t low;
    char32_t high;
    std::uint32_t next;
  };

  // Characters of some kinds lead here or there.
  struct Way {
    std::uint32_t classes;
    std::uint32_t next;
  };

  // How long any characters of some kinds are taken, what may follow them, and how far the end is
  // then at most.
  struct Reach {
    static constexpr std::uint8_t kUnknown = 0;
    static constexpr std::uint8_t kForEver = 255;

    std::uint8_t chars = kUnknown;  // plus one
    std::uint8_t distance = 255;    // 255: that far or not known
    std::uint32_t next = ~0U;
  };

  struct Expanded {
    std::array<std::uint32_t, 128> ascii{};
    std::vector<Edge> edges;  // to living successors, sorted
    std::vector<bool> accepts;
    Run run;
    std::vector<Way> ways;
    std::uint32_t alive_classes = 0;  // kinds all of whose characters may follow
    bool loops = false;               // every text goes on as it is and may end
    std::array<Reach, kSliceCount> reach{};
  };

  std::uint32_t CoreOf(std::uint32_t state) const {
    return (state & kCut) == 0 ? state : cuts_[state & ~kCut].core;
  }

  const Expanded& Expand(RegexStore& store, std::uint32_t core) {
    std::uint32_t at = cores_[core].expanded;
    return at != 0 ? expanded_[at] : ExpandNow(store, core);
  }

  const Expanded& ExpandNow(RegexStore& store, std::uint32_t core);
  std::uint32_t CoreId(RegexStore& store, std::vector<RegexId> languages);
  static std::uint32_t NextWide(const Expanded& place, char32_t c);
  static Run MeasureRun(std::uint32_t core, const Expanded& place);
  static void MeasureWays(std::uint32_t core, Expanded& place);
  Reach ReachOf(RegexStore& store, std::uint32_t core, std::uint32_t slice);
  Reach MeasureReach(RegexStore& store, std::uint32_t core, std::uint32_t slice);
  Run CutRun(RegexStore& store, std::uint32_t state, Run run);
  std::uint32_t Shorten(RegexStore& store, std::uint32_t state, std::uint32_t core);
  std::uint32_t CutId(RegexStore& store, std::uint32_t core, std::uint32_t min, std::uint32_t max);
  bool CutAlive(RegexStore& store, std::uint32_t core, std::uint32_t min, std::uint32_t max);
  /// Least characters before the core may end; kUnbounded: too many to look for.
  std::uint32_t Distance(RegexStore& store, std::uint32_t core);

  Interner<Core> cores_;
  Interner<Cut> cuts_;
  std::deque<Expanded> expanded_;
  std::size_t core_bytes_ = 0;      // of the cores' nodes
  std::size_t expanded_bytes_ = 0;  // of what expanded_ points to
};

}  // namespace pixii::text::grammar
