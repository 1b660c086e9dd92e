#include "config/launch_script.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

namespace pixii::config {

namespace {

constexpr std::size_t kScriptSizeMax = 1 << 20;  // bytes
constexpr std::size_t kCommandsMax = 4096;
constexpr std::size_t kWordsMax = 4096;       // of a command
constexpr std::uint32_t kExpansionDepth = 8;  // ${A:-${B:-...}}

// Words that open a part which may run or not, and what ends it.
struct Block {
  std::string_view opens;
  std::string_view closes;
  std::string_view called;
};

constexpr std::array<Block, 8> kBlocks = {{{"if", "fi", "if"},
                                           {"case", "esac", "case"},
                                           {"while", "done", "while"},
                                           {"until", "done", "until"},
                                           {"for", "done", "for"},
                                           {"select", "done", "select"},
                                           {"{", "}", "a group"},
                                           {"(", ")", "a subshell"}}};
constexpr std::array<std::string_view, 5> kBetween = {"then", "else", "elif", "do", "!"};

bool Declares(std::string_view word) {
  return word == "export" || word == "local" || word == "declare" || word == "readonly";
}

bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

bool IsNamePart(char c) { return IsNameStart(c) || (c >= '0' && c <= '9'); }

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// Variables, each a list of texts: one that is no array has one.
using Values = std::map<std::string, std::vector<LaunchWord>>;

class ScriptReader final {
 public:
  ScriptReader(const std::string& text, const std::string& file,
               const std::map<std::string, std::string>& given)
      : text_(text), file_(file) {
    for (const auto& [name, value] : given) {
      values_[name] = {{.text = value}};
    }
  }

  Result<std::vector<LaunchCommand>> Read() {
    while (at_ < text_.size()) {
      PX_CHECK_OK(ReadCommand());
    }
    return std::move(commands_);
  }

 private:
  tl::unexpected<Error> Bad(std::uint32_t line, std::string_view what) const {
    return Fail(Code::kInvalidArgument, fmt::format("{}:{}: {}", file_, line, what));
  }

  char Now() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  char Next() const { return at_ + 1 < text_.size() ? text_[at_ + 1] : '\0'; }

  void Step() {
    line_ += Now() == '\n' ? 1 : 0;
    ++at_;
  }

  bool SkipBlank() {
    bool any = false;
    while (at_ < text_.size()) {
      if (Now() == '\\' && Next() == '\n') {
        Step();
      } else if (!IsBlank(Now())) {
        break;
      }
      Step();
      any = true;
    }
    return any;
  }

  // To the end of its line, which stays.
  void SkipLine() {
    while (at_ < text_.size() && Now() != '\n') {
      Step();
    }
  }

  // One command, or what stands between two.
  Result<void> ReadCommand() {
    LaunchCommand command;
    bool assigning = true;  // no word of the command itself was read
    while (true) {
      SkipBlank();
      const char c = Now();
      if (at_ >= text_.size() || c == '\n' || c == ';' || c == '&' || c == '|') {
        if (at_ < text_.size()) {
          EndOfCommand();
        }
        break;
      }
      if (c == '#') {
        SkipLine();
        continue;
      }
      if (c == ')' && !command.words.empty() && !open_.empty() && open_.back() == "(") {
        break;  // the last command of a subshell; its end comes next
      }
      if (c == '(' || c == ')') {
        Step();
        Parenthesis(c, command);
        if (command.words.empty()) {
          return {};
        }
        continue;
      }
      if (c == '<' || c == '>' || IsRedirection()) {
        PX_CHECK_OK(SkipRedirection());
        continue;
      }
      command.line = command.line == 0 ? line_ : command.line;
      if (assigning) {
        PX_TRY(const bool was_one, ReadAssignment(command));
        if (was_one) {
          continue;
        }
      }
      std::vector<LaunchWord> words;
      PX_TRY(const bool plain, ReadWord(words));
      if (assigning && plain && words.size() == 1 && Keyword(words.front().text)) {
        command = {};
        return {};
      }
      assigning = false;
      for (LaunchWord& word : words) {
        command.words.push_back(std::move(word));
      }
      if (command.words.size() > kWordsMax) {
        return Fail(Code::kTooLarge,
                    fmt::format("{}:{}: more than {} words", file_, line_, kWordsMax));
      }
      if (const std::string& first = command.words.empty() ? "" : command.words.front().text;
          Declares(first)) {
        PX_CHECK_OK(ReadDeclared(first == "export", command));
      }
    }
    return Done(std::move(command));
  }

