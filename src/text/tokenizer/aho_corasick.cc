#include "text/tokenizer/aho_corasick.h"

#include <algorithm>
#include <numeric>

namespace pixii::text {

namespace {

// A range of the sorted patterns that share the prefix which leads to `node`.
struct Span {
  std::uint32_t begin;
  std::uint32_t end;
};

}  // namespace

AhoCorasick::AhoCorasick(std::span<const std::string> patterns) {
  std::vector<std::uint32_t> order(patterns.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) {
    int difference = patterns[a].compare(patterns[b]);
    return difference != 0 ? difference < 0 : a < b;
  });
  for (const std::string& pattern : patterns) {
    pattern_bytes_.push_back(static_cast<std::uint32_t>(pattern.size()));
  }
  nodes_.emplace_back();
  std::vector<Span> spans{{0, static_cast<std::uint32_t>(order.size())}};
  // Breadth first, so a node's failure link always points to one that is finished.
  for (State state = 0; state < nodes_.size(); ++state) {
    std::uint32_t depth = nodes_[state].depth;
    auto [at, end] = spans[state];
    if (depth == 0) {
      while (at < end && patterns[order[at]].empty()) {
        ++at;
      }
    } else {
      Node& node = nodes_[state];
      node.own = patterns[order[at]].size() == depth;
      node.longest = node.own ? order[at] : nodes_[node.fail].longest;
      node.shorter = End(node.fail);
      while (at < end && patterns[order[at]].size() == depth) {
        ++at;
      }
    }
    nodes_[state].edges_begin = static_cast<std::uint32_t>(edges_.size());
    while (at < end) {
      auto byte = static_cast<unsigned char>(patterns[order[at]][depth]);
      std::uint32_t stop = at;
      while (stop < end && static_cast<unsigned char>(patterns[order[stop]][depth]) == byte) {
        ++stop;
      }
      auto child = static_cast<State>(nodes_.size());
      nodes_.emplace_back();
      nodes_[child].depth = depth + 1;
      nodes_[child].fail = depth == 0 ? kRoot : Next(nodes_[state].fail, byte);
      spans.push_back({at, stop});
      edges_.push_back({byte, child});
      ++nodes_[state].edges_count;
      if (depth == 0) {
        from_root_[byte] = child;
      }
      at = stop;
    }
  }
}

std::uint32_t AhoCorasick::Child(State state, unsigned char byte) const {
  const Node& node = nodes_[state];
  const Edge* first = edges_.data() + node.edges_begin;
  const Edge* last = first + node.edges_count;
  const Edge* edge = std::lower_bound(first, last, byte,
                                      [](const Edge& e, unsigned char b) { return e.byte < b; });
  return edge != last && edge->byte == byte ? edge->target : kNone;
}

std::uint32_t AhoCorasick::Step(State state, unsigned char byte) const {
  if (state == kRoot) {
    return from_root_[byte] == kRoot ? kNone : from_root_[byte];
  }
  return Child(state, byte);
}

AhoCorasick::State AhoCorasick::Next(State state, unsigned char byte) const {
  while (state != kRoot) {
    std::uint32_t child = Child(state, byte);
    if (child != kNone) {
      return child;
    }
    state = nodes_[state].fail;
  }
  return from_root_[byte];
}

}  // namespace pixii::text
