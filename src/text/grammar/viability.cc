#include "text/grammar/viability.h"

#include <algorithm>

#include "text/grammar/value_count.h"

namespace pixii::text::grammar {

namespace {

using Kind = FormulaStore::Kind;

constexpr int kTriesMax = 512;               // conjunctions looked at for one formula
constexpr std::uint64_t kRivalsMax = 4'096;  // items that differ, which are counted
constexpr int kDepthMax = 300;               // nested values looked into

}  // namespace

KeyClass ClassifyKey(FormulaStore& store, PairMemo& matches, KeyId key,
                     const std::vector<RegexId>& patterns) {
  KeyClass out;
  out.name = key;
  for (RegexId pattern : patterns) {
    const std::uint32_t* known = matches.Find(pattern, key);
    bool yes = known != nullptr ? *known != 0 : store.regexes.Matches(pattern, store.KeyName(key));
    if (known == nullptr) {
      matches.Put(pattern, key, yes ? 1 : 0);
    }
    if (yes) {
      out.matched.push_back(pattern);
    }
  }
  std::sort(out.matched.begin(), out.matched.end());
  out.matched.erase(std::unique(out.matched.begin(), out.matched.end()), out.matched.end());
  return out;
}

bool Viability::Possible(FormulaStore& store, FormulaId id) {
  id = store.Resolve(id);
  if (id <= kTrue) {
    return id == kTrue;
  }
  Known& state = known_[id];
  if (state == Known::kYes || state == Known::kNo) {
    return state == Known::kYes;
  }
  if (state == Known::kSearching) {
    lowest_met_ = std::min(lowest_met_, searching_[id]);
    return false;
  }
  if (depth_ >= kDepthMax || store.regexes.fuel.exhausted) {
    return true;
  }
  state = Known::kSearching;
  searching_[id] = depth_;
  int outer_met = lowest_met_;
  lowest_met_ = 1 << 30;
  ++depth_;
  bool yes = false;
  for (int kind = 0; kind < kValueKinds && !yes; ++kind) {
    yes = PossibleOfKind(store, id, static_cast<ValueKind>(kind));
  }
  --depth_;
  searching_.erase(id);
  // A no that rests on a search still in progress may change: it is not kept.
  bool final_no = lowest_met_ >= depth_;
  known_[id] = yes ? Known::kYes : final_no ? Known::kNo : Known::kUnknown;
  lowest_met_ = yes || final_no ? outer_met : std::min(outer_met, lowest_met_);
  return yes;
}

bool Viability::PossibleOfKind(FormulaStore& store, FormulaId id, ValueKind kind) {
  FormulaId rest = store.OfKind(id, kind);
  if (rest <= kTrue) {
    return rest == kTrue;
  }
  switch (kind) {
    case ValueKind::kString:
      return store.regexes.Alive(store.Language(rest));
    case ValueKind::kNumber:
      return !store.Boxes(rest).empty();
    case ValueKind::kArray:
    case ValueKind::kObject:
      break;
    default:
      return true;
  }
  Search search{kind, kTriesMax};
  return Solve(store, search, {{rest, true}}, {});
}

bool Viability::PossibleRest(FormulaStore& store, FormulaId id, ValueKind kind) {
  if (id <= kTrue) {
    return id == kTrue;
  }
  if (const std::uint32_t* known = rest_.Find(id, static_cast<std::uint32_t>(kind))) {
    return *known != 0;
  }
  Search search{kind, kTriesMax};
  bool yes = Solve(store, search, {{id, true}}, {});
  rest_.Put(id, static_cast<std::uint32_t>(kind), yes ? 1 : 0);
  return yes;
}

bool Viability::Solve(FormulaStore& store, Search& search, std::vector<Literal> todo,
                      std::vector<Literal> literals) {
  while (!todo.empty()) {
    Literal next = todo.back();
    todo.pop_back();
    if (next.atom <= kTrue) {
      if ((next.atom == kTrue) != next.positive) {
        return false;
      }
      continue;
    }
    if (!store.regexes.fuel.Burn()) {
      return true;
    }
    const FormulaStore::Node& node = store.node(next.atom);
    if (node.kind == Kind::kNot) {
      todo.push_back({node.a, !next.positive});
      continue;
    }
    bool choice = node.kind == Kind::kOneOf || (node.kind == Kind::kOr) == next.positive;
    if (node.kind == Kind::kOneOf && !next.positive) {
      continue;  // all or several may hold: taken for possible
    }
    if (node.kind != Kind::kAnd && node.kind != Kind::kOr && node.kind != Kind::kOneOf) {
      literals.push_back(next);
      continue;
    }
    if (!choice) {
      for (FormulaId part : node.parts) {
        todo.push_back({part, next.positive});
      }
      continue;
    }
    for (FormulaId part : node.parts) {
      std::vector<Literal> way = todo;
      way.push_back({part, next.positive});
      if (Solve(store, search, std::move(way), literals) || search.tries_left <= 0) {
        return true;
      }
    }
    return false;
  }
  if (--search.tries_left <= 0) {
    return true;
  }
  return search.kind == ValueKind::kObject ? ObjectPossible(store, literals)
                                           : ArrayPossible(store, literals);
}

std::uint32_t Viability::ClassOf(FormulaStore& store, KeyId key,
                                 const std::vector<RegexId>& patterns) {
  return store.Class(ClassifyKey(store, matches_, key, patterns));
}

bool Viability::ObjectPossible(FormulaStore& store, const std::vector<Literal>& literals) {
  std::vector<KeyId> required;
  std::vector<const std::vector<KeyId>*> absent;  // of each, one at least
  std::vector<std::uint32_t> tables;
  std::vector<RegexId> patterns;
  std::vector<RegexId> names;
  std::uint64_t min = 0;
  std::uint64_t max = kUnbounded;
  for (const Literal& literal : literals) {
    const FormulaStore::Node& node = store.node(literal.atom);
    switch (node.kind) {
      case Kind::kHas:
        if (literal.positive) {
          const std::vector<KeyId>& keys = store.key_set(node.a);
          required.insert(required.end(), keys.begin(), keys.end());
        } else {
          absent.push_back(&store.key_set(node.a));
        }
        break;
      case Kind::kProperties:
        if (literal.positive) {
          tables.push_back(node.a);
          for (const auto& [pattern, formula] : store.properties(node.a).patterns) {
            patterns.push_back(pattern);
          }
        }
        break;
      case Kind::kMinProperties:
      case Kind::kMaxProperties: {
        bool least = (node.kind == Kind::kMinProperties) == literal.positive;
        if (least) {
          min = std::max<std::uint64_t>(min, node.a + (literal.positive ? 0 : 1));
        } else if (!literal.positive && node.a == 0) {
          return false;
        } else {
          max = std::min<std::uint64_t>(max, node.a - (literal.positive ? 0 : 1));
        }
        break;
      }
      case Kind::kNames:
        if (literal.positive) {
          names.push_back(store.Language(store.OfKind(node.a, ValueKind::kString)));
        }
        break;
      default:
        break;
    }
  }
  std::sort(required.begin(), required.end());
  required.erase(std::unique(required.begin(), required.end()), required.end());
  for (const std::vector<KeyId>* keys : absent) {
    if (std::includes(required.begin(), required.end(), keys->begin(), keys->end())) {
      return false;
    }
  }
  if (required.size() > max || min > max) {
    return false;
  }
  auto member = [&](KeyId key) {
    const KeyClass known = store.key_class(ClassOf(store, key, patterns));
    std::vector<FormulaId> parts;
    for (std::uint32_t table : tables) {
      parts.push_back(store.MemberFormula(store.properties(table), known));
    }
    for (RegexId language : names) {
      if (!store.regexes.Matches(language, store.KeyName(key))) {
        return kFalse;
      }
    }
    return store.And(std::move(parts));
  };
  for (KeyId key : required) {
    if (!Possible(store, member(key))) {
      return false;
    }
  }
  if (required.size() >= min) {
    return true;
  }
  // More members than required: a closed object must have enough names for them.
  for (std::uint32_t table : tables) {
    const PropertyTable& closed = store.properties(table);
    if (closed.additional != kFalse || !closed.patterns.empty()) {
      continue;
    }
    std::uint64_t count = 0;
    for (KeyId key : closed.names) {
      count += Possible(store, member(key)) ? 1 : 0;
      if (count >= min) {
        break;
      }
    }
    if (count < min) {
      return false;
    }
  }
  for (RegexId language : names) {
    if (!store.regexes.Alive(language)) {
      return false;
    }
  }
  return true;
}

// Items of which each has more values than there are others that want one of them differ whatever
// the others are. Few values for items that want some of the same and more are taken for too few.
template <class Item, class Times>
bool Viability::EnoughToDiffer(FormulaStore& store, std::uint64_t indices, Item item, Times times) {
  for (std::uint64_t i = 0; i < indices; ++i) {
    const FormulaId one = item(i, kTrue);
    std::uint64_t rivals = times(i) - 1;
    const std::uint64_t count = CountValues(store, one, kRivalsMax);
    if (count > kRivalsMax) {
      continue;
    }
    for (std::uint64_t j = 0; j < indices; ++j) {
      const FormulaId other = item(j, kTrue);
      if (j != i && times(j) > 0 && Possible(store, store.And({one, other}))) {
        rivals += times(j);
      }
    }
    if (count <= rivals) {
      return false;
    }
  }
  return true;
}

bool Viability::ArrayPossible(FormulaStore& store, const std::vector<Literal>& literals) {
  struct Table {
    std::uint32_t table;
    std::uint32_t next;
  };

  std::vector<Table> tables;
  std::vector<const FormulaStore::Node*> contained;
  bool unique = false;
  std::uint64_t min = 0;
  std::uint64_t max = kUnbounded;
  std::uint64_t longest = 0;
  for (const Literal& literal : literals) {
    const FormulaStore::Node& node = store.node(literal.atom);
    switch (node.kind) {
      case Kind::kItems:
        if (literal.positive) {
          tables.push_back({node.a, node.b});
          longest = std::max<std::uint64_t>(longest, store.items(node.a).prefix.size() - node.b);
        }
        break;
      case Kind::kMinItems:
      case Kind::kMaxItems: {
        bool least = (node.kind == Kind::kMinItems) == literal.positive;
        if (least) {
          min = std::max<std::uint64_t>(min, node.a + (literal.positive ? 0 : 1));
        } else if (!literal.positive && node.a == 0) {
          return false;
        } else {
          max = std::min<std::uint64_t>(max, node.a - (literal.positive ? 0 : 1));
        }
        break;
      }
      case Kind::kContains:
        if (literal.positive) {
          contained.push_back(&node);
          min = std::max<std::uint64_t>(min, node.b);
          if (node.b > node.c) {
            return false;
          }
        }
        break;
      case Kind::kUnique:
        unique = unique || literal.positive;
        break;
      default:
        break;
    }
  }
  if (min > max) {
    return false;
  }
  auto item = [&](std::uint64_t index, FormulaId more) {
    std::vector<FormulaId> parts = {store.Resolve(more)};
    for (const Table& table : tables) {
      const ItemTable& known = store.items(table.table);
      std::uint64_t at = table.next + index;
      parts.push_back(store.Resolve(at < known.prefix.size() ? known.prefix[at] : known.rest));
    }
    return store.And(std::move(parts));
  };
  for (std::uint64_t i = 0; i < std::min(min, longest + 1); ++i) {
    if (!Possible(store, item(i, kTrue))) {
      return false;
    }
  }
  // Items that are alike but for their index are looked at together: the last stands for all after.
  const auto times = [&](std::uint64_t index) {
    return index < longest ? std::uint64_t{1} : min - std::min(min, longest);
  };
  if (unique && !EnoughToDiffer(store, std::min(min, longest + 1), item, times)) {
    return false;
  }
  for (const FormulaStore::Node* node : contained) {
    // Items that can only be such as are counted must not be too many.
    std::uint64_t others = 0;
    for (std::uint64_t i = 0; node->c != kUnbounded && i < std::min(min, longest + 1); ++i) {
      const FormulaId other = item(i, store.Not(store.Resolve(node->a)));
      const bool one = Possible(store, other);
      others += !one     ? 0
                : unique ? std::min(times(i), CountValues(store, other, times(i)))
                         : times(i);
    }
    if (node->c != kUnbounded && others + node->c < min) {
      return false;
    }
    if (node->b == 0) {
      continue;
    }
    const FormulaId wanted = node->a;
    if (unique && node->b > 1 && longest == 0 &&
        CountValues(store, item(0, wanted), node->b) < node->b) {
      return false;
    }
    bool found = false;
    for (std::uint64_t i = 0; i < std::min(max, longest + 1) && !found; ++i) {
      found = Possible(store, item(i, wanted));
      if (!found && !Possible(store, item(i, kTrue))) {
        break;  // the array cannot be longer than this
      }
    }
    if (!found) {
      return false;
    }
  }
  return true;
}

}  // namespace pixii::text::grammar
