#include <fmt/format.h>

#include <algorithm>

#include "text/grammar/rule_machine.h"

namespace pixii::text::grammar {

RuleId RuleSet::Add(Node node) {
  nodes_.push_back(std::move(node));
  return static_cast<RuleId>(nodes_.size() - 1);
}

RuleId RuleSet::Sequence(std::vector<RuleId> parts) {
  return parts.size() == 1 ? parts[0] : Add({.kind = Kind::kSequence, .parts = std::move(parts)});
}

RuleId RuleSet::Choice(std::vector<RuleId> parts) {
  return parts.size() == 1 ? parts[0] : Add({.kind = Kind::kChoice, .parts = std::move(parts)});
}

RuleId RuleSet::Repeat(RuleId part, std::uint32_t min, std::uint32_t max) {
  return Add({.kind = Kind::kRepeat, .min = min, .max = max, .parts = {part}});
}

std::uint32_t RuleSet::DeclareRule(std::string name) {
  rules_.push_back({.name = std::move(name)});
  return static_cast<std::uint32_t>(rules_.size() - 1);
}

// a: a x | a y | b | c becomes a: (b | c) (x | y)*.
void RuleSet::RemoveDirectRecursion(std::uint32_t rule) {
  RuleId body = rules_[rule].body;
  std::vector<RuleId> ways = {body};
  if (nodes_[body].kind == Kind::kChoice) {
    ways = nodes_[body].parts;
  }
  auto calls_itself = [&](RuleId id) {
    return nodes_[id].kind == Kind::kRule && nodes_[id].rule == rule;
  };
  std::vector<RuleId> first;
  std::vector<RuleId> more;
  for (RuleId way : ways) {
    const Node node = nodes_[way];
    if (node.kind == Kind::kSequence && !node.parts.empty() && calls_itself(node.parts[0])) {
      more.push_back(Sequence({node.parts.begin() + 1, node.parts.end()}));
    } else if (!calls_itself(way)) {
      first.push_back(way);
    }
  }
  if (first.size() == ways.size()) {
    return;
  }
  RuleId begin = Add({.kind = Kind::kChoice, .parts = std::move(first)});
  rules_[rule].body =
      more.empty() ? begin : Sequence({begin, Repeat(Choice(std::move(more)), 0, kUnbounded)});
}

bool RuleSet::Nullable(RuleId id, const RegexStore& regexes) const {
  const Node& node = nodes_[id];
  auto null = [&](RuleId part) { return Nullable(part, regexes); };
  switch (node.kind) {
    case Kind::kTerminal:
      return regexes.Nullable(node.terminal);
    case Kind::kSequence:
      return std::all_of(node.parts.begin(), node.parts.end(), null);
    case Kind::kChoice:
      return std::any_of(node.parts.begin(), node.parts.end(), null);
    case Kind::kRepeat:
      return node.min == 0 || null(node.parts[0]);
    case Kind::kRule:
      return rules_[node.rule].nullable;
  }
  return false;
}

bool RuleSet::Productive(RuleId id) const {
  const Node& node = nodes_[id];
  auto good = [&](RuleId part) { return Productive(part); };
  switch (node.kind) {
    case Kind::kTerminal:
      return node.terminal != RegexStore::kNothing;
    case Kind::kSequence:
      return std::all_of(node.parts.begin(), node.parts.end(), good);
    case Kind::kChoice:
      return std::any_of(node.parts.begin(), node.parts.end(), good);
    case Kind::kRepeat:
      return node.min == 0 || good(node.parts[0]);
    case Kind::kRule:
      return rules_[node.rule].productive;
  }
  return false;
}

bool RuleSet::Measure(const RegexStore& regexes) {
  bool changed = false;
  for (Rule& rule : rules_) {
    bool nullable = rule.nullable || Nullable(rule.body, regexes);
    bool productive = rule.productive || Productive(rule.body);
    changed = changed || nullable != rule.nullable || productive != rule.productive;
    rule.nullable = nullable;
    rule.productive = productive;
  }
  return changed;
}

void RuleSet::LeftCalls(RuleId id, const RegexStore& regexes,
                        std::vector<std::uint32_t>& out) const {
  const Node& node = nodes_[id];
  if (node.kind == Kind::kRule) {
    out.push_back(node.rule);
  }
  for (RuleId part : node.parts) {
    LeftCalls(part, regexes, out);
    if (node.kind == Kind::kSequence && !Nullable(part, regexes)) {
      break;
    }
  }
}

void RuleSet::Prune() {
  // Ways without a text would be dead ends.
  for (Node& node : nodes_) {
    if (node.kind == Kind::kChoice) {
      std::erase_if(node.parts, [&](RuleId part) { return !Productive(part); });
    } else if (node.kind == Kind::kRepeat && !Productive(node.parts[0])) {
      node = {.kind = Kind::kSequence};
    }
  }
}

Result<void> RuleSet::Prepare(std::uint32_t start, RegexStore& regexes) {
  for (std::uint32_t rule = 0; rule < rules_.size(); ++rule) {
    if (rules_[rule].body == kMissing) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("the rule {} is used but not defined", rules_[rule].name));
    }
    RemoveDirectRecursion(rule);
  }
  while (Measure(regexes)) {
    if (!regexes.fuel.Burn(nodes_.size())) {
      return Fail(Code::kTooLarge, "the grammar is past the budget of compilation");
    }
  }
  if (!rules_[start].productive) {
    return Fail(Code::kInvalidArgument,
                fmt::format("no text satisfies the rule {}", rules_[start].name));
  }
  Prune();
  std::vector<std::uint8_t> state(rules_.size(), 0);  // 1: on the way, 2: done

  struct Step {
    std::uint32_t rule;
    std::vector<std::uint32_t> next;
  };

  for (std::uint32_t first = 0; first < rules_.size(); ++first) {
    std::vector<Step> path;
    auto enter = [&](std::uint32_t rule) {
      state[rule] = 1;
      path.push_back({rule, {}});
      LeftCalls(rules_[rule].body, regexes, path.back().next);
    };
    if (state[first] == 0) {
      enter(first);
    }
    while (!path.empty()) {
      Step& top = path.back();
      if (top.next.empty()) {
        state[top.rule] = 2;
        path.pop_back();
        continue;
      }
      std::uint32_t next = top.next.back();
      top.next.pop_back();
      if (state[next] == 1) {
        return Fail(Code::kUnsupported,
                    fmt::format("left recursion: the rule {} begins with itself through others",
                                rules_[next].name),
                    rules_[next].name);
      }
      if (state[next] == 0) {
        enter(next);
      }
    }
  }
  return {};
}

}  // namespace pixii::text::grammar
