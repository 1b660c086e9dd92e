#include "text/grammar/text_states.h"

#include <algorithm>

#include "text/grammar/grammar_vocabulary.h"

namespace pixii::text::grammar {

std::uint64_t TextStates::Place::Hash() const {
  std::uint64_t hash = 11;
  for (RegexId node : nodes) {
    hash = MixHash(hash, node);
  }
  return hash;
}

TextStates::TextStates() {
  states_.Intern({{RegexStore::kNothing}});
  Expanded dead;
  dead.accepts = {false};
  expanded_.push_back(dead);
  expanded_.push_back(std::move(dead));
  states_.Mutable(kDead).expanded = 1;
}

std::uint32_t TextStates::Start(RegexStore& store, std::vector<RegexId> languages) {
  if (!store.Alive(languages[0])) {
    return kDead;
  }
  return states_.Intern({std::move(languages)});
}

TextStates::Expanded& TextStates::ExpandNow(RegexStore& store, std::uint32_t state) {
  const std::vector<RegexId>& nodes = states_[state].nodes;
  std::vector<char32_t> cuts = {0, 128, 0xE000};
  for (RegexId node : nodes) {
    store.Cuts(node, cuts);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  Expanded out;
  for (std::size_t i = 0; i < cuts.size() && cuts[i] <= kCodePointMax; ++i) {
    char32_t low = cuts[i];
    char32_t high = i + 1 < cuts.size() ? cuts[i + 1] - 1 : kCodePointMax;
    high = low < 0xE000 ? std::min<char32_t>(high, 0xD7FF) : std::min(high, kCodePointMax);
    if (low > high) {
      continue;
    }
    std::vector<RegexId> next;
    next.reserve(nodes.size());
    for (RegexId node : nodes) {
      next.push_back(store.Derive(node, low));
      if (next[0] == RegexStore::kNothing) {
        break;
      }
    }
    if (next[0] == RegexStore::kNothing) {
      continue;
    }
    std::uint32_t id = Start(store, std::move(next));
    if (id == kDead || store.fuel.exhausted) {
      continue;
    }
    for (char32_t c = low; c <= high && c < 128; ++c) {
      out.ascii[c] = id;
    }
    if (!out.edges.empty() && out.edges.back().next == id && out.edges.back().high + 1 == low) {
      out.edges.back().high = high;
    } else {
      out.edges.push_back({low, high, id});
    }
  }
  for (RegexId node : nodes) {
    out.accepts.push_back(store.AcceptsEnd(node));
  }
  out.run = MeasureRun(store, state, out);
  if (store.fuel.exhausted) {
    // Nothing half known is kept: the caller sees that the fuel is gone.
    return expanded_[0];
  }
  store.fuel.nodes -= std::min<std::uint64_t>(store.fuel.nodes, 6);
  expanded_.push_back(std::move(out));
  states_.Mutable(state).expanded = static_cast<std::uint32_t>(expanded_.size() - 1);
  return expanded_.back();
}

Run TextStates::MeasureRun(RegexStore& store, std::uint32_t state, const Expanded& place) const {
  std::uint32_t min = 0;
  std::uint32_t max = 0;
  const std::vector<RegexId>& nodes = states_[state].nodes;
  if (nodes.size() == 1 && store.IsLength(nodes[0], min, max) && max != kUnbounded) {
    return {0xFFFF & ~kBroken, max};
  }
  std::uint16_t broken = kBroken;
  for (std::uint32_t c = 0; c < 128; ++c) {
    if (place.ascii[c] != state) {
      broken |= ClassOfAscii(static_cast<std::uint8_t>(c));
    }
  }
  char32_t next = 128;
  for (const Edge& edge : place.edges) {
    bool covers = edge.next == state && (edge.low <= next || (next == 0xD800 && edge.low == 0xE000));
    if (edge.high >= next && covers) {
      next = edge.high + 1;
    }
  }
  if (next <= kCodePointMax) {
    broken |= kNonAscii;
  }
  auto classes = static_cast<std::uint16_t>(~broken);
  return {classes, classes == 0 ? 0 : kUnbounded};
}

std::uint32_t TextStates::NextWide(const Expanded& place, char32_t c) {
  auto after = std::upper_bound(place.edges.begin(), place.edges.end(), c,
                                [](char32_t x, const Edge& edge) { return x < edge.low; });
  if (after == place.edges.begin() || std::prev(after)->high < c) {
    return kDead;
  }
  return std::prev(after)->next;
}

bool TextStates::AnyIn(RegexStore& store, std::uint32_t state, char32_t low, char32_t high) {
  if (low > high) {
    return false;
  }
  const Expanded& place = Expand(store, state);
  auto edge = std::lower_bound(place.edges.begin(), place.edges.end(), low,
                               [](const Edge& e, char32_t x) { return e.high < x; });
  return edge != place.edges.end() && edge->low <= high;
}

}  // namespace pixii::text::grammar
