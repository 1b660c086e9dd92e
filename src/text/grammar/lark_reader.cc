#include <fmt/format.h>

#include <array>
#include <unordered_map>

#include "text/grammar/pattern.h"
#include "text/grammar/rule_reader.h"
#include "text/grammar/rule_scanner.h"

namespace pixii::text::grammar {

namespace {

struct CommonTerminal {
  std::string_view name;
  std::string_view pattern;
};

// What `%import common.X` gives.
constexpr std::array kCommon = std::to_array<CommonTerminal>({
    {"DIGIT", "[0-9]"},
    {"HEXDIGIT", "[0-9A-Fa-f]"},
    {"INT", "[0-9]+"},
    {"SIGNED_INT", "[+-]?[0-9]+"},
    {"DECIMAL", "(?:[0-9]+\\.[0-9]*|\\.[0-9]+)"},
    {"FLOAT", "(?:[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\\.[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"},
    {"SIGNED_FLOAT",
     "[+-]?(?:[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\\.[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"},
    {"NUMBER", "(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?"},
    {"SIGNED_NUMBER", "[+-]?(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?"},
    {"ESCAPED_STRING", "\"(?:[^\"\\\\\\n]|\\\\[^\\n])*\""},
    {"LCASE_LETTER", "[a-z]"},
    {"UCASE_LETTER", "[A-Z]"},
    {"LETTER", "[A-Za-z]"},
    {"WORD", "[A-Za-z]+"},
    {"CNAME", "[A-Za-z_][A-Za-z0-9_]*"},
    {"WS_INLINE", "[ \\t]+"},
    {"WS", "[ \\t\\f\\r\\n]+"},
    {"CR", "\\r"},
    {"LF", "\\n"},
    {"NEWLINE", "(?:\\r?\\n)+"},
});

bool IsTerminalName(std::string_view name) {
  for (char c : name) {
    if (c != '_') {
      return c >= 'A' && c <= 'Z';
    }
  }
  return false;
}

class LarkReader final {
 public:
  LarkReader(RuleSet& rules, RegexStore& regexes, std::string_view text)
      : rules_(rules), regexes_(regexes), in_(text, "//") {}

  Result<std::uint32_t> Read() {
    in_.Skip(true);
    while (!in_.AtEnd()) {
      PX_CHECK_OK(Statement());
      in_.Skip(true);
    }
    if (!defined_["start"]) {
      return Fail(Code::kInvalidArgument, "grammar: there is no rule named start");
    }
    DefineIgnored();
    // What is ignored may stand before every terminal and at the end.
    std::uint32_t all = rules_.DeclareRule("the whole text");
    rules_.DefineRule(all, rules_.Sequence({rules_.Call(Rule("start")), rules_.Call(Ignored())}));
    PX_CHECK_OK(rules_.Prepare(all, regexes_));
    return all;
  }

 private:
  Result<void> Statement() {
    if (in_.Take("%")) {
      return Directive();
    }
    while (in_.Peek() == '?' || in_.Peek() == '!') {
      in_.Take(in_.Peek() == '?' ? "?" : "!");  // how trees are built
    }
    std::string name(in_.Name());
    if (name.empty()) {
      return in_.Bad("a rule begins with its name");
    }
    if (in_.Peek() == '{') {
      return in_.Refuse("templates");
    }
    if (in_.Take(".")) {
      in_.Take("-");
      if (!in_.Number()) {
        return in_.Bad("a priority is a number");
      }
    }
    in_.Skip(false);
    if (!in_.Take(":")) {
      return in_.Bad(fmt::format("the rule {} has no colon", name));
    }
    std::uint32_t rule = Rule(name);
    if (defined_[name]) {
      return in_.Bad(fmt::format("{} is defined twice", name));
    }
    defined_[name] = true;
    in_terminal_ = IsTerminalName(name);
    PX_TRY(RuleId body, Choice(0));
    rules_.DefineRule(rule, body);
    in_.Skip(false);
    if (!in_.AtEnd() && in_.Peek() != '\n') {
      return in_.Bad(fmt::format("unexpected {}", in_.Peek()));
    }
    return {};
  }

  Result<void> Directive() {
    std::string_view word = in_.Name();
    in_.Skip(false);
    if (word == "ignore") {
      in_terminal_ = true;
      PX_TRY(RuleId what, Choice(0));
      ignored_.push_back(what);
      return {};
    }
    if (word != "import" || !in_.Take("common.")) {
      return in_.Refuse(fmt::format("%{}, but for %ignore and %import common", word));
    }
    in_.Skip(false);
    if (in_.Take("(")) {
      return in_.Refuse("a list of imports");
    }
    std::string name(in_.Name());
    std::string alias = name;
    in_.Skip(false);
    if (in_.Take("->")) {
      in_.Skip(false);
      alias = in_.Name();
    }
    for (const CommonTerminal& common : kCommon) {
      if (common.name == name && !alias.empty()) {
        PX_TRY(RegexId words, ParseTerminal(regexes_, common.pattern));
        defined_[alias] = true;
        rules_.DefineRule(Rule(alias), rules_.Terminal(words));
        return {};
      }
    }
    return in_.Refuse(fmt::format("%import common.{}", name));
  }

  std::uint32_t Rule(const std::string& name) {
    auto [number, fresh] = numbers_.try_emplace(name, 0);
    if (fresh) {
      number->second = rules_.DeclareRule(name);
    }
    return number->second;
  }

