#include "text/grammar/formula.h"

#include <algorithm>

#include "base/hash.h"

namespace pixii::text::grammar {

namespace {

// Functions of one formula, as second keys of one memo.
enum Once : std::uint32_t { kOnItem, kAtEnd, kBest, kWorst, kLanguage, kNoUnique, kHasUnique };

constexpr std::size_t kBoxesMax = 512;  // boxes of one numeric formula
constexpr std::size_t kOneOfMax = 64;   // alternatives whose best is told exactly

std::uint64_t HashOfText(std::string_view text) {
  return Hash64(std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace

std::uint64_t NumberRule::Hash() const {
  return MixHash(HashOfText(value.digits()), (static_cast<std::uint64_t>(value.exponent()) << 8) ^
                                                 static_cast<std::uint64_t>(kind) ^
                                                 (open ? 64U : 0U) ^
                                                 (value.negative() ? 128U : 0U));
}

std::uint64_t KeyClass::Hash() const {
  std::uint64_t hash = name;
  for (RegexId id : matched) {
    hash = MixHash(hash, id);
  }
  return MixHash(hash, 3);
}

std::uint64_t FormulaStore::KeyText::Hash() const { return HashOfText(text); }

std::uint64_t FormulaStore::KeySet::Hash() const {
  std::uint64_t hash = 7;
  for (KeyId key : keys) {
    hash = MixHash(hash, key);
  }
  return hash;
}

std::uint64_t FormulaStore::Node::Hash() const {
  std::uint64_t hash = MixHash(static_cast<std::uint64_t>(kind), a);
  hash = MixHash(hash, (static_cast<std::uint64_t>(b) << 32) | c);
  for (FormulaId part : parts) {
    hash = MixHash(hash, part);
  }
  return hash;
}

FormulaStore::FormulaStore() {
  nodes_.Intern({.kind = Kind::kFalse});
  nodes_.Intern({.kind = Kind::kTrue});
}

FormulaId FormulaStore::Add(Node node) {
  std::size_t before = nodes_.size();
  const std::size_t parts = node.parts.size();
  FormulaId id = nodes_.Intern(std::move(node));
  if (nodes_.size() != before) {
    part_bytes_ += parts == 0 ? 0 : 16 + parts * sizeof(FormulaId);
    if (regexes.fuel.nodes == 0) {
      regexes.fuel.exhausted = true;
    } else {
      --regexes.fuel.nodes;
    }
  }
  return id;
}

FormulaId FormulaStore::AndOr(Kind kind, std::vector<FormulaId> parts) {
  const FormulaId neutral = kind == Kind::kAnd ? kTrue : kFalse;
  const FormulaId absorbing = kind == Kind::kAnd ? kFalse : kTrue;
  std::vector<FormulaId> flat;
  for (FormulaId part : parts) {
    if (part == absorbing) {
      return absorbing;
    }
    if (part == neutral) {
      continue;
    }
    if (nodes_[part].kind == kind) {
      flat.insert(flat.end(), nodes_[part].parts.begin(), nodes_[part].parts.end());
    } else {
      flat.push_back(part);
    }
  }
  std::sort(flat.begin(), flat.end());
  flat.erase(std::unique(flat.begin(), flat.end()), flat.end());
  std::uint32_t kinds = 0;
  std::size_t kind_atoms = 0;
  for (FormulaId part : flat) {
    const Node& node = nodes_[part];
    if (node.kind == Kind::kNot && std::binary_search(flat.begin(), flat.end(), node.a)) {
      return absorbing;
    }
    if (node.kind == Kind::kKinds) {
      kinds = kind_atoms++ == 0 ? node.a : (kind == Kind::kAnd ? kinds & node.a : kinds | node.a);
    }
  }
  if (kind_atoms > 1) {
    std::erase_if(flat, [&](FormulaId part) { return nodes_[part].kind == Kind::kKinds; });
    flat.push_back(Kinds(kinds));
    return AndOr(kind, std::move(flat));
  }
  regexes.fuel.Burn(2 + flat.size());
  if (flat.empty()) {
    return neutral;
  }
  if (flat.size() == 1) {
    return flat[0];
  }
  return Add({.kind = kind, .parts = std::move(flat)});
}

FormulaId FormulaStore::And(std::vector<FormulaId> parts) {
  return AndOr(Kind::kAnd, std::move(parts));
}

FormulaId FormulaStore::Or(std::vector<FormulaId> parts) {
  return AndOr(Kind::kOr, std::move(parts));
}

FormulaId FormulaStore::OneOf(std::vector<FormulaId> parts) {
  std::vector<FormulaId> open;
  int certain = 0;
  for (FormulaId part : parts) {
    if (part == kTrue) {
      ++certain;
    } else if (part != kFalse) {
      open.push_back(part);
    }
  }
  if (certain > 1) {
    return kFalse;
  }
  if (certain == 1) {
    for (FormulaId& part : open) {
      part = Not(part);
    }
    return And(std::move(open));
  }
  std::sort(open.begin(), open.end());
  // Alternatives that are the same hold together or not at all: neither can be the one.
  std::vector<FormulaId> single;
  std::vector<FormulaId> doubled;
  for (std::size_t i = 0; i < open.size();) {
    std::size_t j = i;
    while (j < open.size() && open[j] == open[i]) {
      ++j;
    }
    (j - i > 1 ? doubled : single).push_back(open[i]);
    i = j;
  }
  FormulaId one = kFalse;
  if (single.size() == 1) {
    one = single[0];
  } else if (single.size() > 1) {
    regexes.fuel.Burn(single.size());
    one = Add({.kind = Kind::kOneOf, .parts = std::move(single)});
  }
  for (FormulaId& part : doubled) {
    part = Not(part);
  }
  doubled.push_back(one);
  return And(std::move(doubled));
}

FormulaId FormulaStore::Not(FormulaId part) {
  const Node& node = nodes_[part];
  switch (node.kind) {
    case Kind::kFalse:
      return kTrue;
    case Kind::kTrue:
      return kFalse;
    case Kind::kNot:
      return node.a;
    case Kind::kKinds:
      return Kinds(~node.a);
    case Kind::kAnd:
    case Kind::kOr: {
      std::vector<FormulaId> parts;
      for (FormulaId inner : node.parts) {
        parts.push_back(Not(inner));
      }
      return node.kind == Kind::kAnd ? Or(std::move(parts)) : And(std::move(parts));
    }
    default:
      return Add({.kind = Kind::kNot, .a = part});
  }
}

FormulaId FormulaStore::Atom(Kind kind, std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  return Add({.kind = kind, .a = a, .b = b, .c = c});
}

FormulaId FormulaStore::Kinds(std::uint32_t bits) {
  constexpr std::uint32_t kAll = (1U << kValueKinds) - 1;
  bits &= kAll;
  return bits == kAll ? kTrue : bits == 0 ? kFalse : Atom(Kind::kKinds, bits);
}

FormulaId FormulaStore::Text(RegexId language) {
  return language == regexes.full() ? kTrue : Atom(Kind::kString, language);
}

FormulaId FormulaStore::Number(NumberRule rule) {
  return Atom(Kind::kNumber, rules_.Intern(std::move(rule)));
}

FormulaId FormulaStore::Has(std::vector<KeyId> keys) {
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  if (keys.empty()) {
    return kTrue;
  }
  return Atom(Kind::kHas, key_sets_.Intern({std::move(keys)}));
}

FormulaId FormulaStore::Properties(PropertyTable table) {
  bool trivial = table.additional == kTrue;
  for (const auto& [key, formula] : table.named) {
    trivial = trivial && formula == kTrue;
  }
  for (const auto& [pattern, formula] : table.patterns) {
    trivial = trivial && formula == kTrue;
  }
  if (trivial) {
    return kTrue;
  }
  property_tables_.push_back(std::move(table));
  return Atom(Kind::kProperties, static_cast<std::uint32_t>(property_tables_.size() - 1));
}

FormulaId FormulaStore::Items(ItemTable table) {
  if (table.prefix.empty() && table.rest == kTrue) {
    return kTrue;
  }
  item_tables_.push_back(std::move(table));
  return Atom(Kind::kItems, static_cast<std::uint32_t>(item_tables_.size() - 1));
}

std::uint32_t FormulaStore::AddTable(PropertyTable table) {
  property_tables_.push_back(std::move(table));
  return static_cast<std::uint32_t>(property_tables_.size() - 1);
}

std::uint32_t FormulaStore::AddTable(ItemTable table) {
  item_tables_.push_back(std::move(table));
  return static_cast<std::uint32_t>(item_tables_.size() - 1);
}

FormulaId FormulaStore::Unevaluated(Evaluation evaluation, bool items) {
  Node node{.kind = items ? Kind::kUnevaluatedItems : Kind::kUnevaluated};
  for (const Evaluation::Part& part : evaluation.parts) {
    node.parts.push_back(part.condition);
  }
  node.a = static_cast<std::uint32_t>(evaluations_.size());
  evaluations_.push_back(std::move(evaluation));
  return Add(std::move(node));
}

std::uint32_t FormulaStore::DeclareSchema() {
  schemas_.push_back(kFalse);
  return static_cast<std::uint32_t>(schemas_.size() - 1);
}

void FormulaStore::DefineSchema(std::uint32_t schema, FormulaId formula) {
  schemas_[schema] = formula;
}

FormulaId FormulaStore::Resolve(FormulaId id) const {
  // Cycles of references were refused when the schema was read.
  while (nodes_[id].kind == Kind::kSchema) {
    id = schemas_[nodes_[id].a];
  }
  return id;
}

KeyId FormulaStore::Key(std::string_view name) { return keys_.Intern({std::string(name)}); }

template <class Map>
FormulaId FormulaStore::MapParts(FormulaId id, Map map) {
  const Node& node = nodes_[id];
  if (node.kind == Kind::kNot) {
    return Not(map(node.a));
  }
  std::vector<FormulaId> parts;
  parts.reserve(node.parts.size());
  for (FormulaId part : node.parts) {
    FormulaId mapped = map(part);
    if ((mapped == kFalse && node.kind == Kind::kAnd) ||
        (mapped == kTrue && node.kind == Kind::kOr)) {
      return mapped;
    }
    parts.push_back(mapped);
  }
  switch (node.kind) {
    case Kind::kAnd:
      return And(std::move(parts));
    case Kind::kOr:
      return Or(std::move(parts));
    default:
      return OneOf(std::move(parts));
  }
}

namespace {

bool IsConnective(FormulaStore::Kind kind) {
  return kind == FormulaStore::Kind::kAnd || kind == FormulaStore::Kind::kOr ||
         kind == FormulaStore::Kind::kNot || kind == FormulaStore::Kind::kOneOf;
}

}  // namespace

FormulaId FormulaStore::OfKind(FormulaId id, ValueKind kind) {
  const Node& node = nodes_[id];
  if (id <= kTrue) {
    return id;
  }
  if (node.kind == Kind::kKinds) {
    return (node.a & KindBit(kind)) != 0 ? kTrue : kFalse;
  }
  if (const std::uint32_t* known = of_kind_.Find(id, static_cast<std::uint32_t>(kind))) {
    return *known;
  }
  if (!regexes.fuel.Burn() || regexes.fuel.exhausted) {
    return kFalse;
  }
  FormulaId out = kFalse;
  if (node.kind == Kind::kSchema) {
    out = OfKind(schemas_[node.a], kind);
  } else if (IsConnective(node.kind)) {
    out = MapParts(id, [&](FormulaId part) { return OfKind(part, kind); });
  } else {
    out = AtomOfKind(node, id, kind);
  }
  of_kind_.Put(id, static_cast<std::uint32_t>(kind), out);
  return out;
}

FormulaId FormulaStore::AtomOfKind(const Node& node, FormulaId id, ValueKind kind) {
  switch (node.kind) {
    case Kind::kString:
      return kind == ValueKind::kString ? id : kTrue;
    case Kind::kNumber:
      return kind == ValueKind::kNumber ? id : kTrue;
    case Kind::kProperties:
    case Kind::kHas:
    case Kind::kMinProperties:
    case Kind::kMaxProperties:
    case Kind::kNames:
      return kind == ValueKind::kObject ? id : kTrue;
    case Kind::kUnevaluated:
    case Kind::kUnevaluatedItems: {
      bool object = node.kind == Kind::kUnevaluated;
      if (kind != (object ? ValueKind::kObject : ValueKind::kArray)) {
        return kTrue;
      }
      Node out = node;
      for (FormulaId& part : out.parts) {
        part = OfKind(part, kind);
      }
      return Add(std::move(out));
    }
    default:
      return kind == ValueKind::kArray ? id : kTrue;
  }
}

FormulaId FormulaStore::Down(FormulaId id) {
  id = Resolve(id);
  return id <= kTrue ? id : Atom(Kind::kDown, id);
}

FormulaId FormulaStore::MemberFormula(const PropertyTable& table, const KeyClass& key_class) {
  std::vector<FormulaId> parts;
  bool additional = true;
  if (auto named = table.named.find(key_class.name); named != table.named.end()) {
    parts.push_back(Resolve(named->second));
    additional = false;
  }
  for (const auto& [pattern, formula] : table.patterns) {
    if (std::binary_search(key_class.matched.begin(), key_class.matched.end(), pattern)) {
      parts.push_back(Resolve(formula));
      additional = false;
    }
  }
  return additional ? Resolve(table.additional) : And(std::move(parts));
}

FormulaId FormulaStore::OnKey(FormulaId id, std::uint32_t key_class) {
  if (id <= kTrue) {
    return id;
  }
  if (const std::uint32_t* known = on_key_.Find(id, key_class)) {
    return *known;
  }
  if (!regexes.fuel.Burn() || regexes.fuel.exhausted) {
    return kFalse;
  }
  FormulaId out = IsConnective(nodes_[id].kind)
                      ? MapParts(id, [&](FormulaId part) { return OnKey(part, key_class); })
                      : AtomOnKey(id, key_class);
  on_key_.Put(id, key_class, out);
  return out;
}

FormulaId FormulaStore::AtomOnKey(FormulaId id, std::uint32_t key_class) {
  const Node& node = nodes_[id];
  const KeyClass& known = classes_[key_class];
  switch (node.kind) {
    case Kind::kProperties: {
      FormulaId member = MemberFormula(property_tables_[node.a], known);
      return And({id, Down(member)});
    }
    case Kind::kHas: {
      const std::vector<KeyId>& keys = key_sets_[node.a].keys;
      if (!std::binary_search(keys.begin(), keys.end(), known.name)) {
        return id;
      }
      std::vector<KeyId> rest = keys;
      std::erase(rest, known.name);
      return Has(std::move(rest));
    }
    case Kind::kMinProperties:
      return node.a <= 1 ? kTrue : Atom(node.kind, node.a - 1);
    case Kind::kMaxProperties:
      return node.a == 0 ? kFalse : Atom(node.kind, node.a - 1);
    case Kind::kNames: {
      RegexId language = Language(OfKind(node.a, ValueKind::kString));
      if (language == regexes.full()) {
        return id;
      }
      return std::binary_search(known.matched.begin(), known.matched.end(), language) ? id : kFalse;
    }
    case Kind::kUnevaluated:
      return UnevaluatedOnKey(id, key_class);
    default:
      return id;
  }
}

FormulaId FormulaStore::UnevaluatedOnKey(FormulaId id, std::uint32_t key_class) {
  const Node& node = nodes_[id];
  const Evaluation& evaluation = evaluations_[node.a];
  Node next = node;
  std::vector<FormulaId> ways = {Down(evaluation.otherwise)};
  for (std::size_t i = 0; i < next.parts.size(); ++i) {
    next.parts[i] = OnKey(node.parts[i], key_class);
    const Evaluation::Part& part = evaluation.parts[i];
    bool evaluates = part.all_properties;
    if (part.properties != kNone) {
      const PropertyTable& table = property_tables_[part.properties];
      const KeyClass& known = classes_[key_class];
      evaluates = evaluates || table.named.contains(known.name);
      for (const auto& [pattern, formula] : table.patterns) {
        evaluates =
            evaluates || std::binary_search(known.matched.begin(), known.matched.end(), pattern);
      }
    }
    if (evaluates) {
      ways.push_back(next.parts[i]);
    }
  }
  FormulaId way = Or(std::move(ways));
  return And({Add(std::move(next)), way});
}

FormulaId FormulaStore::OnItem(FormulaId id) {
  if (id <= kTrue) {
    return id;
  }
  if (const std::uint32_t* known = once_.Find(id, kOnItem)) {
    return *known;
  }
  if (!regexes.fuel.Burn() || regexes.fuel.exhausted) {
    return kFalse;
  }
  FormulaId out = IsConnective(nodes_[id].kind)
                      ? MapParts(id, [&](FormulaId part) { return OnItem(part); })
                      : AtomOnItem(id);
  once_.Put(id, kOnItem, out);
  return out;
}

FormulaId FormulaStore::AtomOnItem(FormulaId id) {
  const Node& node = nodes_[id];
  switch (node.kind) {
    case Kind::kItems: {
      const ItemTable& table = item_tables_[node.a];
      bool in_prefix = node.b < table.prefix.size();
      FormulaId item = in_prefix ? table.prefix[node.b] : table.rest;
      FormulaId next = Atom(Kind::kItems, node.a, in_prefix ? node.b + 1 : node.b);
      if (!in_prefix && table.rest == kTrue) {
        return kTrue;
      }
      return And({next, Down(item)});
    }
    case Kind::kMinItems:
      return node.a <= 1 ? kTrue : Atom(node.kind, node.a - 1);
    case Kind::kMaxItems:
      return node.a == 0 ? kFalse : Atom(node.kind, node.a - 1);
    case Kind::kContains: {
      FormulaId met = Down(node.a);
      std::uint32_t least = node.b == 0 ? 0 : node.b - 1;
      FormulaId then = node.c == 0 ? kFalse
                       : least == 0 && node.c == kUnbounded
                           ? kTrue
                           : Atom(Kind::kContains, node.a, least,
                                  node.c == kUnbounded ? kUnbounded : node.c - 1);
      return Or({And({met, then}), And({Not(met), id})});
    }
    case Kind::kUnevaluatedItems:
      return UnevaluatedOnItem(id);
    default:
      return id;
  }
}

FormulaId FormulaStore::UnevaluatedOnItem(FormulaId id) {
  const Node& node = nodes_[id];
  const Evaluation& evaluation = evaluations_[node.a];
  Node next = node;
  std::vector<FormulaId> ways = {Down(evaluation.otherwise)};
  std::uint32_t longest = 0;
  for (std::size_t i = 0; i < next.parts.size(); ++i) {
    next.parts[i] = OnItem(node.parts[i]);
    const Evaluation::Part& part = evaluation.parts[i];
    bool evaluates = part.all_items;
    if (part.items != kNone) {
      auto prefix = static_cast<std::uint32_t>(item_tables_[part.items].prefix.size());
      longest = std::max(longest, prefix);
      evaluates = evaluates || node.b < prefix;
    }
    if (evaluates) {
      ways.push_back(next.parts[i]);
    }
    if (part.contains != kFalse) {
      ways.push_back(And({next.parts[i], Down(part.contains)}));
    }
  }
  next.b = std::min(node.b + 1, longest);
  FormulaId way = Or(std::move(ways));
  return And({Add(std::move(next)), way});
}

FormulaId FormulaStore::AtEnd(FormulaId id) {
  if (id <= kTrue) {
    return id;
  }
  if (const std::uint32_t* known = once_.Find(id, kAtEnd)) {
    return *known;
  }
  const Node& node = nodes_[id];
  FormulaId out = kTrue;
  if (IsConnective(node.kind)) {
    out = MapParts(id, [&](FormulaId part) { return AtEnd(part); });
  } else {
    switch (node.kind) {
      case Kind::kHas:
        out = kFalse;
        break;
      case Kind::kMinProperties:
      case Kind::kMinItems:
        out = node.a > 0 ? kFalse : kTrue;
        break;
      case Kind::kContains:
        out = node.b > 0 ? kFalse : kTrue;
        break;
      default:
        break;
    }
  }
  once_.Put(id, kAtEnd, out);
  return out;
}

FormulaId FormulaStore::Substitute(FormulaId id,
                                   const std::unordered_map<FormulaId, FormulaId>& values) {
  const Node& node = nodes_[id];
  if (node.kind == Kind::kDown) {
    auto value = values.find(node.a);
    return value == values.end() ? id : value->second;
  }
  if (node.kind == Kind::kUnevaluated || node.kind == Kind::kUnevaluatedItems) {
    Node next = node;
    for (FormulaId& part : next.parts) {
      part = Substitute(part, values);
    }
    return Add(std::move(next));
  }
  if (!IsConnective(node.kind)) {
    return id;
  }
  regexes.fuel.Burn();
  return MapParts(id, [&](FormulaId part) { return Substitute(part, values); });
}

FormulaId FormulaStore::Best(FormulaId id) {
  const Node& node = nodes_[id];
  if (id <= kTrue) {
    return id;
  }
  if (node.kind == Kind::kDown) {
    return node.a;
  }
  if (!IsConnective(node.kind)) {
    return kTrue;
  }
  if (const std::uint32_t* known = once_.Find(id, kBest)) {
    return *known;
  }
  FormulaId out = kTrue;
  if (node.kind == Kind::kNot) {
    out = Not(Worst(node.a));
  } else if (node.kind != Kind::kOneOf) {
    out = MapParts(id, [&](FormulaId part) { return Best(part); });
  } else {
    std::vector<FormulaId> ways;
    for (FormulaId one : node.parts) {
      std::vector<FormulaId> all = {Best(one)};
      for (FormulaId other : node.parts) {
        if (other != one && node.parts.size() <= kOneOfMax) {
          all.push_back(Not(Worst(other)));
        }
      }
      ways.push_back(And(std::move(all)));
    }
    out = Or(std::move(ways));
  }
  once_.Put(id, kBest, out);
  return out;
}

FormulaId FormulaStore::Worst(FormulaId id) {
  const Node& node = nodes_[id];
  if (id <= kTrue) {
    return id;
  }
  if (node.kind == Kind::kDown) {
    return node.a;
  }
  if (!IsConnective(node.kind)) {
    return kFalse;
  }
  if (const std::uint32_t* known = once_.Find(id, kWorst)) {
    return *known;
  }
  FormulaId out = kFalse;
  if (node.kind == Kind::kNot) {
    out = Not(Best(node.a));
  } else if (node.kind != Kind::kOneOf) {
    out = MapParts(id, [&](FormulaId part) { return Worst(part); });
  } else if (node.parts.size() <= kOneOfMax) {
    std::vector<FormulaId> ways;
    for (FormulaId one : node.parts) {
      std::vector<FormulaId> all = {Worst(one)};
      for (FormulaId other : node.parts) {
        if (other != one) {
          all.push_back(Not(Best(other)));
        }
      }
      ways.push_back(And(std::move(all)));
    }
    out = Or(std::move(ways));
  }
  once_.Put(id, kWorst, out);
  return out;
}

void FormulaStore::Downs(FormulaId id, std::vector<FormulaId>& out) const {
  const Node& node = nodes_[id];
  if (node.kind == Kind::kDown) {
    out.push_back(node.a);
    return;
  }
  if (node.kind == Kind::kNot) {
    Downs(node.a, out);
    return;
  }
  for (FormulaId part : node.parts) {
    Downs(part, out);
  }
}

bool FormulaStore::NeedsUnique(FormulaId id) {
  const Node& node = nodes_[id];
  if (node.kind == Kind::kUnique) {
    return true;
  }
  if (!IsConnective(node.kind) && node.parts.empty()) {
    return false;
  }
  if (const std::uint32_t* known = once_.Find(id, kHasUnique)) {
    return *known != 0;
  }
  bool out = node.kind == Kind::kNot && NeedsUnique(node.a);
  for (FormulaId part : node.parts) {
    out = out || NeedsUnique(part);
  }
  once_.Put(id, kHasUnique, out ? 1 : 0);
  return out;
}

FormulaId FormulaStore::WithoutUnique(FormulaId id) {
  const Node& node = nodes_[id];
  if (node.kind == Kind::kUnique) {
    return kFalse;
  }
  if (node.kind == Kind::kUnevaluatedItems) {
    Node next = node;
    for (FormulaId& part : next.parts) {
      part = WithoutUnique(part);
    }
    return Add(std::move(next));
  }
  return IsConnective(node.kind) ? MapParts(id, [&](FormulaId part) { return WithoutUnique(part); })
                                 : id;
}

RegexId FormulaStore::Language(FormulaId id) {
  const Node& node = nodes_[id];
  if (id == kFalse) {
    return RegexStore::kNothing;
  }
  if (node.kind == Kind::kString) {
    return node.a;
  }
  if (!IsConnective(node.kind)) {
    return regexes.full();
  }
  if (const std::uint32_t* known = once_.Find(id, kLanguage)) {
    return *known;
  }
  RegexId out = RegexStore::kNothing;
  std::vector<RegexId> parts;
  if (node.kind == Kind::kNot) {
    out = regexes.TextsWithout(Language(node.a));
  } else {
    for (FormulaId part : node.parts) {
      parts.push_back(Language(part));
    }
    if (node.kind == Kind::kAnd) {
      out = regexes.And(std::move(parts));
    } else if (node.kind == Kind::kOr) {
      out = regexes.Alt(std::move(parts));
    } else {
      std::vector<RegexId> ways;
      for (std::size_t i = 0; i < parts.size(); ++i) {
        std::vector<RegexId> all = {parts[i], regexes.full()};
        for (std::size_t j = 0; j < parts.size(); ++j) {
          if (j != i) {
            all.push_back(regexes.Not(parts[j]));
          }
        }
        RegexId way = regexes.And(std::move(all));
        ways.push_back(regexes.Alive(way) ? way : RegexStore::kNothing);
      }
      out = regexes.Alt(std::move(ways));
    }
  }
  once_.Put(id, kLanguage, out);
  return out;
}

bool FormulaStore::BoxesOf(FormulaId id, bool positive, std::vector<NumberBox>& out) {
  const Node& node = nodes_[id];
  if (id <= kTrue) {
    if ((id == kTrue) == positive) {
      out.emplace_back();
    }
    return true;
  }
  if (!regexes.fuel.Burn()) {
    return false;
  }
  if (node.kind == Kind::kNot) {
    return BoxesOf(node.a, !positive, out);
  }
  if (node.kind == Kind::kOneOf) {
    // As its expansion; the complement is left to the end of the number.
    if (!positive) {
      return false;
    }
    std::vector<FormulaId> ways;
    for (FormulaId one : node.parts) {
      std::vector<FormulaId> all = {one};
      for (FormulaId other : node.parts) {
        if (other != one) {
          all.push_back(Not(other));
        }
      }
      ways.push_back(And(std::move(all)));
    }
    return BoxesOf(Or(std::move(ways)), true, out);
  }
  if (node.kind == Kind::kNumber) {
    const NumberRule& rule = rules_[node.a];
    NumberBox box;
    switch (rule.kind) {
      case NumberRule::Kind::kInteger:
        box.integer = positive;
        break;
      case NumberRule::Kind::kAtLeast:
        positive ? box.AtLeast(rule.value, rule.open) : box.AtMost(rule.value, !rule.open);
        break;
      case NumberRule::Kind::kAtMost:
        positive ? box.AtMost(rule.value, rule.open) : box.AtLeast(rule.value, !rule.open);
        break;
      case NumberRule::Kind::kMultiple:
        if (positive) {
          box.steps.push_back(rule.value);
        }
        break;
      case NumberRule::Kind::kEquals:
        if (positive) {
          box.AtLeast(rule.value, false);
          box.AtMost(rule.value, false);
        } else {
          box.excluded.push_back(rule.value);
        }
        break;
    }
    out.push_back(std::move(box));
    return true;
  }
  if (node.kind != Kind::kAnd && node.kind != Kind::kOr) {
    if (positive) {
      out.emplace_back();
    }
    return true;
  }
  if ((node.kind == Kind::kOr) == positive) {
    for (FormulaId part : node.parts) {
      if (!BoxesOf(part, positive, out)) {
        return false;
      }
    }
    return out.size() <= kBoxesMax * 32;
  }
  std::vector<NumberBox> product = {NumberBox{}};
  std::vector<Decimal> excluded;
  for (FormulaId part : node.parts) {
    // Of values that are left out there may be many: they go to every box in the end.
    const Node& inner = nodes_[nodes_[part].kind == Kind::kNot ? nodes_[part].a : part];
    if (positive && nodes_[part].kind == Kind::kNot && inner.kind == Kind::kNumber &&
        rules_[inner.a].kind == NumberRule::Kind::kEquals) {
      excluded.push_back(rules_[inner.a].value);
      continue;
    }
    std::vector<NumberBox> factor;
    if (!BoxesOf(part, positive, factor)) {
      return false;
    }
    std::vector<NumberBox> next;
    for (const NumberBox& a : product) {
      for (const NumberBox& b : factor) {
        NumberBox both = a;
        if (b.low) {
          both.AtLeast(*b.low, b.low_open);
        }
        if (b.high) {
          both.AtMost(*b.high, b.high_open);
        }
        both.integer = both.integer || b.integer;
        both.steps.insert(both.steps.end(), b.steps.begin(), b.steps.end());
        both.excluded.insert(both.excluded.end(), b.excluded.begin(), b.excluded.end());
        next.push_back(std::move(both));
      }
    }
    regexes.fuel.Burn(next.size());
    if (next.size() > kBoxesMax) {
      return false;
    }
    product = std::move(next);
  }
  for (NumberBox& box : product) {
    box.excluded.insert(box.excluded.end(), excluded.begin(), excluded.end());
  }
  out.insert(out.end(), product.begin(), product.end());
  return true;
}

const std::vector<NumberBox>& FormulaStore::Boxes(FormulaId id) {
  auto [place, fresh] = boxes_.try_emplace(id);
  if (fresh) {
    std::vector<NumberBox> out;
    if (!BoxesOf(id, true, out)) {
      out.assign(1, NumberBox{});
    }
    // Boxes may hold too much, but of a single number the formula itself tells.
    std::erase_if(out, [&](const NumberBox& box) {
      return !box.Possible() ||
             (box.low && box.high && *box.low == *box.high && !HoldsNumber(id, *box.low));
    });
    place->second = std::move(out);
  }
  return place->second;
}

bool FormulaStore::HoldsNumber(FormulaId id, const Decimal& value) const {
  const Node& node = nodes_[id];
  switch (node.kind) {
    case Kind::kFalse:
      return false;
    case Kind::kNot:
      return !HoldsNumber(node.a, value);
    case Kind::kAnd:
      return std::all_of(node.parts.begin(), node.parts.end(),
                         [&](FormulaId part) { return HoldsNumber(part, value); });
    case Kind::kOr:
      return std::any_of(node.parts.begin(), node.parts.end(),
                         [&](FormulaId part) { return HoldsNumber(part, value); });
    case Kind::kOneOf:
      return std::count_if(node.parts.begin(), node.parts.end(),
                           [&](FormulaId part) { return HoldsNumber(part, value); }) == 1;
    case Kind::kNumber: {
      const NumberRule& rule = rules_[node.a];
      switch (rule.kind) {
        case NumberRule::Kind::kInteger:
          return value.IsInteger();
        case NumberRule::Kind::kAtLeast:
          return value > rule.value || (!rule.open && value == rule.value);
        case NumberRule::Kind::kAtMost:
          return value < rule.value || (!rule.open && value == rule.value);
        case NumberRule::Kind::kMultiple:
          return value.IsMultipleOf(rule.value);
        case NumberRule::Kind::kEquals:
          return value == rule.value;
      }
      return true;
    }
    default:
      return true;
  }
}

}  // namespace pixii::text::grammar
