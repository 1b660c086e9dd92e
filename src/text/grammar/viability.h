// Whether a formula can still become true: some JSON value satisfies it.
//
// Thread: one owner; a value. Decided by looking for one conjunction of the formula's alternatives
// whose types, counts and required members agree, members and items included (least fixpoint: a
// schema that only contains itself has no value). Where the search would pass its budget the answer
// is yes.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/grammar/formula.h"

namespace pixii::text::grammar {

class Viability final {
 public:
  /// Some value satisfies `id`, a formula of a value not begun.
  bool Possible(FormulaStore& store, FormulaId id);
  /// Some continuation of an object or array satisfies `id`, what is left of its formula.
  bool PossibleRest(FormulaStore& store, FormulaId id, ValueKind kind);

 private:
  struct Literal {
    FormulaId atom;
    bool positive;
  };

  struct Search {
    ValueKind kind;
    int tries_left;
  };

  bool PossibleOfKind(FormulaStore& store, FormulaId id, ValueKind kind);
  bool Solve(FormulaStore& store, Search& search, std::vector<Literal> todo,
             std::vector<Literal> literals);
  bool ObjectPossible(FormulaStore& store, const std::vector<Literal>& literals);
  template <class Item, class Times>
  bool EnoughToDiffer(FormulaStore& store, std::uint64_t indices, Item item, Times times);
  bool ArrayPossible(FormulaStore& store, const std::vector<Literal>& literals);
  std::uint32_t ClassOf(FormulaStore& store, KeyId key, const std::vector<RegexId>& patterns);

  enum class Known : std::uint8_t { kUnknown, kSearching, kYes, kNo };

  std::unordered_map<FormulaId, Known> known_;
  PairMemo rest_;
  PairMemo matches_;  // (pattern, key)
  int depth_ = 0;
  int lowest_met_ = 1 << 30;  // shallowest search in progress that a search below asked for
  std::unordered_map<FormulaId, int> searching_;
};

/// The key's class relative to `patterns`.
KeyClass ClassifyKey(FormulaStore& store, PairMemo& matches, KeyId key,
                     const std::vector<RegexId>& patterns);

}  // namespace pixii::text::grammar