  void EndOfCommand() {
    const bool line_ends = Now() == '\n';
    Step();
    if (Now() == ';' || Now() == '&' || Now() == '|') {
      Step();
    }
    if (line_ends && !here_.empty()) {
      SkipHereDocuments();
    }
  }

  void Parenthesis(char c, LaunchCommand& command) {
    if (c == '(' && Now() == ')') {  // name()
      Step();
      function_next_ = true;
      command = {};
    } else if (c == '(' && command.words.empty()) {
      open_.push_back("(");
    } else if (c == ')' && !open_.empty() && open_.back() == "(") {
      open_.pop_back();
    } else {
      command = {};  // the pattern of a case
    }
  }

  bool IsRedirection() const {
    std::size_t i = at_;
    while (i < text_.size() && text_[i] >= '0' && text_[i] <= '9') {
      ++i;
    }
    return i > at_ && i < text_.size() && (text_[i] == '<' || text_[i] == '>');
  }

  Result<void> SkipRedirection() {
    std::string operation;
    while (Now() == '<' || Now() == '>' || Now() == '&' || (Now() >= '0' && Now() <= '9') ||
           (operation == "<<" && Now() == '-')) {
      operation += Now() >= '0' && Now() <= '9' ? "" : std::string(1, Now());
      Step();
    }
    SkipBlank();
    if (operation.ends_with('&')) {
      return {};  // 2>&1: its digit went with it
    }
    std::vector<LaunchWord> target;
    PX_TRY(const bool plain, ReadWord(target));
    (void)plain;
    if ((operation == "<<" || operation == "<<-") && !target.empty()) {
      here_.push_back(target.front().text);
    }
    return {};
  }

  void SkipHereDocuments() {
    for (const std::string& end : std::exchange(here_, {})) {
      while (at_ < text_.size()) {
        const std::size_t begin = at_;
        SkipLine();
        std::string_view line = std::string_view(text_).substr(begin, at_ - begin);
        line.remove_prefix(std::min(line.find_first_not_of('\t'), line.size()));
        if (at_ < text_.size()) {
          Step();
        }
        if (line == end) {
          break;
        }
      }
    }
  }

  // Whether the word opens or closes a part that may run or not.
  bool Keyword(const std::string& word) {
    if (word == "function") {
      function_next_ = true;
      return false;
    }
    const auto opens = std::ranges::find(kBlocks, word, &Block::opens);
    if (opens != kBlocks.end()) {
      const bool function = word == "{" && std::exchange(function_next_, false);
      open_.push_back(function ? "{function" : word);
      return true;
    }
    const bool closes = std::ranges::find(kBlocks, word, &Block::closes) != kBlocks.end();
    if (closes && !open_.empty()) {
      open_.pop_back();
    }
    return closes || std::ranges::find(kBetween, word) != kBetween.end();
  }

  std::string Within() const {
    if (open_.empty()) {
      return {};
    }
    if (open_.front() == "{function") {
      return "a function";
    }
    return std::string(std::ranges::find(kBlocks, open_.front(), &Block::opens)->called);
  }

  // NAME=VALUE, NAME+=VALUE, NAME=(VALUES...) in front of a command.
  Result<bool> ReadAssignment(LaunchCommand& command) {
    std::size_t end = at_;
    while (end < text_.size() && (end == at_ ? IsNameStart(text_[end]) : IsNamePart(text_[end]))) {
      ++end;
    }
    const bool appends = text_.compare(end, 2, "+=") == 0;
    if (end == at_ || (!appends && text_.compare(end, 1, "=") != 0)) {
      return false;
    }
    std::string name = text_.substr(at_, end - at_);
    at_ = end + (appends ? 2 : 1);
    PX_TRY(std::vector<LaunchWord> values, ReadValue());
    if (open_.empty()) {
      const auto before = values_.find(name);
      replaced_.emplace_back(name, before != values_.end()
                                       ? std::optional<std::vector<LaunchWord>>(before->second)
                                       : std::nullopt);
      std::vector<LaunchWord>& kept = values_[name];
      if (!appends) {
        kept.clear();
      }
      kept.insert(kept.end(), values.begin(), values.end());
    }
    command.environment.push_back(
        {.name = std::move(name), .value = values.empty() ? LaunchWord{.line = line_} : values[0]});
    return true;
  }

