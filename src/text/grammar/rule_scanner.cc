#include "text/grammar/rule_scanner.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"

namespace pixii::text::grammar {

namespace {

bool IsNameByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

}  // namespace

void RuleScanner::Skip(bool lines) {
  while (!AtEnd()) {
    char c = Peek();
    if (text_.substr(at_).starts_with(comment_)) {
      while (!AtEnd() && Peek() != '\n') {
        ++at_;
      }
    } else if (c == ' ' || c == '\t' || c == '\r' || (lines && c == '\n')) {
      ++at_;
    } else {
      return;
    }
  }
}

bool RuleScanner::Take(std::string_view word) {
  if (!text_.substr(std::min(at_, text_.size())).starts_with(word)) {
    return false;
  }
  at_ += word.size();
  return true;
}

std::string_view RuleScanner::Name() {
  std::size_t begin = at_;
  while (!AtEnd() && IsNameByte(Peek())) {
    ++at_;
  }
  return text_.substr(begin, at_ - begin);
}

std::optional<std::uint32_t> RuleScanner::Number() {
  std::uint64_t value = 0;
  std::size_t begin = at_;
  while (Peek() >= '0' && Peek() <= '9') {
    value = std::min<std::uint64_t>(value * 10 + static_cast<std::uint64_t>(Peek() - '0'),
                                    kUnbounded - 1);
    ++at_;
  }
  return at_ == begin ? std::nullopt : std::optional(static_cast<std::uint32_t>(value));
}

Result<std::u32string> RuleScanner::Quoted() {
  char quote = Peek();
  ++at_;
  std::u32string out;
  while (true) {
    if (AtEnd() || Peek() == '\n') {
      return Bad("a literal that does not end");
    }
    if (Take(std::string_view(&quote, 1))) {
      return out;
    }
    if (!Take("\\")) {
      std::size_t size = Utf8SequenceLength(text_.substr(at_));
      if (size == 0) {
        return Bad("ill-formed UTF-8");
      }
      out += DecodeUtf8(text_.substr(at_));
      at_ += size;
      continue;
    }
    char c = Peek();
    ++at_;
    std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0) {
      char32_t value = 0;
      for (std::size_t i = 0; i < digits; ++i, ++at_) {
        char d = Peek();
        bool hex = (d >= '0' && d <= '9') || ((d | 0x20) >= 'a' && (d | 0x20) <= 'f');
        if (!hex) {
          return Bad("an escape without its hexadecimal digits");
        }
        value = value * 16 + static_cast<char32_t>(d <= '9' ? d - '0' : (d | 0x20) - 'a' + 10);
      }
      if (value > kCodePointMax || (value >= 0xD800 && value < 0xE000)) {
        return Bad("an escape of no character");
      }
      out += value;
      continue;
    }
    constexpr std::string_view kNames = "nrtfv0";
    constexpr std::u32string_view kValues = {U"\n\r\t\f\v\0", 6};
    std::size_t named = kNames.find(c);
    if (named != std::string_view::npos) {
      out += kValues[named];
    } else if (c == '\\' || c == '"' || c == '\'' || c == '/' || c == '[' || c == ']') {
      out += static_cast<char32_t>(c);
    } else {
      return Bad("an unknown escape");
    }
  }
}

Result<std::string> RuleScanner::Delimited(char close) {
  ++at_;
  std::string out;
  while (!AtEnd()) {
    char c = Peek();
    ++at_;
    if (c == close) {
      return out;
    }
    out += c;
    if (c == '\\' && !AtEnd()) {
      out += Peek();
      ++at_;
    }
  }
  return Bad("a class or pattern that does not end");
}

std::size_t RuleScanner::Line() const {
  auto end = text_.begin() + static_cast<std::ptrdiff_t>(std::min(at_, text_.size()));
  return static_cast<std::size_t>(std::count(text_.begin(), end, '\n')) + 1;
}

tl::unexpected<Error> RuleScanner::Bad(std::string_view what) const {
  return Fail(Code::kInvalidArgument, fmt::format("grammar, line {}: {}", Line(), what));
}

tl::unexpected<Error> RuleScanner::Refuse(std::string_view what) const {
  return Fail(Code::kUnsupported, fmt::format("grammar, line {}: {}", Line(), what));
}

RegexId WordOf(RegexStore& regexes, std::u32string_view word, bool fold) {
  RegexId out = RegexStore::kEpsilon;
  for (auto c = word.rbegin(); c != word.rend(); ++c) {
    CharSet set = {{*c, *c}};
    bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
    if (fold && letter) {
      set.push_back({*c ^ 0x20, *c ^ 0x20});
    }
    out = regexes.Concat(regexes.Set(std::move(set)), out);
  }
  return out;
}

}  // namespace pixii::text::grammar
