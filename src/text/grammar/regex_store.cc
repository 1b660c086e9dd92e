#include "text/grammar/regex_store.h"

#include <algorithm>
#include <unordered_set>

#include "base/utf8.h"

namespace pixii::text::grammar {

namespace {

constexpr std::uint64_t kStepsOfDerivation = 4;

}  // namespace

void NormalizeSet(CharSet& set) {
  std::sort(set.begin(), set.end(),
            [](const Interval& a, const Interval& b) { return a.low < b.low; });
  CharSet out;
  for (const Interval& part : set) {
    if (part.low > part.high) {
      continue;
    }
    if (!out.empty() && part.low <= out.back().high + 1) {
      out.back().high = std::max(out.back().high, part.high);
    } else {
      out.push_back(part);
    }
  }
  set = std::move(out);
}

CharSet ComplementSet(const CharSet& set) {
  CharSet out;
  char32_t next = 0;
  auto emit = [&out](char32_t low, char32_t high) {
    // Surrogates are no characters.
    for (Interval part : {Interval{0, 0xD7FF}, Interval{0xE000, kCodePointMax}}) {
      char32_t from = std::max(low, part.low);
      char32_t to = std::min(high, part.high);
      if (from <= to) {
        out.push_back({from, to});
      }
    }
  };
  for (const Interval& part : set) {
    if (part.low > next) {
      emit(next, part.low - 1);
    }
    next = part.high + 1;
  }
  if (next <= kCodePointMax) {
    emit(next, kCodePointMax);
  }
  return out;
}

std::uint64_t RegexStore::Node::Hash() const {
  std::uint64_t hash = MixHash(static_cast<std::uint64_t>(kind), a);
  hash = MixHash(hash, b);
  hash = MixHash(hash, (static_cast<std::uint64_t>(min) << 32) | max);
  for (RegexId part : parts) {
    hash = MixHash(hash, part);
  }
  return hash;
}

std::uint64_t RegexStore::SetValue::Hash() const {
  std::uint64_t hash = 1;
  for (const Interval& part : set) {
    hash = MixHash(hash, (static_cast<std::uint64_t>(part.low) << 32) | part.high);
  }
  return hash;
}

RegexStore::RegexStore() {
  fuel.steps = ~0ULL;
  fuel.nodes = ~0ULL;
  nodes_.Intern({.kind = Kind::kNothing});
  nodes_.Intern({.kind = Kind::kEpsilon, .nullable = true});
  nodes_.Intern({.kind = Kind::kNot, .nullable = true, .boolean = true, .a = kNothing});
  any_ = Set({{0, 0xD7FF}, {0xE000, kCodePointMax}});
  end_ = Set({{kTextEnd, kTextEnd}});
  full_ = Concat(Repeat(any_, 0, kUnbounded), end_);
}

RegexId RegexStore::Add(Node node) {
  std::size_t before = nodes_.size();
  const std::size_t parts = node.parts.size();
  RegexId id = nodes_.Intern(std::move(node));
  if (nodes_.size() != before) {
    part_bytes_ += parts == 0 ? 0 : 16 + parts * sizeof(RegexId);
    if (fuel.nodes == 0) {
      fuel.exhausted = true;
    } else {
      --fuel.nodes;
    }
  }
  return id;
}

RegexId RegexStore::Set(CharSet set) {
  NormalizeSet(set);
  if (set.empty()) {
    return kNothing;
  }
  Node node{.kind = Kind::kSet};
  node.a = sets_.Intern({std::move(set)});
  return Add(std::move(node));
}

RegexId RegexStore::Concat(RegexId first, RegexId second) {
  if (first == kNothing || second == kNothing) {
    return kNothing;
  }
  if (first == kEpsilon) {
    return second;
  }
  if (second == kEpsilon) {
    return first;
  }
  const Node& counted = nodes_[first];
  if (second == end_ && counted.kind == Kind::kRepeat && counted.a != any_ &&
      nodes_[counted.a].kind == Kind::kSet && (counted.min > 0 || counted.max != kUnbounded)) {
    // Counted characters at the end are a matter of length, which needs no states of its own.
    RegexId length = Length(counted.min, counted.max);
    return And({Concat(Repeat(counted.a, 0, kUnbounded), end_), length});
  }
  // Chains lean to the right, so that equal words have one form.
  std::vector<RegexId> heads;
  while (nodes_[first].kind == Kind::kConcat) {
    heads.push_back(nodes_[first].a);
    first = nodes_[first].b;
  }
  heads.push_back(first);
  for (auto head = heads.rbegin(); head != heads.rend(); ++head) {
    const Node& front = nodes_[*head];
    bool star = front.kind == Kind::kRepeat && front.min == 0 && front.max == kUnbounded;
    const Node& rest = nodes_[second];
    if (star && (second == *head || (rest.kind == Kind::kConcat && rest.a == *head))) {
      continue;  // x* x* is x*
    }
    Node node{.kind = Kind::kConcat};
    node.nullable = front.nullable && rest.nullable;
    node.boolean = front.boolean || rest.boolean;
    node.a = *head;
    node.b = second;
    second = Add(std::move(node));
  }
  return second;
}

void RegexStore::Flatten(Kind kind, std::vector<RegexId>& parts) const {
  std::vector<RegexId> out;
  for (RegexId part : parts) {
    if (nodes_[part].kind == kind) {
      const std::vector<RegexId>& inner = nodes_[part].parts;
      out.insert(out.end(), inner.begin(), inner.end());
    } else {
      out.push_back(part);
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  parts = std::move(out);
}

RegexId RegexStore::Alt(std::vector<RegexId> parts) {
  Flatten(Kind::kAlt, parts);
  std::vector<RegexId> kept;
  CharSet characters;
  std::size_t sets = 0;
  for (RegexId part : parts) {
    if (part == kEverything || part == full_) {
      return part;
    }
    if (part == kNothing) {
      continue;
    }
    if (nodes_[part].kind == Kind::kSet) {
      const CharSet& set = sets_[nodes_[part].a].set;
      characters.insert(characters.end(), set.begin(), set.end());
      ++sets;
      continue;
    }
    kept.push_back(part);
  }
  if (sets > 0) {
    kept.push_back(Set(std::move(characters)));
    std::sort(kept.begin(), kept.end());
  }
  if (kept.empty()) {
    return kNothing;
  }
  if (kept.size() == 1) {
    return kept[0];
  }
  fuel.Burn(2 + kept.size());
  Node node{.kind = Kind::kAlt};
  for (RegexId part : kept) {
    node.nullable = node.nullable || nodes_[part].nullable;
    node.boolean = node.boolean || nodes_[part].boolean;
  }
  node.parts = std::move(kept);
  return Add(std::move(node));
}

RegexId RegexStore::And(std::vector<RegexId> parts) {
  Flatten(Kind::kAnd, parts);
  std::vector<RegexId> kept;
  std::uint32_t min = 0;
  std::uint32_t max = kUnbounded;
  bool lengths = false;
  bool positive = false;
  for (RegexId part : parts) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    if (part == kNothing) {
      return kNothing;
    }
    if (part == kEverything) {
      continue;
    }
    if (IsLength(part, low, high)) {
      min = std::max(min, low);
      max = std::min(max, high);
      lengths = true;
      continue;
    }
    const Node& node = nodes_[part];
    if (node.kind == Kind::kNot && std::binary_search(parts.begin(), parts.end(), node.a)) {
      return kNothing;
    }
    positive = positive || node.kind != Kind::kNot;
    kept.push_back(part);
  }
  if (lengths && min > max) {
    return kNothing;
  }
  // Everything positive is a language of texts already: full() says nothing beside it.
  if (lengths && !(positive && min == 0 && max == kUnbounded)) {
    kept.push_back(Length(min, max));
    std::sort(kept.begin(), kept.end());
  }
  if (kept.empty()) {
    return kEverything;
  }
  if (kept.size() == 1) {
    return kept[0];
  }
  fuel.Burn(2 + kept.size());
  Node node{.kind = Kind::kAnd, .nullable = true, .boolean = true};
  for (RegexId part : kept) {
    node.nullable = node.nullable && nodes_[part].nullable;
  }
  node.parts = std::move(kept);
  return Add(std::move(node));
}

RegexId RegexStore::Not(RegexId part) {
  if (nodes_[part].kind == Kind::kNot) {
    return nodes_[part].a;
  }
  Node node{.kind = Kind::kNot, .nullable = !nodes_[part].nullable, .boolean = true};
  node.a = part;
  return Add(std::move(node));
}

RegexId RegexStore::Repeat(RegexId part, std::uint32_t min, std::uint32_t max) {
  if (max == 0 || part == kEpsilon) {
    return kEpsilon;
  }
  if (part == kNothing) {
    return min == 0 ? kEpsilon : kNothing;
  }
  if (min == 1 && max == 1) {
    return part;
  }
  const Node& inner = nodes_[part];
  if (inner.kind == Kind::kRepeat && inner.min == 0 && inner.max == kUnbounded) {
    return part;
  }
  if (inner.nullable) {
    min = 0;
  }
  Node node{.kind = Kind::kRepeat, .nullable = min == 0, .boolean = inner.boolean};
  node.a = part;
  node.min = min;
  node.max = max;
  return Add(std::move(node));
}

RegexId RegexStore::Length(std::uint32_t min, std::uint32_t max) {
  return Concat(Repeat(any_, min, max), end_);
}

bool RegexStore::IsLength(RegexId id, std::uint32_t& min, std::uint32_t& max) const {
  if (id == end_) {
    min = max = 0;
    return true;
  }
  const Node& node = nodes_[id];
  if (node.kind != Kind::kConcat) {
    return false;
  }
  // Right-leaning chains: any end, or any{m,n} end, or any any{m,n} end.
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  RegexId at = id;
  for (int links = 0; links < 3 && at != end_; ++links) {
    const Node& link = nodes_[at];
    if (link.kind != Kind::kConcat) {
      return false;
    }
    if (link.a == any_) {
      ++low;
      ++high;
    } else if (nodes_[link.a].kind == Kind::kRepeat && nodes_[link.a].a == any_) {
      low += nodes_[link.a].min;
      high = nodes_[link.a].max == kUnbounded ? kUnbounded : high + nodes_[link.a].max;
    } else {
      return false;
    }
    at = link.b;
  }
  if (at != end_) {
    return false;
  }
  min = static_cast<std::uint32_t>(std::min<std::uint64_t>(low, kUnbounded));
  max = static_cast<std::uint32_t>(std::min<std::uint64_t>(high, kUnbounded));
  return true;
}

RegexId RegexStore::WithoutLength(RegexId id, std::uint32_t& min, std::uint32_t& max) {
  min = 0;
  max = kUnbounded;
  if (IsLength(id, min, max)) {
    return full_;
  }
  const Node& node = nodes_[id];
  if (node.kind != Kind::kAnd) {
    return id;
  }
  std::vector<RegexId> others = {full_};
  for (RegexId part : node.parts) {
    if (!IsLength(part, min, max)) {
      others.push_back(part);
    }
  }
  return others.size() == node.parts.size() + 1 ? id : And(std::move(others));
}

RegexId RegexStore::Words(std::vector<std::u32string> words) {
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  if (words.empty()) {
    return kNothing;
  }
  return TrieAt(BuildTrie(words, 0, words.size(), 0));
}

std::uint32_t RegexStore::BuildTrie(const std::vector<std::u32string>& words, std::size_t begin,
                                    std::size_t end, std::size_t depth) {
  // Extent-first over ranges of words with a common beginning: no recursion, whatever the words.
  struct Range {
    std::uint32_t node;
    std::size_t begin;
    std::size_t end;
    std::size_t depth;
  };

  auto root = static_cast<std::uint32_t>(trie_.size());
  trie_.emplace_back();
  std::vector<Range> queue = {{root, begin, end, depth}};
  for (std::size_t at = 0; at < queue.size(); ++at) {
    Range range = queue[at];
    if (!fuel.Burn()) {
      break;
    }
    std::size_t i = range.begin;
    if (i < range.end && words[i].size() == range.depth) {
      trie_[range.node].word = true;
      ++i;
    }
    trie_[range.node].child_begin = static_cast<std::uint32_t>(edges_.size());
    while (i < range.end) {
      char32_t c = words[i][range.depth];
      std::size_t j = i;
      while (j < range.end && words[j][range.depth] == c) {
        ++j;
      }
      auto child = static_cast<std::uint32_t>(trie_.size());
      trie_.emplace_back();
      edges_.push_back({c, child});
      ++trie_[range.node].child_count;
      queue.push_back({child, i, j, range.depth + 1});
      i = j;
    }
  }
  return root;
}

RegexId RegexStore::TrieAt(std::uint32_t trie_node) {
  if (trie_[trie_node].child_count == 0) {
    return trie_[trie_node].word ? kEpsilon : kNothing;
  }
  Node node{.kind = Kind::kTrie, .nullable = trie_[trie_node].word};
  node.a = trie_node;
  return Add(std::move(node));
}

bool RegexStore::Contains(std::uint32_t set, char32_t c) const {
  const CharSet& intervals = sets_[set].set;
  auto after = std::upper_bound(intervals.begin(), intervals.end(), c,
                                [](char32_t x, const Interval& part) { return x < part.low; });
  return after != intervals.begin() && c <= std::prev(after)->high;
}

RegexId RegexStore::Derive(RegexId id, char32_t c) {
  switch (nodes_[id].kind) {
    case Kind::kNothing:
    case Kind::kEpsilon:
      return kNothing;
    case Kind::kSet:
      return Contains(nodes_[id].a, c) ? kEpsilon : kNothing;
    default:
      break;
  }
  if (const std::uint32_t* known = derived_.Find(id, c)) {
    return *known;
  }
  if (!fuel.Burn(kStepsOfDerivation) || fuel.exhausted) {
    return kNothing;
  }
  RegexId out = DeriveUncached(id, c);
  if (!fuel.exhausted) {
    derived_.Put(id, c, out);
  }
  return out;
}

RegexId RegexStore::DeriveUncached(RegexId id, char32_t c) {
  const Node& node = nodes_[id];
  switch (node.kind) {
    case Kind::kConcat: {
      // Along the chain as long as what stands in front may be empty.
      std::vector<RegexId> ways;
      RegexId at = id;
      for (;;) {
        const Node& link = nodes_[at];
        if (link.kind != Kind::kConcat) {
          ways.push_back(Derive(at, c));
          break;
        }
        ways.push_back(Concat(Derive(link.a, c), link.b));
        if (!nodes_[link.a].nullable) {
          break;
        }
        at = link.b;
        if (!fuel.Burn()) {
          break;
        }
      }
      return ways.size() == 1 ? ways[0] : Alt(std::move(ways));
    }
    case Kind::kAlt:
    case Kind::kAnd: {
      std::vector<RegexId> parts;
      parts.reserve(node.parts.size());
      for (RegexId part : node.parts) {
        RegexId next = Derive(part, c);
        if (next != kNothing || node.kind == Kind::kAnd) {
          parts.push_back(next);
        }
        if (next == kNothing && node.kind == Kind::kAnd) {
          return kNothing;
        }
      }
      return node.kind == Kind::kAlt ? Alt(std::move(parts)) : And(std::move(parts));
    }
    case Kind::kNot:
      return Not(Derive(node.a, c));
    case Kind::kRepeat: {
      std::uint32_t min = node.min == 0 ? 0 : node.min - 1;
      std::uint32_t max = node.max == kUnbounded ? kUnbounded : node.max - 1;
      RegexId next = Derive(node.a, c);
      return next == kNothing ? kNothing : Concat(next, Repeat(node.a, min, max));
    }
    case Kind::kTrie: {
      const TrieNode& place = trie_[node.a];
      auto first = edges_.begin() + place.child_begin;
      auto last = first + place.child_count;
      auto edge =
          std::lower_bound(first, last, c, [](const TrieEdge& e, char32_t x) { return e.c < x; });
      return edge == last || edge->c != c ? kNothing : TrieAt(edge->node);
    }
    default:
      return kNothing;
  }
}

bool RegexStore::Matches(RegexId id, std::string_view text) {
  while (!text.empty() && id != kNothing) {
    std::size_t size = Utf8SequenceLength(text);
    if (size == 0) {
      return false;
    }
    id = Derive(id, DecodeUtf8(text));
    text.remove_prefix(size);
  }
  return AcceptsEnd(id);
}

void RegexStore::Cuts(RegexId id, std::vector<char32_t>& cuts) {
  std::vector<RegexId> work = {id};
  met_.resize(nodes_.size(), 0);
  ++met_round_;
  std::size_t walked = 0;
  while (!work.empty() && (++walked % 4 != 0 || fuel.Burn())) {
    RegexId at = work.back();
    work.pop_back();
    if (met_[at] == met_round_) {
      continue;
    }
    met_[at] = met_round_;
    const Node& node = nodes_[at];
    switch (node.kind) {
      case Kind::kSet:
        for (const Interval& part : sets_[node.a].set) {
          cuts.push_back(part.low);
          cuts.push_back(part.high + 1);
        }
        break;
      case Kind::kConcat:
        work.push_back(node.a);
        if (nodes_[node.a].nullable) {
          work.push_back(node.b);
        }
        break;
      case Kind::kAlt:
      case Kind::kAnd:
        work.insert(work.end(), node.parts.begin(), node.parts.end());
        break;
      case Kind::kNot:
      case Kind::kRepeat:
        work.push_back(node.a);
        break;
      case Kind::kTrie:
        for (std::uint32_t i = 0; i < trie_[node.a].child_count; ++i) {
          char32_t c = edges_[trie_[node.a].child_begin + i].c;
          cuts.push_back(c);
          cuts.push_back(c + 1);
        }
        break;
      default:
        break;
    }
  }
}

std::vector<RegexId> RegexStore::Successors(RegexId id) {
  std::vector<char32_t> cuts = {0, kTextEnd};
  Cuts(id, cuts);
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<RegexId> out;
  for (char32_t c : cuts) {
    if (c > kTextEnd || (c >= 0xD800 && c < 0xE000) || fuel.exhausted) {
      continue;
    }
    RegexId next = Derive(id, c);
    if (next != kNothing) {
      out.push_back(next);
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

bool RegexStore::SeenAlive(RegexId id) const {
  auto known = alive_.find(id);
  return nodes_[id].nullable || (!nodes_[id].boolean && id != kNothing) ||
         (known != alive_.end() && known->second);
}

// Breadth first: most languages have a short word, which a search into the depth may pass by.
std::optional<bool> RegexStore::AliveNear(RegexId id) {
  constexpr std::size_t kPlacesMax = 256;

  struct Place {
    RegexId id;
    std::size_t parent;
  };

  std::vector<Place> queue = {{id, 0}};
  std::unordered_set<RegexId> seen = {id};
  for (std::size_t at = 0; at < queue.size(); ++at) {
    for (RegexId next : Successors(queue[at].id)) {
      if (SeenAlive(next)) {
        alive_[id] = true;
        for (std::size_t way = at; way != 0; way = queue[way].parent) {
          alive_[queue[way].id] = true;
        }
        return true;
      }
      if (next != kNothing && !alive_.contains(next) && seen.insert(next).second) {
        queue.push_back({next, at});
      }
    }
    if (fuel.exhausted || queue.size() > kPlacesMax) {
      return std::nullopt;
    }
  }
  for (const Place& place : queue) {
    alive_[place.id] = false;
  }
  return false;
}

bool RegexStore::Alive(RegexId id) {
  // A chain has a word if each link has one, a choice if one of its ways has: only where
  // languages meet must a word be looked for.
  while (nodes_[id].boolean && !nodes_[id].nullable && nodes_[id].kind == Kind::kConcat) {
    if (!fuel.Burn() || !Alive(nodes_[id].a)) {
      return false;
    }
    id = nodes_[id].b;
  }
  if (!nodes_[id].boolean) {
    return id != kNothing;  // every other expression without them has a word
  }
  if (nodes_[id].nullable) {
    return true;
  }
  if (auto known = alive_.find(id); known != alive_.end()) {
    return known->second;
  }
  if (nodes_[id].kind == Kind::kAlt) {
    fuel.Burn(1 + nodes_[id].parts.size() / 4);
    const std::vector<RegexId> parts = nodes_[id].parts;
    return std::any_of(parts.begin(), parts.end(), [&](RegexId part) { return Alive(part); });
  }
  if (nodes_[id].kind == Kind::kRepeat) {
    return Alive(nodes_[id].a);
  }
  if (std::optional<bool> near = AliveNear(id)) {
    return *near;
  }

  // Depth first; the way to a word is alive, and a search that ends without one proves all dead.
  struct Place {
    RegexId id;
    std::vector<RegexId> next;
    std::size_t at = 0;
  };

  std::vector<Place> path;
  std::vector<RegexId> visited = {id};
  std::unordered_map<RegexId, bool> seen = {{id, true}};
  path.push_back({id, Successors(id)});
  bool found = false;
  while (!path.empty() && !found && !fuel.exhausted) {
    Place& top = path.back();
    if (top.at == top.next.size()) {
      path.pop_back();
      continue;
    }
    RegexId next = top.next[top.at++];
    if (SeenAlive(next)) {
      found = true;
    } else if (!alive_.contains(next) && seen.emplace(next, true).second) {
      visited.push_back(next);
      fuel.Burn(4);
      path.push_back({next, Successors(next)});
    }
  }
  if (found) {
    for (const Place& place : path) {
      alive_[place.id] = true;
    }
    return true;
  }
  if (!fuel.exhausted) {
    for (RegexId dead : visited) {
      alive_[dead] = false;
    }
  }
  return false;
}

}  // namespace pixii::text::grammar
