// Regular languages over code points as numbers: equal expressions have one number, and the
// language left after a character is again an expression.
//
// Thread: one owner; a value, copies are independent.
// Source: Brzozowski, "Derivatives of regular expressions" (1964); Owens, Reppy and Turon (2009)
// for the similarity rules that keep the derivatives few. Counted repetitions stay counts, so
// a{1000} is one node.
// Every language of texts ends with the symbol kTextEnd: a text t is in it if t kTextEnd is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/grammar/interner.h"

namespace pixii::text::grammar {

using RegexId = std::uint32_t;

inline constexpr char32_t kCodePointMax = 0x10FFFF;
inline constexpr char32_t kTextEnd = 0x110000;
inline constexpr std::uint32_t kUnbounded = 0xFFFFFFFF;

struct Interval {
  char32_t low;
  char32_t high;  // inclusive

  friend bool operator==(const Interval&, const Interval&) = default;
};

/// Sorted, apart, not touching.
using CharSet = std::vector<Interval>;

/// Sorts and joins.
void NormalizeSet(CharSet& set);
/// Code points (no surrogates, no kTextEnd) outside of `set`, which is normal.
CharSet ComplementSet(const CharSet& set);

/// What one call may cost and what all calls may keep. A step is about 50 ns of one core; what is
/// charged depends on what is computed alone.
struct Fuel {
  std::uint64_t steps = 0;  // left
  std::uint64_t nodes = 0;  // left
  bool exhausted = false;
  std::uint64_t spent = 0;  // steps of all calls

  bool Burn(std::uint64_t count = 1) {
    spent += count;
    if (steps < count) {
      exhausted = true;
      return false;
    }
    steps -= count;
    return true;
  }
};

class RegexStore final {
 public:
  RegexStore();

  static constexpr RegexId kNothing = 0;
  static constexpr RegexId kEpsilon = 1;
  static constexpr RegexId kEverything = 2;  // every word over code points and kTextEnd

  RegexId Set(CharSet set);

  RegexId Char(char32_t c) { return Set({{c, c}}); }

  /// One code point.
  RegexId any() const { return any_; }

  /// kTextEnd alone: the language of the empty text.
  RegexId end() const { return end_; }

  /// Every text.
  RegexId full() const { return full_; }

  RegexId Concat(RegexId first, RegexId second);
  RegexId Alt(std::vector<RegexId> parts);
  RegexId And(std::vector<RegexId> parts);
  RegexId Not(RegexId part);
  RegexId Repeat(RegexId part, std::uint32_t min, std::uint32_t max);
  /// One of these words (no kTextEnd added), as a trie.
  RegexId Words(std::vector<std::u32string> words);

  /// Every text of `min` to `max` code points.
  RegexId Length(std::uint32_t min, std::uint32_t max);

  /// Texts not in `language`, a language of texts.
  RegexId TextsWithout(RegexId language) { return And({full_, Not(language)}); }

  bool Nullable(RegexId id) const { return nodes_[id].nullable; }

  RegexId Derive(RegexId id, char32_t c);

  /// The empty rest of a text is in the language.
  bool AcceptsEnd(RegexId id) { return Nullable(Derive(id, kTextEnd)); }

  /// `text` (UTF-8) is in the language of texts.
  bool Matches(RegexId id, std::string_view text);
  /// The language has a word. Exact unless fuel ran out.
  bool Alive(RegexId id);
  /// Adds to `cuts` every code point where the derivative may change.
  void Cuts(RegexId id, std::vector<char32_t>& cuts);
  /// If the language is Length(min, max).
  bool IsLength(RegexId id, std::uint32_t& min, std::uint32_t& max) const;

  /// `id` without the lengths it is cut to, which go to `min` and `max`.
  RegexId WithoutLength(RegexId id, std::uint32_t& min, std::uint32_t& max);

  std::size_t size() const { return nodes_.size(); }

  /// About.
  std::size_t size_bytes() const {
    return nodes_.size_bytes() + part_bytes_ + sets_.size_bytes() + sets_.size() * 64 +
           trie_.size() * sizeof(TrieNode) + edges_.size() * sizeof(TrieEdge) +
           derived_.size_bytes() + alive_.size() * 56 + met_.size() * sizeof(std::uint64_t);
  }

  Fuel fuel;

 private:
  enum class Kind : std::uint8_t {
    kNothing,
    kEpsilon,
    kSet,
    kConcat,
    kAlt,
    kAnd,
    kNot,
    kRepeat,
    kTrie,
  };

  struct Node {
    Kind kind = Kind::kNothing;
    bool nullable = false;
    bool boolean = false;  // an intersection or complement is somewhere inside
    std::uint32_t a = 0;   // kSet: set; kConcat, kNot, kRepeat: part; kTrie: trie node
    std::uint32_t b = 0;
    std::uint32_t min = 0;
    std::uint32_t max = 0;
    std::vector<RegexId> parts = {};

    std::uint64_t Hash() const;
    friend bool operator==(const Node&, const Node&) = default;
  };

  struct SetValue {
    CharSet set;
    std::uint64_t Hash() const;
    friend bool operator==(const SetValue&, const SetValue&) = default;
  };

  struct TrieNode {
    std::uint32_t child_begin = 0;
    std::uint32_t child_count = 0;
    bool word = false;
  };

  struct TrieEdge {
    char32_t c;
    std::uint32_t node;
  };

  RegexId Add(Node node);
  RegexId DeriveUncached(RegexId id, char32_t c);
  RegexId TrieAt(std::uint32_t trie_node);
  std::uint32_t BuildTrie(const std::vector<std::u32string>& words, std::size_t begin,
                          std::size_t end, std::size_t depth);
  bool Contains(std::uint32_t set, char32_t c) const;
  void Flatten(Kind kind, std::vector<RegexId>& parts) const;
  std::vector<RegexId> Successors(RegexId id);
  bool SeenAlive(RegexId id) const;
  /// Nothing: not found out near by.
  std::optional<bool> AliveNear(RegexId id);

  Interner<Node> nodes_;
  std::size_t part_bytes_ = 0;  // of the nodes' parts
  Interner<SetValue> sets_;
  std::vector<TrieNode> trie_;
  std::vector<TrieEdge> edges_;
  PairMemo derived_;
  std::unordered_map<RegexId, bool> alive_;
  std::vector<std::uint64_t> met_;  // the last walk that came by, of each node
  std::uint64_t met_round_ = 0;
  RegexId any_ = 0;
  RegexId end_ = 0;
  RegexId full_ = 0;
};

}  // namespace pixii::text::grammar
