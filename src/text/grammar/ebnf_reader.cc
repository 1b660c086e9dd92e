#include <unordered_map>

#include "text/grammar/pattern.h"
#include "text/grammar/rule_reader.h"
#include "text/grammar/rule_scanner.h"

namespace pixii::text::grammar {

namespace {

class EbnfReader final {
 public:
  EbnfReader(RuleSet& rules, RegexStore& regexes, std::string_view text)
      : rules_(rules), regexes_(regexes), in_(text, "#") {}

  Result<std::uint32_t> Read() {
    in_.Skip(true);
    while (!in_.AtEnd()) {
      std::string name(in_.Name());
      in_.Skip(true);
      if (name.empty() || !in_.Take("::=")) {
        return in_.Bad("a rule begins with its name and ::=");
      }
      std::uint32_t rule = Rule(name);
      if (defined_[name]) {
        return in_.Bad("the rule " + name + " is defined twice");
      }
      defined_[name] = true;
      PX_TRY(RuleId body, Choice(0));
      rules_.DefineRule(rule, body);
      in_.Skip(true);
      in_.Take(";");
      in_.Skip(true);
    }
    if (!defined_["root"]) {
      return Fail(Code::kInvalidArgument, "grammar: there is no rule named root");
    }
    std::uint32_t start = Rule("root");
    PX_CHECK_OK(rules_.Prepare(start, regexes_));
    return start;
  }

 private:
  std::uint32_t Rule(const std::string& name) {
    auto [number, fresh] = numbers_.try_emplace(name, 0);
    if (fresh) {
      number->second = rules_.DeclareRule(name);
    }
    return number->second;
  }

  Result<RuleId> Choice(int depth) {
    if (depth > kRuleNestingMax) {
      return in_.Refuse("groups nested too deeply");
    }
    std::vector<RuleId> ways;
    do {
      PX_TRY(RuleId way, Sequence(depth));
      ways.push_back(way);
      in_.Skip(true);
    } while (in_.Take("|"));
    return rules_.Choice(std::move(ways));
  }

  // Names that are followed by ::= begin the next rule.
  bool NextRule() {
    std::size_t here = in_.position();
    bool name = !in_.Name().empty();
    in_.Skip(true);
    bool rule = name && in_.Take("::=");
    in_.Return(here);
    return rule;
  }

  Result<RuleId> Sequence(int depth) {
    std::vector<RuleId> parts;
    while (true) {
      in_.Skip(true);
      char c = in_.Peek();
      if (in_.AtEnd() || c == '|' || c == ')' || c == ';' || NextRule()) {
        return rules_.Sequence(std::move(parts));
      }
      PX_TRY(RuleId item, Item(depth));
      PX_TRY(item, Repeated(item));
      parts.push_back(item);
    }
  }

  Result<RuleId> Item(int depth) {
    char c = in_.Peek();
    if (c == '"' || c == '\'') {
      PX_TRY(std::u32string word, in_.Quoted());
      return rules_.Terminal(WordOf(regexes_, word, false));
    }
    if (c == '[') {
      PX_TRY(std::string inside, in_.Delimited(']'));
      Result<RegexId> set = ParseTerminal(regexes_, "[" + inside + "]");
      if (!set) {
        return in_.Bad(set.error().detail());
      }
      return rules_.Terminal(*set);
    }
    if (in_.Take("(")) {
      PX_TRY(RuleId inner, Choice(depth + 1));
      in_.Skip(true);
      if (!in_.Take(")")) {
        return in_.Bad("unmatched (");
      }
      return inner;
    }
    if (in_.Take(".")) {
      return rules_.Terminal(regexes_.any());
    }
    std::string name(in_.Name());
    if (name.empty()) {
      return in_.Bad("neither a literal, a class, a group nor a name");
    }
    return rules_.Call(Rule(name));
  }

  Result<RuleId> Repeated(RuleId item) {
    while (true) {
      if (in_.Take("*")) {
        item = rules_.Repeat(item, 0, kUnbounded);
      } else if (in_.Take("+")) {
        item = rules_.Repeat(item, 1, kUnbounded);
      } else if (in_.Take("?")) {
        item = rules_.Repeat(item, 0, 1);
      } else if (in_.Take("{")) {
        std::optional<std::uint32_t> min = in_.Number();
        std::uint32_t max = min.value_or(0);
        if (in_.Take(",")) {
          max = in_.Number().value_or(kUnbounded);
        } else if (!min) {
          return in_.Bad("{} without a count");
        }
        if (!in_.Take("}") || min.value_or(0) > max) {
          return in_.Bad("counts are {n}, {n,}, {,m} or {n,m} with n at most m");
        }
        item = rules_.Repeat(item, min.value_or(0), max);
      } else {
        return item;
      }
    }
  }

  RuleSet& rules_;
  RegexStore& regexes_;
  RuleScanner in_;
  std::unordered_map<std::string, std::uint32_t> numbers_;
  std::unordered_map<std::string, bool> defined_;
};

}  // namespace

Result<std::uint32_t> ReadEbnf(RuleSet& rules, RegexStore& regexes, std::string_view text) {
  return EbnfReader(rules, regexes, text).Read();
}

}  // namespace pixii::text::grammar
