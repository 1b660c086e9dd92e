// JSON texts whose values satisfy a formula, byte by byte. Deterministic: one place, whatever
// alternatives the schema has, since they are kept as a formula (formula.h).
//
// Thread: one owner; a value, copies are independent.
// Layout of a State: `frame` the innermost array or object; by phase: `a` value, text, number mode
// or literal; `b` what is pending within it; `c` run of white space, or place in the trie of keys;
// `text` bytes of the current item while items must be unique.
// Bounds: depth and every count of nodes by CompileBudget; past them no byte is allowed and
// fuel().exhausted tells.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/grammar/formula.h"
#include "text/grammar/grammar.h"
#include "text/grammar/item_set.h"
#include "text/grammar/machine.h"
#include "text/grammar/text_states.h"
#include "text/grammar/viability.h"

namespace pixii::text::grammar {

struct JsonMachineOptions {
  JsonSpelling spelling;
  std::uint32_t depth_max = 256;
};

class JsonMachine final : public Machine {
 public:
  enum Phase : std::uint32_t {
    kDead,
    kValue,  // a: what value may come
    kObjectFirst,
    kObjectNext,
    kKey,  // a: text, b: pending bytes, c: place in the trie of names
    kAfterKey,
    kAfter,  // a member or item ended
    kArrayFirst,
    kString,   // a: text, b: pending bytes
    kNumber,   // a: mode, b: syntax or text
    kLiteral,  // a: kind, b: bytes read, c: verdict
    kDone,
    kPhaseEnd,
  };

  JsonMachine(FormulaStore store, const JsonMachineOptions& options);

  /// A document whose value satisfies `formula`. Its number is also what State::frame is after it.
  std::uint32_t AddRoot(FormulaId formula);

  /// Some value satisfies `formula`.
  bool Possible(FormulaId formula) { return viability_.Possible(store_, formula); }

  State StartOf(std::uint32_t root) override;

  std::unique_ptr<Machine> Clone() const override;

  State Start() override { return StartOf(0); }

  bool Step(State& state, std::uint8_t byte) override;
  bool CanEnd(const State& state) override;
  Run RunOf(const State& state) override;
  Safe SafeOf(const State& state, std::uint32_t slice) override;
  bool Loosen(const State& state, Free& free) override;
  ByteSet Apart(const State& state, const State& from) override;

  std::size_t Mark() const override { return bytes_.size(); }

  void Release(std::size_t mark) override { bytes_.resize(mark); }

  // For machines that read another notation of the same values.

  /// Arrays and objects that are open.
  std::uint32_t DepthOf(const State& state) const { return frames_[state.frame].depth; }

  /// The root whose document is being written.
  std::uint32_t RootOf(const State& state) const;
  /// The state before the value of the member or item that has begun.
  State ValueAgain(const State& state) const;
  /// The value of a member or item at `depth` is complete.
  bool AtMemberEnd(const State& state, std::uint32_t depth);

  Fuel& fuel() override { return store_.regexes.fuel; }

  std::size_t size_bytes() const override;

  FormulaStore& store() { return store_; }

 private:
  using Bits = std::vector<bool>;

  static constexpr std::uint32_t kUnknown = 0xFFFFFFFF;

  // A value that may come: it must satisfy `goal`; whether it satisfies each of `watched` is told
  // to the value around it.
  struct Value {
    FormulaId goal = 0;
    std::vector<FormulaId> watched;
    // Not part of the identity: what each kind leads to.
    std::uint32_t by_kind[kValueKinds] = {kUnknown, kUnknown, kUnknown, kUnknown,
                                          kUnknown, kUnknown, kUnknown};

    std::uint64_t Hash() const;

    friend bool operator==(const Value& a, const Value& b) {
      return a.goal == b.goal && a.watched == b.watched;
    }
  };

  // An array or object in progress.
  struct Container {
    bool array = false;
    FormulaId goal = 0;
    std::vector<FormulaId> watched;
    std::uint32_t seen = 0;  // names met, or the set of items met if they must be unique
    // Not part of the identity.
    std::uint32_t keys = kUnknown;
    std::uint32_t end = kUnknown;  // verdict, or kNone if it may not end