  Result<std::vector<LaunchWord>> ReadValue() {
    std::vector<LaunchWord> out;
    if (Now() == '(') {
      Step();
      while (true) {
        while (SkipBlank() || Now() == '\n' || Now() == '#') {
          if (Now() == '#') {
            SkipLine();
          } else if (Now() == '\n') {
            Step();
          }
        }
        if (at_ >= text_.size()) {
          return Bad(line_, "a list without its end");
        }
        if (Now() == ')') {
          Step();
          return out;
        }
        PX_TRY(const bool plain, ReadWord(out));
        (void)plain;
      }
    }
    LaunchWord word{.line = line_};
    if (at_ < text_.size() && !EndsWord(Now())) {
      std::vector<LaunchWord> words;
      splitting_ = false;
      const Result<bool> read = ReadWord(words);
      splitting_ = true;
      PX_CHECK_OK(read);
      word = words.empty() ? word : words.front();
    }
    out.push_back(std::move(word));
    return out;
  }

  // export NAME=VALUE ...: `command` has the first word.
  Result<void> ReadDeclared(bool exported, LaunchCommand& command) {
    while (SkipBlank(), at_ < text_.size() && !EndsWord(Now()) && Now() != '#') {
      LaunchCommand one;
      PX_TRY(const bool was_one, ReadAssignment(one));
      std::string name;
      if (was_one) {
        name = one.environment.front().name;
      } else {
        std::vector<LaunchWord> words;
        PX_TRY(const bool plain, ReadWord(words));
        (void)plain;
        name = words.empty() ? "" : words.front().text;
      }
      if (exported && open_.empty() && std::ranges::find(exported_, name) == exported_.end()) {
        exported_.push_back(name);
      }
    }
    command.environment.clear();
    return {};
  }

  static bool EndsWord(char c) {
    return IsBlank(c) || c == '\n' || c == ';' || c == '&' || c == '|' || c == '(' || c == ')' ||
           c == '<' || c == '>';
  }

  // Appends what one word becomes. Whether it had neither quotes nor variables.
  Result<bool> ReadWord(std::vector<LaunchWord>& out) {
    Fields fields;
    fields.now.line = line_;
    bool plain = true;
    while (at_ < text_.size() && !EndsWord(Now())) {
      const char c = Now();
      if (c == '\'') {
        plain = false;
        fields.begun = true;
        PX_CHECK_OK(SingleQuoted(fields.now.text));
      } else if (c == '"') {
        plain = false;
        PX_CHECK_OK(DoubleQuoted(fields));
      } else if (c == '\\') {
        Step();
        if (Now() != '\n') {
          fields.Add(Now());
        }
        Step();
      } else if (c == '$' || c == '`') {
        plain = false;
        PX_CHECK_OK(Expansion(fields, false, 0));
      } else {
        fields.Add(c);
        Step();
      }
    }
    fields.End();
    out.insert(out.end(), fields.done.begin(), fields.done.end());
    return plain;
  }

  // A word on its way, and those that it has become.
  struct Fields {
    LaunchWord now = {};
    bool begun = false;
    std::vector<LaunchWord> done = {};

    void Add(char c) {
      now.text += c;
      begun = true;
    }

    void End() {
      if (begun) {
        done.push_back(now);
      }
      now.text.clear();
      now.unknown.clear();
      begun = false;
    }
  };

  Result<void> SingleQuoted(std::string& out) {
    const std::uint32_t line = line_;
    Step();
    while (at_ < text_.size() && Now() != '\'') {
      out += Now();
      Step();
    }
    if (at_ >= text_.size()) {
      return Bad(line, "a quote without its end");
    }
    Step();
    return {};
  }

  Result<void> DoubleQuoted(Fields& fields) {
    const std::uint32_t line = line_;
    Step();
    // "${A[@]}" of an empty list is no word, "" is one.
    fields.begun = fields.begun || !IsWholeList();
    while (at_ < text_.size() && Now() != '"') {
      if (Now() == '$' || Now() == '`') {
        PX_CHECK_OK(Expansion(fields, true, 0));
      } else if (Now() == '\\' && (Next() == '"' || Next() == '\\' || Next() == '$' ||
                                   Next() == '`' || Next() == '\n')) {
        Step();
        if (Now() != '\n') {
          fields.Add(Now());
        }
        Step();
      } else {
        fields.Add(Now());
        Step();
      }
    }
    if (at_ >= text_.size()) {
      return Bad(line, "a quote without its end");
    }
    Step();
    return {};
  }

