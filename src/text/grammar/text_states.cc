#include "text/grammar/text_states.h"

#include <algorithm>

namespace pixii::text::grammar {

namespace {

constexpr std::size_t kReachCoresMax = 96;          // looked at to know that a text goes on
constexpr std::uint64_t kReachStepsMax = 20'000;    // of Fuel, likewise
constexpr std::uint64_t kDistanceStepsMax = 5'000;  // of Fuel, to know how far the end is

bool Overlaps(const Interval& a, char32_t low, char32_t high) {
  return a.low <= high && a.high >= low;
}

std::uint32_t Less(std::uint32_t count) {
  return count == 0 || count == kUnbounded ? count : count - 1;
}

}  // namespace

std::uint64_t TextStates::Core::Hash() const {
  std::uint64_t hash = 11;
  for (RegexId node : nodes) {
    hash = MixHash(hash, node);
  }
  return hash;
}

TextStates::TextStates() {
  cores_.Intern({{RegexStore::kNothing}});
  Expanded dead;
  dead.accepts = {false};
  expanded_.push_back(dead);
  expanded_.push_back(std::move(dead));
  cores_.Mutable(kDead).expanded = 1;
}

std::uint32_t TextStates::Start(RegexStore& store, std::vector<RegexId> languages) {
  if (!store.Alive(languages[0])) {
    return kDead;
  }
  std::uint32_t min = 0;
  std::uint32_t max = kUnbounded;
  languages[0] = store.WithoutLength(languages[0], min, max);
  std::uint32_t core = CoreId(store, std::move(languages));
  return min == 0 && max == kUnbounded ? core : CutId(store, core, min, max);
}

std::uint32_t TextStates::CoreId(RegexStore& store, std::vector<RegexId> languages) {
  if (!store.Alive(languages[0])) {
    return kDead;
  }
  const std::size_t known = cores_.size();
  const std::size_t bytes = 16 + languages.size() * sizeof(RegexId);
  const std::uint32_t id = cores_.Intern({std::move(languages)});
  core_bytes_ += cores_.size() == known ? 0 : bytes;
  return id;
}

const TextStates::Expanded& TextStates::ExpandNow(RegexStore& store, std::uint32_t core) {
  const std::vector<RegexId>& nodes = cores_[core].nodes;
  std::vector<char32_t> cuts = {0, 128, 0xE000};
  for (RegexId node : nodes) {
    store.Cuts(node, cuts);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  store.fuel.Burn(16 + cuts.size() * nodes.size() / 2);
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
    std::uint32_t id = next[0] == RegexStore::kNothing ? kDead : CoreId(store, std::move(next));
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
  out.run = MeasureRun(core, out);
  MeasureWays(core, out);
  if (store.fuel.exhausted) {
    // Nothing half known is kept: the caller sees that the fuel is gone.
    return expanded_[0];
  }
  store.fuel.nodes -= std::min<std::uint64_t>(store.fuel.nodes, 6);
  expanded_bytes_ += 64 + out.edges.capacity() * sizeof(Edge) + out.ways.capacity() * sizeof(Way);
  expanded_.push_back(std::move(out));
  cores_.Mutable(core).expanded = static_cast<std::uint32_t>(expanded_.size() - 1);
  return expanded_.back();
}

Run TextStates::MeasureRun(std::uint32_t core, const Expanded& place) {
  std::uint32_t broken = kBroken;
  for (std::uint32_t c = 0; c < 128; ++c) {
    if (place.ascii[c] != core) {
      broken |= ClassOfAscii(static_cast<std::uint8_t>(c));
    }
  }
  CharSet stays;
  for (const Edge& edge : place.edges) {
    if (edge.next == core && edge.high >= 128) {
      stays.push_back({std::max<char32_t>(edge.low, 128), edge.high});
    }
  }
  CharSet wide(WideSpaces().begin(), WideSpaces().end());
  CharSet leaves = ComplementSet(stays);  // ASCII among them
  for (const Interval& space : wide) {
    for (const Interval& part : leaves) {
      broken |= part.low <= space.high && part.high >= space.low ? kWideSpace : 0U;
    }
  }
  stays.insert(stays.end(), wide.begin(), wide.end());
  stays.push_back({0, 127});
  NormalizeSet(stays);
  broken |= ComplementSet(stays).empty() ? 0U : kNonAscii;
  broken |= (broken & (kNonAscii | kWideSpace)) != 0 ? kPartial : 0U;
  std::uint32_t classes = ~broken & (kPlainClasses | kQuote | kControl);
  return classes == 0 ? Run{} : Run{classes, kUnbounded, true};
}

void TextStates::MeasureWays(std::uint32_t core, Expanded& place) {
  auto add = [&](std::uint32_t classes, std::uint32_t next) {
    auto known = std::find_if(place.ways.begin(), place.ways.end(),
                              [&](const Way& way) { return way.next == next; });
    if (known == place.ways.end()) {
      place.ways.push_back({classes, next});
    } else {
      known->classes |= classes;
    }
  };
  std::uint32_t dead = 0;
  for (std::uint32_t c = 0; c < 128; ++c) {
    std::uint32_t kind = ClassOfAscii(static_cast<std::uint8_t>(c));
    if (place.ascii[c] == kDead) {
      dead |= kind;
    } else {
      add(kind, place.ascii[c]);
    }
  }
  char32_t covered = 128;  // all below leads on
  for (const Edge& edge : place.edges) {
    if (edge.high < 128) {
      continue;
    }
    std::uint32_t kinds = kNonAscii | kPartial;
    for (const Interval& space : WideSpaces()) {
      kinds |= Overlaps(space, edge.low, edge.high) ? kWideSpace : 0U;
    }
    add(kinds, edge.next);
    if (edge.low <= covered) {
      covered = edge.high == 0xD7FF ? 0xE000 : edge.high + 1;
    }
  }
  dead |= covered > kCodePointMax ? 0U : (kNonAscii | kWideSpace);
  if (covered <= kCodePointMax) {
    // Characters of one of the two kinds may all lead on nevertheless.
    CharSet alive;
    for (const Edge& edge : place.edges) {
      alive.push_back({edge.low, edge.high});
    }
    CharSet gaps = ComplementSet(alive);
    bool gap_in_spaces = false;
    for (const Interval& gap : gaps) {
      for (const Interval& space : WideSpaces()) {
        gap_in_spaces = gap_in_spaces || Overlaps(space, gap.low, gap.high);
      }
    }
    alive.insert(alive.end(), WideSpaces().begin(), WideSpaces().end());
    alive.push_back({0, 127});
    NormalizeSet(alive);
    dead &= ~((gap_in_spaces ? 0U : kWideSpace) | (ComplementSet(alive).empty() ? kNonAscii : 0U));
  }
  dead |= (dead & (kNonAscii | kWideSpace)) != 0 ? kPartial : 0U;
  place.alive_classes = ~dead & kPlainClasses;
  place.loops =
      place.accepts[0] && std::all_of(place.edges.begin(), place.edges.end(),
                                      [&](const Edge& edge) { return edge.next == core; });
}

TextStates::Reach TextStates::ReachOf(RegexStore& store, std::uint32_t core, std::uint32_t slice) {
  const Expanded& place = Expand(store, core);
  if (place.reach[slice].chars != Reach::kUnknown) {
    return place.reach[slice];
  }
  Reach out = MeasureReach(store, core, slice);
  if (!store.fuel.exhausted) {
    expanded_[cores_[core].expanded].reach[slice] = out;
  }
  return out;
}

TextStates::Reach TextStates::MeasureReach(RegexStore& store, std::uint32_t core,
                                           std::uint32_t slice) {
  const std::uint32_t classes = SliceClasses()[slice];
  std::vector<std::uint32_t> queue = {core};
  std::uint32_t next = 0;
  const std::uint64_t stop = store.fuel.spent + kReachStepsMax;
  auto farthest = [&] {
    std::uint32_t out = 0;
    for (std::size_t at = 0; at < queue.size() && out < 255; ++at) {
      out =
          store.fuel.spent < stop ? std::max(out, std::min(Distance(store, queue[at]), 255U)) : 255;
    }
    return static_cast<std::uint8_t>(out);
  };
  std::size_t begin = 0;
  for (std::uint8_t chars = 0; begin < queue.size(); ++chars) {
    Reach so_far{.chars = static_cast<std::uint8_t>(chars + 1),
                 .next = chars > kMixedPrefixMax ? next : ~0U};
    if (chars > kSlicePrefixMax || queue.size() > kReachCoresMax || store.fuel.spent >= stop) {
      so_far.distance = farthest();
      return so_far;
    }
    for (std::size_t end = queue.size(); begin < end; ++begin) {
      const Expanded& place = Expand(store, queue[begin]);
      if ((classes & ~place.alive_classes) != 0 || store.fuel.spent >= stop) {
        so_far.distance = chars > 0 ? farthest() : 255;
        return so_far;
      }
      for (const Way& way : place.ways) {
        next |= way.classes;
        if ((way.classes & classes) != 0 &&
            std::find(queue.begin(), queue.end(), way.next) == queue.end()) {
          queue.push_back(way.next);
        }
      }
    }
  }
  Reach out{.chars = Reach::kForEver, .distance = farthest(), .next = next};
  for (std::uint32_t id : queue) {
    if (!store.fuel.exhausted) {
      expanded_[cores_[id].expanded].reach[slice] = out;  // they reach no more than this one
    }
  }
  return out;
}

Safe TextStates::SafeOf(RegexStore& store, std::uint32_t state, std::uint32_t slice) {
  std::uint32_t core = CoreOf(state);
  Reach reach = ReachOf(store, core, slice);
  Safe out;
  out.next = reach.next;
  bool for_ever = reach.chars == Reach::kForEver;
  if ((state & kCut) == 0) {
    out.chars = for_ever ? kUnbounded : reach.chars - 1U;
    return out;
  }
  // Characters that keep the text alive can make it as long as it must be.
  const Cut cut = cuts_[state & ~kCut];
  Run run = CutRun(store, state, Expand(store, core).run);
  if ((SliceClasses()[slice] & ~run.classes) == 0) {
    out.chars = run.chars_max;
  } else if (reach.distance == 255 || (!for_ever && cut.min > 0)) {
    out.chars = 0;
  } else if (!for_ever) {
    std::uint32_t room = cut.max - std::min(cut.max, std::uint32_t{reach.distance});
    out.chars = std::min(reach.chars - 1U, room);
  } else if (cut.max == kUnbounded) {
    out.chars = kUnbounded;
  } else {
    bool long_enough = cut.max >= cut.min + std::uint64_t{reach.distance};
    out.chars = long_enough ? cut.max - reach.distance : 0;
  }
  return out;
}

bool TextStates::Loosen(RegexStore& store, std::uint32_t state, std::uint32_t& loose,
                        std::uint32_t& chars_max) {
  if ((state & kCut) == 0 || !Expand(store, CoreOf(state)).loops) {
    return false;
  }
  constexpr std::uint32_t kMin = kSlicePrefixMax + 1;
  const Cut cut = cuts_[state & ~kCut];
  if (cut.max < kSlicePrefixMax || (cut.max == kUnbounded && cut.min <= kMin)) {
    return false;
  }
  loose = CutId(store, cut.core, std::min(cut.min, kMin), kUnbounded);
  chars_max = cut.min > kMin ? static_cast<std::uint32_t>(kSlicePrefixMax) : cut.max;
  return loose != kDead;
}

std::uint32_t TextStates::Distance(RegexStore& store, std::uint32_t core) {
  constexpr std::size_t kCoresMax = 24;
  if (cores_[core].distance != kUnbounded - 1) {
    return cores_[core].distance;
  }
  std::uint32_t out = kUnbounded;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> queue = {{core, 0}};
  const std::uint64_t stop = store.fuel.spent + kDistanceStepsMax;
  for (std::size_t at = 0;
       at < queue.size() && at < kCoresMax && out == kUnbounded && store.fuel.spent < stop; ++at) {
    auto [id, steps] = queue[at];
    const Expanded& place = Expand(store, id);
    if (place.accepts[0]) {
      out = steps;
    }
    for (const Edge& edge : place.edges) {
      bool met = std::any_of(queue.begin(), queue.end(),
                             [&](const auto& other) { return other.first == edge.next; });
      if (!met) {
        queue.emplace_back(edge.next, steps + 1);
      }
    }
  }
  if (!store.fuel.exhausted) {
    cores_.Mutable(core).distance = out;
  }
  return out;
}

Run TextStates::CutRun(RegexStore& store, std::uint32_t state, Run run) {
  // The core stays; what is counted is how far it may.
  const Cut cut = cuts_[state & ~kCut];
  std::uint32_t distance = run.classes == 0 ? kUnbounded : Distance(store, cut.core);
  if (distance == kUnbounded || cut.max < distance) {
    return {};
  }
  return {run.classes, cut.max == kUnbounded ? kUnbounded : cut.max - distance, false};
}

std::uint32_t TextStates::Shorten(RegexStore& store, std::uint32_t state, std::uint32_t core) {
  const Cut cut = cuts_[state & ~kCut];
  return cut.max == 0 ? kDead : CutId(store, core, Less(cut.min), Less(cut.max));
}

std::uint32_t TextStates::CutId(RegexStore& store, std::uint32_t core, std::uint32_t min,
                                std::uint32_t max) {
  if (min == 0 && max == kUnbounded) {
    return core;
  }
  std::uint32_t id = cuts_.Intern({core, min, max});
  Cut& cut = cuts_.Mutable(id);
  if (cut.alive == 0) {
    bool alive = CutAlive(store, core, min, max);
    if (store.fuel.exhausted) {
      return kDead;
    }
    cut.alive = alive ? 1 : 2;
  }
  return cut.alive == 1 ? id | kCut : kDead;
}

bool TextStates::CutAlive(RegexStore& store, std::uint32_t core, std::uint32_t min,
                          std::uint32_t max) {
  if (min > max) {
    return false;
  }
  // A core that stays as it is for some character can be made as long as it must.
  std::uint32_t distance = Distance(store, core);
  bool loops = Expand(store, core).run.classes != 0;
  if (distance != kUnbounded) {
    if (distance > max) {
      return false;
    }
    if (min <= distance || loops) {
      return true;
    }
  }
  return store.Alive(store.And({cores_[core].nodes[0], store.Length(min, max)}));
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
  const Expanded& place = Expand(store, CoreOf(state));
  auto edge = std::lower_bound(place.edges.begin(), place.edges.end(), low,
                               [](const Edge& e, char32_t x) { return e.high < x; });
  for (; edge != place.edges.end() && edge->low <= high; ++edge) {
    if ((state & kCut) == 0 || Shorten(store, state, edge->next) != kDead) {
      return true;
    }
  }
  return false;
}

}  // namespace pixii::text::grammar