    std::uint64_t Hash() const;

    friend bool operator==(const Container& a, const Container& b) {
      return a.array == b.array && a.goal == b.goal && a.watched == b.watched && a.seen == b.seen;
    }
  };

  // A member or item that has begun.
  struct Member {
    FormulaId goal = 0;              // of the container, with kDown for what is open
    std::vector<FormulaId> watched;  // likewise
    std::vector<FormulaId> asked;    // what the member's verdict tells
    std::uint32_t value = 0;
    std::uint32_t seen = 0;
    bool array = false;
  };

  // What the values around an array whose items must be unique remember.
  enum class Outer : std::uint8_t { kNothing, kBytes, kFresh };

  struct Frame {
    std::uint32_t parent = 0;
    std::uint32_t container = 0;
    std::uint32_t member = 0;
    std::uint32_t depth = 0;      // 0: a root
    std::uint32_t item_text = 0;  // where the item's bytes begin
    Outer outer = Outer::kNothing;

    std::uint64_t Hash() const;
    friend bool operator==(const Frame&, const Frame&) = default;
  };

  struct Words {
    std::vector<std::uint64_t> words;
    std::uint64_t Hash() const;
    friend bool operator==(const Words&, const Words&) = default;
  };

  // Names that schemas speak of, as a trie over characters in sorted order.
  struct Names {
    struct Node {
      std::uint32_t child_begin = 0;
      std::uint32_t child_count = 0;
      std::uint32_t key_begin = 0;  // names below, as a range of `keys`
      std::uint32_t key_end = 0;
      bool word = false;  // the first of them ends here
    };

    struct Edge {
      char32_t c;
      std::uint32_t node;
    };

    std::vector<KeyId> keys;
    std::vector<Node> nodes;
    std::vector<Edge> edges;
    std::vector<RegexId> patterns;
    std::vector<std::uint32_t> classes;  // of each key
  };

  // Keys that may come in a container.
  struct Keys {
    std::uint32_t names = 0;
    std::vector<std::uint64_t> alive;  // bits over Names::keys
    std::uint32_t other = 0;           // text state of keys that are no name
    bool any_name = false;

    std::uint64_t Hash() const;
    friend bool operator==(const Keys&, const Keys&) = default;
  };

  struct NumberMode {
    enum class Kind : std::uint8_t { kAny, kInteger, kText };

    FormulaId goal = 0;
    std::vector<FormulaId> watched;
    Kind kind = Kind::kText;

    std::uint64_t Hash() const;
    friend bool operator==(const NumberMode&, const NumberMode&) = default;
  };

  struct NumberText {
    std::uint32_t mode = 0;
    std::string text;

    std::uint64_t Hash() const;
    friend bool operator==(const NumberText&, const NumberText&) = default;
  };

  // A byte of an item, behind those before it.
  struct TextByte {
    std::uint32_t parent = 0;
    std::uint8_t byte = 0;
  };

  struct ItemValue {
    std::string text;
    std::uint64_t Hash() const;
    friend bool operator==(const ItemValue&, const ItemValue&) = default;
  };

  // json_machine.cc: bytes.
  bool White(State& state, std::uint8_t byte) const;
  bool BeginValue(State& state, std::uint8_t byte);
  bool StringByte(State& state, std::uint8_t byte);
  bool KeyByte(State& state, std::uint8_t byte);
  bool CloseKey(State& state, const Keys& keys);
  bool NumberByte(State& state, std::uint8_t byte);
  bool EndNumber(State& state);
  bool LiteralByte(State& state, std::uint8_t byte);
  bool AfterByte(State& state, std::uint8_t byte);
  bool NextItem(State& state);
  bool CloseContainer(State& state, bool array);
  bool EndValue(State& state, std::uint32_t verdict);
  bool OpenContainer(State& state, std::uint32_t container, bool array);
  bool EscapesAllowed(std::uint32_t before, std::uint32_t after, char32_t c) const;
  void Collect(State& state, std::uint8_t byte);

