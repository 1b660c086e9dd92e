#include "text/tokenizer/regex_dialect.h"

#include <fmt/format.h>

#include <vector>

namespace pixii::text {

namespace {

// What \s, \w and \h stand for, as content of a bracket class; empty for other letters.
std::string_view ClassContent(char escape) {
  switch (escape) {
    case 's':
      return "\\p{White_Space}";
    case 'w':
      return "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
    case 'h':
      return "0-9a-fA-F";
    default:
      return {};
  }
}

class Translator final {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  Result<std::string> Run() {
    while (at_ < pattern_.size()) {
      char c = pattern_[at_];
      if (c == '\\') {
        Escape();
      } else if (depth_ == 0 && c == '[') {
        PX_TRY(bool intersection, Intersection());
        if (!intersection) {
          OpenClass();
        }
      } else if (depth_ > 0) {
        PX_CHECK_OK(InClass(c));
      } else {
        Copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  char At(std::size_t ahead) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }

  void Copy(std::size_t bytes) {
    out_ += pattern_.substr(at_, bytes);
    at_ += bytes;
  }

  void Escape() {
    char letter = At(1);
    bool negated = letter == 'S' || letter == 'W' || letter == 'H';
    std::string_view content = ClassContent(negated ? static_cast<char>(letter + 32) : letter);
    if (letter == 'S') {
      out_ += "\\P{White_Space}";
    } else if (content.empty() || (negated && depth_ > 0)) {
      Copy(2);
      return;
    } else if (depth_ > 0) {
      out_ += content;
    } else {
      out_ += fmt::format("[{}{}]", negated ? "^" : "", content);
    }
    at_ += 2;
  }

  // "[A&&B&&[^C]]" becomes "(?:(?=[B])(?![C])[A])". False if no such class begins here.
  Result<bool> Intersection() {
    std::vector<std::string_view> operands;
    std::size_t begin = at_ + 1;
    std::size_t end = begin;
    for (std::size_t depth = 0; end < pattern_.size(); ++end) {
      char c = pattern_[end];
      if (c == '\\') {
        ++end;
      } else if (c == '[') {
        ++depth;
      } else if (c == ']' && depth > 0) {
        --depth;
      } else if (c == ']' && end > begin) {
        break;
      } else if (depth == 0 && pattern_.substr(end).starts_with("&&")) {
        operands.push_back(pattern_.substr(begin, end - begin));
        begin = end + 2;
        ++end;
      }
    }
    if (operands.empty() || end >= pattern_.size()) {
      return false;
    }
    operands.push_back(pattern_.substr(begin, end - begin));
    if (operands[0].starts_with('^')) {
      return Fail(Code::kUnsupported,
                  fmt::format("negated class intersection at byte {} of a pattern", at_));
    }
    out_ += "(?:";
    for (std::size_t i = 1; i <= operands.size(); ++i) {
      std::string_view operand = operands[i % operands.size()];  // the first comes last
      bool negated = operand.starts_with("[^") && operand.find(']') + 1 == operand.size();
      std::string set =
          negated ? fmt::format("[{}", operand.substr(2)) : fmt::format("[{}]", operand);
      PX_TRY(std::string translated, Translator(set).Run());
      out_ += i == operands.size() ? translated
                                   : fmt::format("(?{}{})", negated ? '!' : '=', translated);
    }
    out_ += ')';
    at_ = end + 1;
    return true;
  }

  void OpenClass() {
    depth_ = 1;
    Copy(At(1) == '^' ? 2 : 1);
    if (At(0) == ']') {  // right at the start it stands for itself
      out_ += "\\]";
      ++at_;
    }
  }

  Result<void> InClass(char c) {
    if (c == '&' && At(1) == '&') {
      return Fail(Code::kUnsupported,
                  fmt::format("class intersection (&&) at byte {} of a pattern", at_));
    }
    if (c == '[' && At(1) == ':') {
      std::size_t end = pattern_.find(":]", at_);
      Copy(end == std::string_view::npos ? 1 : end + 2 - at_);
    } else if (c == '[' && At(1) == '^') {
      return Fail(Code::kUnsupported,
                  fmt::format("negated class in a class at byte {} of a pattern", at_));
    } else if (c == '[') {
      ++depth_;  // its content joins that of the outer class
      ++at_;
      LoneHyphen();
    } else if (c == ']' && --depth_ > 0) {
      ++at_;
      LoneHyphen();
    } else {
      bool closes_inner = depth_ > 1 && At(1) == ']';
      if (c == '-' && closes_inner) {
        LoneHyphen();
      } else {
        Copy(1);
      }
    }
    return {};
  }

  // A hyphen at the edge of an inner class stands for itself, which its new neighbours must not
  // change.
  void LoneHyphen() {
    if (At(0) == '-') {
      out_ += "\\-";
      ++at_;
    }
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  std::size_t depth_ = 0;  // of brackets
  std::string out_;
};

}  // namespace

Result<std::string> ToPcre2(std::string_view pattern) { return Translator(pattern).Run(); }

}  // namespace pixii::text