  // Whether what is quoted here is all of a list: ${NAME[@]}, $@.
  bool IsWholeList() const {
    const std::string_view rest = std::string_view(text_).substr(at_);
    if (rest.starts_with("$@\"") || rest.starts_with("${@}\"")) {
      return true;
    }
    const std::size_t end = rest.find('"');
    return rest.starts_with("${") && end != std::string_view::npos &&
           rest.substr(0, end).ends_with("[@]}");
  }

  // $NAME, ${NAME}, ${NAME:-WORD}, ${NAME[@]}, $(...), `...`, $1 and the like.
  Result<void> Expansion(Fields& fields, bool quoted, std::uint32_t depth) {
    const std::uint32_t line = line_;
    if (Now() == '`') {
      Step();
      while (at_ < text_.size() && Now() != '`') {
        Step();
      }
      Step();
      return Unknown(fields, "what a command says");
    }
    Step();
    if (Now() == '(') {
      return Substitution(fields, line);
    }
    if (Now() == '{') {
      return Braced(fields, quoted, depth);
    }
    if (Now() == '@' || Now() == '*') {  // a launcher's own words: there are none
      Step();
      return {};
    }
    if (!IsNameStart(Now())) {
      const std::string name(1, Now());
      if (name == "\"" || EndsWord(Now())) {
        fields.Add('$');
        return {};
      }
      Step();
      return Unknown(fields, "$" + name);
    }
    std::string name;
    while (at_ < text_.size() && IsNamePart(Now())) {
      name += Now();
      Step();
    }
    return Put(fields, name, quoted, false);
  }

  Result<void> Substitution(Fields& fields, std::uint32_t line) {
    std::uint32_t open = 0;
    do {
      if (at_ >= text_.size()) {
        return Bad(line, "a command in place of text without its end");
      }
      std::string ignored;
      if (Now() == '\'') {
        PX_CHECK_OK(SingleQuoted(ignored));
        continue;
      }
      open += Now() == '(' ? 1 : 0;
      open -= Now() == ')' ? 1 : 0;
      Step();
    } while (open > 0);
    return Unknown(fields, "what a command says");
  }

  static Result<void> Unknown(Fields& fields, const std::string& what) {
    fields.begun = true;
    if (fields.now.unknown.empty()) {
      fields.now.unknown = what;
    }
    return {};
  }

  Result<void> Braced(Fields& fields, bool quoted, std::uint32_t depth) {
    const std::uint32_t line = line_;
    Step();
    std::string name;
    while (at_ < text_.size() && IsNamePart(Now())) {
      name += Now();
      Step();
    }
    bool list = false;
    if (text_.compare(at_, 3, "[@]") == 0 || text_.compare(at_, 3, "[*]") == 0) {
      list = true;
      at_ += 3;
    }
    const bool is_own = name.empty() && (Now() == '@' || Now() == '*') && Next() == '}';
    if (is_own) {
      at_ += 2;
      return {};
    }
    const auto known = values_.find(name);
    if (Now() == '}') {
      Step();
      return Put(fields, name, quoted, list);
    }
    // :-WORD and :=WORD count if it is empty, too.
    const bool colon = Now() == ':';
    if (colon) {
      Step();
    }
    if (name.empty() || depth >= kExpansionDepth || (Now() != '-' && Now() != '=')) {
      PX_CHECK_OK(SkipBraced(line));
      return Unknown(fields, name.empty() ? "an expansion" : name);
    }
    Step();
    const bool has =
        known != values_.end() && !known->second.empty() &&
        !(colon && known->second.front().text.empty() && known->second.front().unknown.empty());
    Fields otherwise;
    otherwise.now.line = line;
    PX_CHECK_OK(Default(otherwise, line, depth));
    otherwise.End();
    if (has) {
      return Put(fields, name, quoted, list);
    }
    if (!otherwise.done.empty()) {
      PutWord(fields, otherwise.done.front(), quoted);
    } else {
      fields.begun = fields.begun || quoted;
    }
    return {};
  }