  std::uint32_t Ignored() {
    if (!ignored_rule_) {
      ignored_rule_ = rules_.DeclareRule("ignored");
      rules_.DefineRule(*ignored_rule_, rules_.Sequence({}));
    }
    return *ignored_rule_;
  }

  Result<RuleId> Choice(int depth) {
    if (depth > kRuleNestingMax) {
      return in_.Refuse("groups nested too deeply");
    }
    std::vector<RuleId> ways;
    do {
      PX_TRY(RuleId way, Sequence(depth));
      ways.push_back(way);
    } while (NextWay());
    return rules_.Choice(std::move(ways));
  }

  // Alternatives may begin on lines of their own.
  bool NextWay() {
    std::size_t here = in_.position();
    in_.Skip(true);
    if (in_.Take("|")) {
      return true;
    }
    in_.Return(here);
    return false;
  }

  Result<RuleId> Sequence(int depth) {
    std::vector<RuleId> parts;
    while (true) {
      in_.Skip(depth > 0);
      char c = in_.Peek();
      if (in_.Take("->")) {
        in_.Skip(false);
        in_.Name();  // the tree's own name for it
        continue;
      }
      if (in_.AtEnd() || c == '|' || c == ')' || c == ']' || c == '\n') {
        return rules_.Sequence(std::move(parts));
      }
      PX_TRY(RuleId item, Item(depth));
      PX_TRY(item, Repeated(item));
      parts.push_back(item);
    }
  }

  Result<RuleId> Item(int depth) {
    char c = in_.Peek();
    if (in_.Take("(") || in_.Take("[")) {
      bool optional = c == '[';
      PX_TRY(RuleId inner, Choice(depth + 1));
      in_.Skip(true);
      if (!in_.Take(optional ? "]" : ")")) {
        return in_.Bad("unmatched bracket");
      }
      return optional ? rules_.Repeat(inner, 0, 1) : inner;
    }
    if (c == '"') {
      PX_TRY(RegexId words, Literal());
      return Place(words);
    }
    if (c == '/') {
      PX_TRY(std::string pattern, in_.Delimited('/'));
      if (in_.Peek() >= 'a' && in_.Peek() <= 'z') {
        return in_.Refuse("flags of a pattern");
      }
      Result<RegexId> words = ParseTerminal(regexes_, pattern);
      if (!words) {
        return words.error().code() == Code::kUnsupported ? in_.Refuse(words.error().detail())
                                                          : in_.Bad(words.error().detail());
      }
      return Place(*words);
    }
    std::string name(in_.Name());
    if (name.empty()) {
      return in_.Bad(fmt::format("unexpected {}", c));
    }
    if (in_.Peek() == '{') {
      return in_.Refuse("templates");
    }
    if (in_terminal_ && !IsTerminalName(name)) {
      return in_.Bad(fmt::format("a terminal cannot use the rule {}", name));
    }
    RuleId call = rules_.Call(Rule(name));
    bool place = IsTerminalName(name) && !in_terminal_;
    return place ? rules_.Sequence({rules_.Call(Ignored()), call}) : call;
  }

  Result<RegexId> Literal() {
    PX_TRY(std::u32string word, in_.Quoted());
    bool fold = in_.Peek() == 'i' && in_.Take("i");
    if (!in_.Take("..")) {
      return WordOf(regexes_, word, fold);
    }
    if (in_.Peek() != '"') {
      return in_.Bad("a range ends with a literal");
    }
    PX_TRY(std::u32string end, in_.Quoted());
    if (word.size() != 1 || end.size() != 1 || word[0] > end[0]) {
      return in_.Bad("a range has one character at each end, in order");
    }
    return regexes_.Set({{word[0], end[0]}});
  }

  RuleId Place(RegexId words) {
    RuleId terminal = rules_.Terminal(words);
    return in_terminal_ ? terminal : rules_.Sequence({rules_.Call(Ignored()), terminal});
  }

  Result<RuleId> Repeated(RuleId item) {
    while (true) {
      if (in_.Take("*")) {
        item = rules_.Repeat(item, 0, kUnbounded);
      } else if (in_.Take("+")) {
        item = rules_.Repeat(item, 1, kUnbounded);
      } else if (in_.Take("?")) {
        item = rules_.Repeat(item, 0, 1);
      } else {
        break;
      }
    }
    in_.Skip(false);
    if (!in_.Take("~")) {
      return item;
    }
    in_.Skip(false);
    std::optional<std::uint32_t> min = in_.Number();
    std::optional<std::uint32_t> max = min;
    if (in_.Take("..")) {
      max = in_.Number();
    }
    if (!min || !max || *min > *max) {
      return in_.Bad("counts are ~n or ~n..m with n at most m");
    }
    return rules_.Repeat(item, *min, *max);
  }

  // All of it is known only at the end.
  void DefineIgnored() {
    if (!ignored_.empty()) {
      RuleId any = rules_.Choice(ignored_);
      rules_.DefineRule(Ignored(), rules_.Repeat(any, 0, kUnbounded));
    }
  }

  RuleSet& rules_;
  RegexStore& regexes_;
  RuleScanner in_;
  bool in_terminal_ = false;
  std::unordered_map<std::string, std::uint32_t> numbers_;
  std::unordered_map<std::string, bool> defined_;
  std::vector<RuleId> ignored_;
  std::optional<std::uint32_t> ignored_rule_;
};

}  // namespace

Result<std::uint32_t> ReadLark(RuleSet& rules, RegexStore& regexes, std::string_view text) {
  return LarkReader(rules, regexes, text).Read();
}

}  // namespace pixii::text::grammar
