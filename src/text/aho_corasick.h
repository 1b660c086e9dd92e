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

  /// The leftmost match at or after `from`, the longest of those that begin there; pattern is kNone
  /// if there is none. `from` to the match's end plus one pattern's length is read.
  Match FindLeftmostLongest(std::string_view text, std::size_t from) const;

 private:
  struct Node {
    std::uint32_t edges_begin = 0;  // into edges_
    std::uint32_t edges_count = 0;
    State fail = kRoot;
    std::uint32_t depth = 0;
    std::uint32_t longest = kNone;
  };

  struct Edge {
    unsigned char byte;
    State target;
  };

  std::uint32_t Child(State state, unsigned char byte) const;

  std::array<State, 256> from_root_{};
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::vector<std::uint32_t> pattern_bytes_;
};

}  // namespace pixii::text