  // The word of ${NAME:-WORD}, with its brace.
  Result<void> Default(Fields& out, std::uint32_t line, std::uint32_t depth) {
    while (at_ < text_.size() && Now() != '}') {
      if (Now() == '"') {
        PX_CHECK_OK(DoubleQuoted(out));
      } else if (Now() == '\'') {
        out.begun = true;
        PX_CHECK_OK(SingleQuoted(out.now.text));
      } else if (Now() == '$' || Now() == '`') {
        PX_CHECK_OK(Expansion(out, true, depth + 1));
      } else {
        out.Add(Now());
        Step();
      }
    }
    if (at_ >= text_.size()) {
      return Bad(line, "a brace without its end");
    }
    Step();
    return {};
  }

  Result<void> SkipBraced(std::uint32_t line) {
    while (at_ < text_.size() && Now() != '}') {
      Step();
    }
    if (at_ >= text_.size()) {
      return Bad(line, "a brace without its end");
    }
    Step();
    return {};
  }

  Result<void> Put(Fields& fields, const std::string& name, bool quoted, bool list) {
    const auto found = values_.find(name);
    if (found == values_.end()) {
      return list ? Result<void>() : Unknown(fields, name);
    }
    bool first = true;
    for (const LaunchWord& value : found->second) {
      if (!first) {
        fields.End();
      }
      first = false;
      PutWord(fields, value, quoted || list);
      if (!list) {
        break;
      }
    }
    return {};
  }

  // Without quotes a text becomes as many words as it has.
  void PutWord(Fields& fields, const LaunchWord& value, bool quoted) const {
    if (!value.unknown.empty()) {
      (void)Unknown(fields, value.unknown);
    }
    for (const char c : value.text) {
      if (!quoted && splitting_ && (IsBlank(c) || c == '\n')) {
        fields.End();
      } else {
        fields.Add(c);
      }
    }
    fields.begun = fields.begun || quoted;
  }

  // What stands before a command is set for it alone.
  void TakeBack() {
    for (auto one = replaced_.rbegin(); one != replaced_.rend(); ++one) {
      if (one->second) {
        values_[one->first] = *one->second;
      } else {
        values_.erase(one->first);
      }
    }
  }

  Result<void> Done(LaunchCommand command) {
    const bool declares = !command.words.empty() && Declares(command.words.front().text);
    if (!command.words.empty() && !declares) {
      TakeBack();
    }
    replaced_.clear();
    if (command.words.empty() || declares) {
      return {};
    }
    std::vector<LaunchVariable> environment;
    for (const std::string& name : exported_) {
      const auto found = values_.find(name);
      if (found != values_.end() && !found->second.empty()) {
        environment.push_back({.name = name, .value = found->second.front()});
      }
    }
    for (LaunchVariable& variable : command.environment) {
      std::erase_if(environment,
                    [&](const LaunchVariable& one) { return one.name == variable.name; });
      environment.push_back(std::move(variable));
    }
    command.environment = std::move(environment);
    command.within = Within();
    commands_.push_back(std::move(command));
    if (commands_.size() > kCommandsMax) {
      return Fail(Code::kTooLarge, fmt::format("{}: more than {} commands", file_, kCommandsMax));
    }
    return {};
  }

  const std::string& text_;
  const std::string& file_;
  std::size_t at_ = 0;
  std::uint32_t line_ = 1;
  bool splitting_ = true;
  bool function_next_ = false;     // a function's name was read, its brace comes
  std::vector<std::string> open_;  // what is open, by the word that opened it
  std::vector<std::string> here_;  // ends of here documents that begin at the next line
  Values values_;
  std::vector<std::pair<std::string, std::optional<std::vector<LaunchWord>>>>
      replaced_;  // by this command, with what was there
  std::vector<std::string> exported_;
  std::vector<LaunchCommand> commands_;
};

}  // namespace

Result<std::vector<LaunchCommand>> ReadLaunchScript(
    const std::string& text, const std::string& file,
    const std::map<std::string, std::string>& given) {
  if (text.size() > kScriptSizeMax) {
    return Fail(Code::kTooLarge,
                fmt::format("{}: {} bytes, the limit is {}", file, text.size(), kScriptSizeMax));
  }
  return ScriptReader(text, file, given).Read();
}

}  // namespace pixii::config
