// Many byte strings searched at once: the automaton behind stop strings and added tokens.
//
// Thread: immutable after construction; shared freely.
// Layout: a trie in arrays, one node per distinct prefix; edges sorted in one hash-free list per
// node. Source: Aho and Corasick, "Efficient string matching", CACM 18(6), 1975.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pixii::text {

class AhoCorasick final {
 public:
  using State = std::uint32_t;
  static constexpr State kRoot = 0;
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  AhoCorasick() : AhoCorasick(std::span<const std::string>()) {}

  /// Empty patterns never match; of equal ones the first counts. O(bytes of all patterns).
  explicit AhoCorasick(std::span<const std::string> patterns);

  /// The state after one more byte. Amortised O(log fan-out).
  State Next(State state, unsigned char byte) const;

  /// One byte further along the patterns themselves, kNone if none goes on so: a walk from the root
  /// that ends at the first byte that fits no pattern.
  std::uint32_t Step(State state, unsigned char byte) const;

  /// The pattern that is exactly the bytes walked to `state`, or kNone.
  std::uint32_t PatternAt(State state) const {
    return nodes_[state].own ? nodes_[state].longest : kNone;
  }

  /// Bytes of the longest suffix read so far that begins some pattern.
  std::uint32_t Depth(State state) const { return nodes_[state].depth; }

  /// The longest pattern that ends here, or kNone.
  std::uint32_t Longest(State state) const { return nodes_[state].longest; }

  std::uint32_t PatternBytes(std::uint32_t pattern) const { return pattern_bytes_[pattern]; }

  bool empty() const { return nodes_.size() == 1; }

  struct Match {
    std::uint32_t pattern;
    std::size_t begin;
    std::size_t end;
  };

  /// The leftmost match at or after `from`, the longest of those that begin there, of those that
  /// `accept(match)` lets pass; pattern is kNone if there is none. Reads at most one pattern's
  /// length past the match.
  template <class Accept>
  Match FindLeftmostLongest(std::string_view text, std::size_t from, Accept accept) const;

 private:
  struct Node {
    std::uint32_t edges_begin = 0;  // into edges_
    std::uint32_t edges_count = 0;
    State fail = kRoot;
    std::uint32_t depth = 0;
    std::uint32_t longest = kNone;
    State shorter = kRoot;
    bool own = false;
  };

  struct Edge {
    unsigned char byte;
    State target;
  };

  // The state at which the next shorter pattern that ends here is found, kRoot if there is none.
  State ShorterEnd(State state) const { return nodes_[state].shorter; }

  // A state whose own prefix is a pattern: this one, or the nearest along the failure links.
  State End(State state) const { return nodes_[state].own ? state : nodes_[state].shorter; }

  std::uint32_t Child(State state, unsigned char byte) const;

  std::array<State, 256> from_root_{};
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::vector<std::uint32_t> pattern_bytes_;
};

template <class Accept>
AhoCorasick::Match AhoCorasick::FindLeftmostLongest(std::string_view text, std::size_t from,
                                                    Accept accept) const {
  Match best{kNone, text.size(), text.size()};
  State state = kRoot;
  for (std::size_t i = from; i < text.size(); ++i) {
    if (state == kRoot && best.pattern == kNone) {
      while (i < text.size() && from_root_[static_cast<unsigned char>(text[i])] == kRoot) {
        ++i;
      }
      if (i == text.size()) {
        break;
      }
    }
    state = Next(state, static_cast<unsigned char>(text[i]));
    // All that may still match begins at or after this.
    std::size_t oldest = i + 1 - nodes_[state].depth;
    if (best.pattern != kNone && oldest > best.begin) {
      break;
    }
    for (State end = End(state); end != kRoot; end = ShorterEnd(end)) {
      Match match{nodes_[end].longest, i + 1 - nodes_[end].depth, i + 1};
      if (match.begin > best.begin) {
        break;
      }
      if (accept(match)) {
        best = match;
        break;
      }
    }
  }
  return best;
}

}  // namespace pixii::text
