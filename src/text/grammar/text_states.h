// Automata over code points, made as they are needed: one language that decides what may follow,
// and others watched beside it whose verdict is asked for at the end.
//
// Thread: one owner; a value. The store is handed to each call, since both are copied together.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

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
    Expanded& place = Expand(store, state);
    return c < 128 ? place.ascii[c] : NextWide(place, c);
  }

  /// Some text begins with a character of low .. high.
  bool AnyIn(RegexStore& store, std::uint32_t state, char32_t low, char32_t high);
  /// The text may end here.
  bool Accepts(RegexStore& store, std::uint32_t state) { return Expand(store, state).accepts[0]; }

  /// Per language, whether the text that ends here is in it.
  const std::vector<bool>& Verdicts(RegexStore& store, std::uint32_t state) {
    return Expand(store, state).accepts;
  }

  const std::vector<RegexId>& languages(std::uint32_t state) const { return states_[state].nodes; }

  Run RunOf(RegexStore& store, std::uint32_t state) { return Expand(store, state).run; }

  std::size_t size_bytes() const { return expanded_.size() * sizeof(Expanded); }

 private:
  struct Place {
    std::vector<RegexId> nodes;
    std::uint32_t expanded = 0;  // not part of its identity

    std::uint64_t Hash() const;

    friend bool operator==(const Place& a, const Place& b) { return a.nodes == b.nodes; }
  };

  struct Edge {
    char32_t low;
    char32_t high;
    std::uint32_t next;
  };

  struct Expanded {
    std::array<std::uint32_t, 128> ascii{};
    std::vector<Edge> edges;  // of living successors, sorted
    std::vector<bool> accepts;
    Run run;
  };

  Expanded& Expand(RegexStore& store, std::uint32_t state) {
    std::uint32_t at = states_[state].expanded;
    return at != 0 ? expanded_[at] : ExpandNow(store, state);
  }

  Expanded& ExpandNow(RegexStore& store, std::uint32_t state);
  static std::uint32_t NextWide(const Expanded& place, char32_t c);
  Run MeasureRun(RegexStore& store, std::uint32_t state, const Expanded& place) const;

  Interner<Place> states_;
  std::deque<Expanded> expanded_;
};

}  // namespace pixii::text::grammar
