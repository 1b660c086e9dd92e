#include "text/grammar/rule_machine.h"

#include <algorithm>

#include "text/grammar/grammar_vocabulary.h"
#include "text/grammar/json_string.h"

namespace pixii::text::grammar {

namespace {

std::uint32_t Less(std::uint32_t count) {
  return count == 0 || count == kUnbounded ? count : count - 1;
}

}  // namespace

std::uint64_t RuleMachine::Way::Hash() const {
  std::uint64_t hash =
      MixHash((static_cast<std::uint64_t>(what) << 1) | (terminal ? 1U : 0U), rest);
  return MixHash(hash, (static_cast<std::uint64_t>(min) << 32) | max);
}

std::uint64_t RuleMachine::Place::Hash() const {
  std::uint64_t hash = 17;
  for (std::uint32_t way : ways) {
    hash = MixHash(hash, way);
  }
  return hash;
}

RuleMachine::RuleMachine(RegexStore regexes, RuleSet rules, std::uint32_t start)
    : regexes_(std::move(regexes)), rules_(std::make_shared<const RuleSet>(std::move(rules))) {
  ways_.Intern({});
  places_.Intern({});
  start_ = Close({Push(rules_->body(start), 0)});
}

std::unique_ptr<Machine> RuleMachine::Clone() const { return std::make_unique<RuleMachine>(*this); }

State RuleMachine::Start() {
  State out;
  out.a = start_;
  out.phase = 1;
  return out;
}

std::size_t RuleMachine::size_bytes() const {
  return regexes_.size_bytes() + ways_.size_bytes() + places_.size_bytes() + place_bytes_;
}

std::uint32_t RuleMachine::Push(RuleId node, std::uint32_t rest) {
  const RuleSet::Node& what = rules_->node(node);
  Way way;
  way.rest = rest;
  way.depth = ways_[rest].depth + 1;
  way.what = node;
  if (what.kind == RuleSet::Kind::kTerminal) {
    way.terminal = true;
    way.what = what.terminal;
  } else if (what.kind == RuleSet::Kind::kRepeat) {
    way.min = what.min;
    way.max = what.max;
  }
  if (!regexes_.fuel.Burn()) {
    return 0;
  }
  std::size_t before = ways_.size();
  std::uint32_t id = ways_.Intern(way);
  if (ways_.size() != before) {
    regexes_.fuel.exhausted = regexes_.fuel.exhausted || regexes_.fuel.nodes == 0;
    regexes_.fuel.nodes -= regexes_.fuel.nodes == 0 ? 0 : 1;
  }
  return id;
}

// Replaces a way that does not begin with a terminal by those it stands for.
void RuleMachine::Open(std::uint32_t id, std::vector<std::uint32_t>& work) {
  const Way way = ways_[id];
  const RuleSet::Node& node = rules_->node(way.what);
  switch (node.kind) {
    case RuleSet::Kind::kSequence: {
      std::uint32_t rest = way.rest;
      for (auto part = node.parts.rbegin(); part != node.parts.rend(); ++part) {
        rest = Push(*part, rest);
      }
      work.push_back(rest);
      break;
    }
    case RuleSet::Kind::kChoice:
      for (RuleId part : node.parts) {
        work.push_back(Push(part, way.rest));
      }
      break;
    case RuleSet::Kind::kRule:
      work.push_back(Push(rules_->body(node.rule), way.rest));
      break;
    case RuleSet::Kind::kRepeat: {
      if (way.min == 0) {
        work.push_back(way.rest);
      }
      if (way.max > 0) {
        Way again = way;
        again.min = Less(way.min);
        again.max = Less(way.max);
        std::uint32_t rest = again.max == 0 ? way.rest : ways_.Intern(again);
        work.push_back(Push(node.parts[0], rest));
      }
      break;
    }
    default:
      break;
  }
}

std::uint32_t RuleMachine::Close(std::vector<std::uint32_t> work) {
  std::vector<std::uint32_t> out;
  std::vector<std::uint32_t> met;
  while (!work.empty() && !regexes_.fuel.exhausted) {
    std::uint32_t id = work.back();
    work.pop_back();
    auto known = std::lower_bound(met.begin(), met.end(), id);
    if (known != met.end() && *known == id) {
      continue;
    }
    regexes_.fuel.Burn();
    met.insert(known, id);
    const Way& way = ways_[id];
    if (met.size() > kWaysMax) {
      regexes_.fuel.exhausted = true;
      return 0;
    }
    if (way.depth > kRuleDepthMax) {
      continue;
    }
    if (id == 0 || way.terminal) {
      out.push_back(id);
      if (id != 0 && regexes_.Nullable(way.what)) {
        work.push_back(way.rest);
      }
      // Nothing can follow an empty word in the terminal itself.
      if (id != 0 && way.what == RegexStore::kEpsilon) {
        out.pop_back();
      }
      continue;
    }
    Open(id, work);
  }
  std::sort(out.begin(), out.end());
  if (out.empty() || regexes_.fuel.exhausted) {
    return 0;
  }
  Place place;
  place.ways = std::move(out);
  const std::size_t known = places_.size();
  const std::size_t bytes = 16 + place.ways.capacity() * sizeof(std::uint32_t);
  const std::uint32_t id = places_.Intern(std::move(place));
  place_bytes_ += places_.size() == known ? 0 : bytes;
  return id;
}

std::uint32_t RuleMachine::After(const std::vector<std::uint32_t>& ways, char32_t c) {
  std::vector<std::uint32_t> next;
  for (std::uint32_t id : ways) {
    if (id == 0) {
      continue;
    }
    Way way = ways_[id];
    way.what = regexes_.Derive(way.what, c);
    if (way.what != RegexStore::kNothing && regexes_.Alive(way.what)) {
      next.push_back(ways_.Intern(way));
    }
  }
  return next.empty() ? 0 : Close(std::move(next));
}

RuleMachine::Place& RuleMachine::Expand(std::uint32_t id) {
  Place& place = places_.Mutable(id);
  if (place.expanded) {
    return place;
  }
  std::vector<char32_t> cuts = {0, 128, 0xE000};
  for (std::uint32_t way : place.ways) {
    if (way != 0) {
      regexes_.Cuts(ways_[way].what, cuts);
    }
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::erase_if(cuts, [](char32_t c) { return c > kCodePointMax || (c >= 0xD800 && c < 0xE000); });
  std::vector<std::uint32_t> after;
  for (char32_t c : cuts) {
    after.push_back(After(place.ways, c));
  }
  if (regexes_.fuel.exhausted) {
    return places_.Mutable(0);
  }
  place.cuts = std::move(cuts);
  place.after = std::move(after);
  place_bytes_ += 32 + place.cuts.capacity() * 8;
  for (std::size_t i = 0; i < place.cuts.size(); ++i) {
    char32_t end = i + 1 < place.cuts.size() ? place.cuts[i + 1] : 128;
    for (char32_t c = place.cuts[i]; c < std::min<char32_t>(end, 128); ++c) {
      place.ascii[c] = place.after[i];
    }
  }
  std::uint32_t broken = kBroken;
  for (std::uint32_t c = 0; c < 128; ++c) {
    broken |= place.ascii[c] == id ? 0U : ClassOfAscii(static_cast<std::uint8_t>(c));
  }
  for (std::size_t i = 0; i < place.cuts.size(); ++i) {
    broken |=
        place.cuts[i] < 128 || place.after[i] == id ? 0U : (kNonAscii | kWideSpace | kPartial);
  }
  place.run = {~broken & (kPlainClasses | kQuote | kControl), kUnbounded, true};
  regexes_.fuel.nodes -= std::min<std::uint64_t>(regexes_.fuel.nodes, 8);
  place.expanded = true;
  return place;
}

std::uint32_t RuleMachine::Next(std::uint32_t place, char32_t c) {
  const Place& known = Expand(place);
  if (c < 128) {
    return known.ascii[c];
  }
  auto after = std::upper_bound(known.cuts.begin(), known.cuts.end(), c);
  return after == known.cuts.begin()
             ? 0
             : known.after[static_cast<std::size_t>(after - known.cuts.begin() - 1)];
}

bool RuleMachine::AnyIn(std::uint32_t place, char32_t low, char32_t high) {
  const Place& known = Expand(place);
  for (std::size_t i = 0; i < known.cuts.size(); ++i) {
    char32_t end = i + 1 < known.cuts.size() ? known.cuts[i + 1] - 1 : kCodePointMax;
    if (known.after[i] != 0 && known.cuts[i] <= high && end >= low) {
      return true;
    }
  }
  return false;
}

bool RuleMachine::Step(State& state, std::uint8_t byte) {
  char32_t c = 0;
  switch (StringBytes::Read(state.b, byte, false, c)) {
    case StringEvent::kCharacter:
      state.a = Next(state.a, c);
      return state.a != 0;
    case StringEvent::kPending:
      return StringBytes::CanBecome(
          state.b, true, [&](char32_t low, char32_t high) { return AnyIn(state.a, low, high); });
    default:
      return false;
  }
}

bool RuleMachine::CanEnd(const State& state) {
  const std::vector<std::uint32_t>& ways = places_[state.a].ways;
  return state.b == 0 && !ways.empty() && ways[0] == 0;
}

Run RuleMachine::RunOf(const State& state) { return state.b == 0 ? Expand(state.a).run : Run{}; }

}  // namespace pixii::text::grammar
