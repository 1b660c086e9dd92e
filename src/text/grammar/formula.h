// What must still become true of a JSON value, as a Boolean formula over what schemas say; and the
// formula left after each part of the value.
//
// Thread: one owner; a value, copies are independent.
// Levels: a formula speaks of one value. While a member or item of it is being written, kDown(f)
// stands in it for "the member satisfies f".
// Life: Schema formula -> OfKind (the first byte told the type) -> OnKey or OnItem for each member
// or item (leaves kDown behind), Substitute with what it turned out to be -> AtEnd.
// Source: derivatives of regular expressions (regex_store.h), carried over to JSON values.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/grammar/interner.h"
#include "text/grammar/number_box.h"
#include "text/grammar/regex_store.h"

namespace pixii::text::grammar {

using FormulaId = std::uint32_t;
using KeyId = std::uint32_t;

inline constexpr FormulaId kFalse = 0;
inline constexpr FormulaId kTrue = 1;
inline constexpr std::uint32_t kNone = 0xFFFFFFFF;

/// Types of JSON values, told apart by their first byte.
enum class ValueKind : std::uint8_t { kNull, kFalse, kTrue, kString, kNumber, kArray, kObject };
inline constexpr int kValueKinds = 7;

constexpr std::uint32_t KindBit(ValueKind kind) { return 1U << static_cast<unsigned>(kind); }

/// One numeric keyword.
struct NumberRule {
  enum class Kind : std::uint8_t { kInteger, kAtLeast, kAtMost, kMultiple, kEquals };

  Kind kind = Kind::kInteger;
  bool open = false;  // the bound itself is not allowed
  Decimal value;

  std::uint64_t Hash() const;
  friend bool operator==(const NumberRule&, const NumberRule&) = default;
};

/// properties, patternProperties and additionalProperties of one schema.
struct PropertyTable {
  std::unordered_map<KeyId, FormulaId> named;
  std::vector<KeyId> names;  // in the order of the schema
  std::vector<std::pair<RegexId, FormulaId>> patterns;
  FormulaId additional = kTrue;
};

/// prefixItems and items of one schema.
struct ItemTable {
  std::vector<FormulaId> prefix;
  FormulaId rest = kTrue;
};

/// What unevaluatedProperties (or -Items) of one schema looks at: the schemas applied in place and
/// what each evaluates.
struct Evaluation {
  struct Part {
    FormulaId condition;       // evaluates only if this holds
    std::uint32_t properties;  // table or kNone
    bool all_properties;       // whatever the key
    std::uint32_t items;       // table or kNone
    bool all_items;
    FormulaId contains;  // items that satisfy it are evaluated; kFalse: none
  };

  std::vector<Part> parts;
  FormulaId otherwise = kTrue;  // what an unevaluated member must satisfy
};

/// All that is known of a key: its name if some schema names it, and the patterns it matches.
struct KeyClass {
  KeyId name = kNone;
  std::vector<RegexId> matched;  // sorted

  std::uint64_t Hash() const;
  friend bool operator==(const KeyClass&, const KeyClass&) = default;
};

class FormulaStore final {
 public:
  enum class Kind : std::uint8_t {
    kFalse,
    kTrue,
    kAnd,
    kOr,
    kNot,
    kOneOf,
    kSchema,         // a: schema
    kDown,           // a: formula of the member or item in progress
    kKinds,          // a: allowed kinds, as bits
    kString,         // a: language
    kNumber,         // a: rule
    kProperties,     // a: table
    kHas,            // a: set of keys that must come
    kMinProperties,  // a: count
    kMaxProperties,
    kNames,  // a: formula of key strings
    kItems,  // a: table, b: index of the next item, no larger than the prefix
    kMinItems,
    kMaxItems,
    kContains,  // a: formula, b: least, c: most; of the items to come
    kUnique,
    kUnevaluated,  // a: evaluation, b: next index; parts: conditions as they are by now
    kUnevaluatedItems,
  };

  struct Node {
    Kind kind = Kind::kFalse;
    std::uint32_t a = 0;
    std::uint32_t b = 0;
    std::uint32_t c = 0;
    std::vector<FormulaId> parts = {};

    std::uint64_t Hash() const;
    friend bool operator==(const Node&, const Node&) = default;
  };

  FormulaStore();

  // Making.
  FormulaId And(std::vector<FormulaId> parts);
  FormulaId Or(std::vector<FormulaId> parts);
  FormulaId OneOf(std::vector<FormulaId> parts);
  FormulaId Not(FormulaId part);
  FormulaId Atom(Kind kind, std::uint32_t a, std::uint32_t b = 0, std::uint32_t c = 0);
  FormulaId Kinds(std::uint32_t bits);
  FormulaId Text(RegexId language);
  FormulaId Number(NumberRule rule);
  FormulaId Has(std::vector<KeyId> keys);
  FormulaId Properties(PropertyTable table);
  FormulaId Items(ItemTable table);
  /// Tables that only say what is evaluated.
  std::uint32_t AddTable(PropertyTable table);
  std::uint32_t AddTable(ItemTable table);
  FormulaId Unevaluated(Evaluation evaluation, bool items);