  // json_places.cc: what they lead to.
  std::uint32_t ValueId(FormulaId goal, std::vector<FormulaId> watched);
  /// Text state, number mode, container or verdict; kNone: values of this kind are not allowed.
  std::uint32_t OfKind(std::uint32_t value, ValueKind kind);
  std::uint32_t OfKindNow(std::uint32_t value, ValueKind kind);
  std::uint32_t ModeId(FormulaId goal, std::vector<FormulaId> watched);
  std::uint32_t Verdict(const Bits& bits);
  std::uint32_t VerdictOf(const std::vector<FormulaId>& constants);
  std::uint32_t ContainerId(bool array, FormulaId goal, std::vector<FormulaId> watched,
                            std::uint32_t seen);
  /// The member that begins with a key of this class, or the next item. 0: not allowed.
  std::uint32_t MemberOf(std::uint32_t container, std::uint32_t key_class);
  std::uint32_t MemberNow(std::uint32_t container, std::uint32_t key_class);
  bool CanTurnOut(bool array, FormulaId container, FormulaId member, FormulaId verdict);
  /// The container after the member. kNone: not allowed.
  std::uint32_t AfterMember(std::uint32_t member, std::uint32_t verdict);
  std::uint32_t EndOf(std::uint32_t container);
  std::uint32_t FrameId(const Frame& frame);
  std::uint32_t NumberTextId(std::uint32_t mode, std::string text);
  // json_items.cc: items that must be unique.
  /// Adds the item that ends at `text` to those met. False: it was met before.
  std::uint32_t WithItem(const Frame& frame, std::uint32_t container, std::uint32_t text);
  std::string Canonical(std::uint32_t begin, std::uint32_t end) const;
  void KeepStrings(std::string_view item);
  /// Bytes that go on towards a string of an item met before.
  ByteSet Repeating(const State& state) const;
  std::uint32_t FreshItem(std::uint32_t container);
  /// The canonical text of an item is among those met.
  bool WasMet(std::uint32_t seen, std::string_view spelt);
  FormulaId NewItem(const Container& place, FormulaId goal);

  // json_keys.cc: names.
  const Keys& KeysOf(std::uint32_t container);
  std::uint32_t KeysNow(std::uint32_t container);
  std::uint32_t NamesOf(const std::vector<FormulaId>& formulas);
  void CollectNames(FormulaId formula, std::vector<std::uint64_t>& sources,
                    std::unordered_map<FormulaId, bool>& met) const;
  std::uint32_t BuildNames(const std::vector<std::uint64_t>& sources);
  RegexId OtherKeys(std::uint32_t container, const Names& names);
  bool AnyAlive(const Keys& keys, std::uint32_t begin, std::uint32_t end) const;
  bool Seen(std::uint32_t seen, KeyId key) const;
  std::uint32_t WithKey(std::uint32_t seen, KeyId key);

  FormulaStore store_;
  JsonMachineOptions options_;
  Viability viability_;
  TextStates texts_;
  std::vector<std::uint32_t> roots_;  // values
  Interner<Value> values_;
  Interner<Container> containers_;
  std::vector<Member> members_;
  PairMemo member_of_;
  PairMemo after_member_;
  Interner<Frame> frames_;
  Interner<Words> verdicts_;
  Interner<Words> seen_;  // of objects
  ItemSets item_sets_;    // of arrays
  Interner<Words> name_sources_;
  std::unordered_map<std::uint32_t, std::uint32_t> names_by_source_;
  std::vector<Names> names_;
  Interner<Keys> keys_;
  std::unordered_map<std::uint64_t, std::vector<std::uint64_t>> alive_names_;
  Interner<NumberMode> modes_;
  Interner<NumberText> numbers_;
  PairMemo number_steps_;
  std::vector<TextByte> bytes_;
  Interner<ItemValue> items_;
  std::set<std::string, std::less<>> item_strings_;  // met in items, as they are written
  std::size_t item_string_bytes_max_ = 0;            // of one of them
  PairMemo matches_;
  std::size_t list_bytes_ = 0;  // of what containers, members, names and sets of keys point to
};

}  // namespace pixii::text::grammar
