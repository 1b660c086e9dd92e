// Texts of a context-free grammar, byte by byte: EBNF, GBNF and Lark.
//
// Thread: one owner; a value, copies are independent.
// A place is the set of all ways to have read what was read: each way is a stack of what must still
// come, shared with other ways. Sets and stacks have numbers, so that equal ones are one.
// Bounds: ways of one place and nesting of rules; left recursion was turned into repetition or
// refused when the grammar was read.
// Layout of a State: `a` set, `b` bytes of a character begun.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "text/grammar/interner.h"
#include "text/grammar/machine.h"

namespace pixii::text::grammar {

using RuleId = std::uint32_t;  // node of a RuleSet

inline constexpr std::size_t kWaysMax = 2'048;       // ways of one place
inline constexpr std::uint32_t kRuleDepthMax = 512;  // rules entered within rules

/// Rules as nodes. Terminals are languages of words (no kTextEnd).
class RuleSet final {
 public:
  enum class Kind : std::uint8_t { kTerminal, kSequence, kChoice, kRepeat, kRule };

  struct Node {
    Kind kind = Kind::kSequence;
    RegexId terminal = 0;
    std::uint32_t min = 0;  // kRepeat
    std::uint32_t max = 0;
    std::uint32_t rule = 0;  // kRule
    std::vector<RuleId> parts = {};
  };

  RuleId Add(Node node);

  RuleId Terminal(RegexId words) { return Add({.kind = Kind::kTerminal, .terminal = words}); }

  RuleId Sequence(std::vector<RuleId> parts);
  RuleId Choice(std::vector<RuleId> parts);
  RuleId Repeat(RuleId part, std::uint32_t min, std::uint32_t max);

  RuleId Call(std::uint32_t rule) { return Add({.kind = Kind::kRule, .rule = rule}); }

  std::uint32_t DeclareRule(std::string name);

  void DefineRule(std::uint32_t rule, RuleId body) { rules_[rule].body = body; }

  const Node& node(RuleId id) const { return nodes_[id]; }

  RuleId body(std::uint32_t rule) const { return rules_[rule].body; }

  const std::string& name(std::uint32_t rule) const { return rules_[rule].name; }

  std::size_t rule_count() const { return rules_.size(); }

  std::size_t size() const { return nodes_.size(); }

  /// Rewrites direct left recursion as repetition and drops what no text satisfies.
  /// Errors: kUnsupported naming a rule that is left-recursive otherwise; kInvalidArgument if
  /// `start` has no text.
  Result<void> Prepare(std::uint32_t start, RegexStore& regexes);

 private:
  struct Rule {
    std::string name;
    RuleId body = kMissing;
    bool nullable = false;
    bool productive = false;
  };

  static constexpr RuleId kMissing = 0xFFFFFFFF;

  void RemoveDirectRecursion(std::uint32_t rule);
  bool Measure(const RegexStore& regexes);
  bool Nullable(RuleId id, const RegexStore& regexes) const;
  bool Productive(RuleId id) const;
  void LeftCalls(RuleId id, const RegexStore& regexes, std::vector<std::uint32_t>& out) const;
  void Prune();

  std::vector<Node> nodes_;
  std::vector<Rule> rules_;
};

class RuleMachine final : public Machine {
 public:
  RuleMachine(RegexStore regexes, RuleSet rules, std::uint32_t start);

  std::unique_ptr<Machine> Clone() const override;
  State Start() override;
  bool Step(State& state, std::uint8_t byte) override;
  bool CanEnd(const State& state) override;
  Run RunOf(const State& state) override;

  Fuel& fuel() override { return regexes_.fuel; }

  std::size_t size_bytes() const override;

 private:
  // What must come, then what `rest` says. A terminal begun has its language alone.
  struct Way {
    bool terminal = false;
    std::uint32_t what = 0;  // language or rule node
    std::uint32_t min = 0;   // repetitions still needed and allowed, of a kRepeat node
    std::uint32_t max = 0;
    std::uint32_t rest = 0;
    std::uint32_t depth = 0;

    std::uint64_t Hash() const;
    friend bool operator==(const Way&, const Way&) = default;
  };

  // Ways that begin with a terminal, sorted; 0 among them: the text may end.
  struct Place {
    std::vector<std::uint32_t> ways;
    // Not part of the identity.
    bool expanded = false;
    std::array<std::uint32_t, 128> ascii{};
    std::vector<char32_t> cuts;
    std::vector<std::uint32_t> after;  // of each cut
    Run run;

    std::uint64_t Hash() const;

    friend bool operator==(const Place& a, const Place& b) { return a.ways == b.ways; }
  };

  std::uint32_t Push(RuleId node, std::uint32_t rest);
  /// The place of all ways that `ways` begin with.
  std::uint32_t Close(std::vector<std::uint32_t> ways);
  void Open(std::uint32_t way, std::vector<std::uint32_t>& work);
  std::uint32_t After(const std::vector<std::uint32_t>& ways, char32_t c);
  Place& Expand(std::uint32_t place);
  std::uint32_t Next(std::uint32_t place, char32_t c);
  bool AnyIn(std::uint32_t place, char32_t low, char32_t high);

  RegexStore regexes_;
  std::shared_ptr<const RuleSet> rules_;
  std::uint32_t start_ = 0;
  Interner<Way> ways_;           // 0: the end
  Interner<Place> places_;       // 0: dead
  std::size_t place_bytes_ = 0;  // of what the places point to
};

}  // namespace pixii::text::grammar