  /// A schema's number, to be defined later.
  std::uint32_t DeclareSchema();
  void DefineSchema(std::uint32_t schema, FormulaId formula);

  FormulaId SchemaFormula(std::uint32_t schema) const { return schemas_[schema]; }

  /// Follows references to schemas that are references.
  FormulaId Resolve(FormulaId id) const;

  KeyId Key(std::string_view name);

  const std::string& KeyName(KeyId key) const { return keys_[key].text; }

  std::uint32_t Class(KeyClass key_class) { return classes_.Intern(std::move(key_class)); }

  // Deriving. All memoised.
  FormulaId OfKind(FormulaId id, ValueKind kind);
  FormulaId OnKey(FormulaId id, std::uint32_t key_class);
  FormulaId OnItem(FormulaId id);
  /// Of an array or object that ends here: kTrue or kFalse.
  FormulaId AtEnd(FormulaId id);
  /// `id` with kDown(f) replaced by values.at(f) where known.
  FormulaId Substitute(FormulaId id, const std::unordered_map<FormulaId, FormulaId>& values);
  /// What a member may be, given that all else in `id` turns out as is best (or worst) for it.
  FormulaId Best(FormulaId id);
  FormulaId Worst(FormulaId id);
  /// Adds every f of a kDown(f) in `id`.
  void Downs(FormulaId id, std::vector<FormulaId>& out) const;
  /// kUnique replaced by kFalse: two items were equal.
  FormulaId WithoutUnique(FormulaId id);
  bool NeedsUnique(FormulaId id);

  /// Strings: the language of a formula of kind kString.
  RegexId Language(FormulaId id);
  /// Numbers: boxes one of which must hold. Too many: one that holds everything.
  const std::vector<NumberBox>& Boxes(FormulaId id);
  bool HoldsNumber(FormulaId id, const Decimal& value) const;

  const Node& node(FormulaId id) const { return nodes_[id]; }

  const PropertyTable& properties(std::uint32_t table) const { return property_tables_[table]; }

  const ItemTable& items(std::uint32_t table) const { return item_tables_[table]; }

  const Evaluation& evaluation(std::uint32_t id) const { return evaluations_[id]; }

  const std::vector<KeyId>& key_set(std::uint32_t set) const { return key_sets_[set].keys; }

  const KeyClass& key_class(std::uint32_t id) const { return classes_[id]; }

  std::size_t key_count() const { return keys_.size(); }

  std::size_t schema_count() const { return schemas_.size(); }

  std::size_t size() const { return nodes_.size() + regexes.size(); }

  /// About.
  std::size_t size_bytes() const {
    return regexes.size_bytes() + nodes_.size_bytes() + part_bytes_ + rules_.size_bytes() +
           rules_.size() * 32 + keys_.size_bytes() + keys_.size() * 32 + classes_.size_bytes() +
           classes_.size() * 32 + of_kind_.size_bytes() + on_key_.size_bytes() +
           once_.size_bytes() + boxes_.size() * 256;
  }

  /// What the tables say of a key.
  FormulaId MemberFormula(const PropertyTable& table, const KeyClass& key_class);

  RegexStore regexes;

 private:
  struct KeyText {
    std::string text;
    std::uint64_t Hash() const;
    friend bool operator==(const KeyText&, const KeyText&) = default;
  };

  struct KeySet {
    std::vector<KeyId> keys;  // sorted
    std::uint64_t Hash() const;
    friend bool operator==(const KeySet&, const KeySet&) = default;
  };

  FormulaId Add(Node node);
  FormulaId AndOr(Kind kind, std::vector<FormulaId> parts);
  /// Rebuilds a connective with `map` applied to its parts.
  template <class Map>
  FormulaId MapParts(FormulaId id, Map map);
  FormulaId AtomOfKind(const Node& node, FormulaId id, ValueKind kind);
  FormulaId AtomOnKey(FormulaId id, std::uint32_t key_class);
  FormulaId AtomOnItem(FormulaId id);
  FormulaId UnevaluatedOnKey(FormulaId id, std::uint32_t key_class);
  FormulaId UnevaluatedOnItem(FormulaId id);
  FormulaId Down(FormulaId id);
  bool BoxesOf(FormulaId id, bool positive, std::vector<NumberBox>& out);

  Interner<Node> nodes_;
  std::size_t part_bytes_ = 0;  // of the nodes' parts
  Interner<NumberRule> rules_;
  Interner<KeyText> keys_;
  Interner<KeySet> key_sets_;
  Interner<KeyClass> classes_;
  std::vector<PropertyTable> property_tables_;
  std::vector<ItemTable> item_tables_;
  std::vector<Evaluation> evaluations_;
  std::vector<FormulaId> schemas_;
  PairMemo of_kind_;
  PairMemo on_key_;
  PairMemo once_;  // (formula, which function)
  std::unordered_map<FormulaId, std::vector<NumberBox>> boxes_;
};

}  // namespace pixii::text::grammar
