#include "text/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/utf8.h"
#include "text/jinja/unicode.h"

namespace pixii::text::jinja {

namespace {

constexpr std::array<std::string_view, 26> kOperators = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
    "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};

/// All newlines become "\n"; one at the very end is dropped.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      i += i + 1 < source.size() && source[i + 1] == '\n' ? 1 : 0;
    } else {
      out.push_back(source[i]);
    }
  }
  if (!out.empty() && out.back() == '\n') {
    out.pop_back();
  }
  return out;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsHexDigit(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

std::uint32_t Lines(std::string_view text) {
  return static_cast<std::uint32_t>(std::count(text.begin(), text.end(), '\n'));
}

/// digits with single underscores between them, from `at`; returns the end.
std::size_t Digits(std::string_view text, std::size_t at) {
  if (at >= text.size() || !IsDigit(text[at])) {
    return at;
  }
  while (at < text.size() && (IsDigit(text[at]) ||
                              (text[at] == '_' && at + 1 < text.size() && IsDigit(text[at + 1])))) {
    ++at;
  }
  return at;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), text_(source_) {}

  Result<std::vector<Token>> Run() {
    while (at_ < text_.size()) {
      PX_CHECK_OK(Data());
    }
    Emit(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void Emit(TokenType type, std::string text) { tokens_.push_back({type, line_, std::move(text)}); }

  void Advance(std::size_t bytes) {
    line_ += Lines(text_.substr(at_, bytes));
    at_ += bytes;
  }

  bool At(std::string_view what, std::size_t offset = 0) const {
    return text_.substr(std::min(at_ + offset, text_.size())).starts_with(what);
  }

  std::size_t SkipSpace(std::size_t from) const {
    return text_.size() - TrimLeft(text_.substr(from)).size();
  }

  /// End of `{% raw %}` that begins at `from`, if one does.
  std::optional<std::size_t> RawTag(std::size_t from, std::string_view name) const {
    std::size_t at = from + 2;
    if (at < text_.size() && (text_[at] == '-' || text_[at] == '+')) {
      ++at;
    }
    at = SkipSpace(at);
    if (!text_.substr(at).starts_with(name)) {
      return std::nullopt;
    }
    at = SkipSpace(at + name.size());
    if (text_.substr(at).starts_with("-%}")) {
      return SkipSpace(at + 3);
    }
    if (name == "endraw" && text_.substr(at).starts_with("+%}")) {
      return at + 3;
    }
    if (!text_.substr(at).starts_with("%}")) {
      return std::nullopt;
    }
    at += 2;
    if (name == "endraw" && at < text_.size() && text_[at] == '\n') {
      ++at;
    }
    return at;
  }

  /// What of `data` stands before a tag with this sign: "-" strips white space, none strips a blank
  /// line's beginning.
  std::string_view StripBefore(std::string_view data, char sign, bool is_variable) const {
    if (sign == '-') {
      return TrimRight(data);
    }
    if (sign == '+' || is_variable) {
      return data;
    }
    const std::size_t newline = data.rfind('\n');
    const std::size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
    if ((line_begin > 0 || line_starting_) && line_begin < data.size() &&
        TrimLeft(data.substr(line_begin)).empty()) {
      return data.substr(0, line_begin);
    }
    return data;
  }

  char SignAt(std::size_t at) const {
    return at < text_.size() && (text_[at] == '-' || text_[at] == '+') ? text_[at] : ' ';
  }

  /// Text up to the next tag, and the tag.
  Result<void> Data() {
    std::size_t tag = at_;
    while (true) {
      tag = text_.find('{', tag);
      if (tag == std::string_view::npos) {
        Emit(TokenType::kData, std::string(text_.substr(at_)));
        Advance(text_.size() - at_);
        return {};
      }
      const char next = tag + 1 < text_.size() ? text_[tag + 1] : ' ';
      if (next == '{' || next == '%' || next == '#') {
        break;
      }
      ++tag;
    }
    const char sign = SignAt(tag + 2);
    const std::string_view data =
        StripBefore(text_.substr(at_, tag - at_), sign, text_[tag + 1] == '{');
    if (!data.empty()) {
      Emit(TokenType::kData, std::string(data));
    }
    Advance(tag - at_);
    if (text_[at_ + 1] == '#') {
      return Comment(sign);
    }
    if (text_[at_ + 1] == '%') {
      if (const auto raw_end = RawTag(at_, "raw")) {
        return Raw(*raw_end);
      }
    }
    return Tag(text_[at_ + 1] == '{', sign);
  }

  Result<void> Comment(char sign) {
    const std::size_t begin = at_ + (sign == ' ' ? 2 : 3);
    const std::size_t end = text_.find("#}", begin);
    if (end == std::string_view::npos) {
      return SyntaxError(line_, "Missing end of comment tag");
    }
    std::size_t after = end + 2;
    const char before = end > begin ? text_[end - 1] : ' ';
    if (before == '-') {
      after = SkipSpace(after);
    } else if (before != '+' && after < text_.size() && text_[after] == '\n') {
      ++after;
    }
    Leave(after);
    return {};
  }

  Result<void> Raw(std::size_t begin) {
    Leave(begin);
    for (std::size_t tag = text_.find("{%", at_); tag != std::string_view::npos;
         tag = text_.find("{%", tag + 1)) {
      if (const auto end = RawTag(tag, "endraw")) {
        const std::string_view data =
            StripBefore(text_.substr(at_, tag - at_), SignAt(tag + 2), false);
        if (!data.empty()) {
          Emit(TokenType::kData, std::string(data));
        }
        Leave(*end);
        return {};
      }
    }
    return SyntaxError(line_, "Missing end of raw directive");
  }

  void Leave(std::size_t end) {
    Advance(end - at_);
    line_starting_ = at_ > 0 && text_[at_ - 1] == '\n';
  }

  /// {{ ... }} or {% ... %}.
  Result<void> Tag(bool variable, char sign) {
    Emit(variable ? TokenType::kVariableBegin : TokenType::kBlockBegin, variable ? "{{" : "{%");
    Advance(sign == ' ' ? 2 : 3);
    const std::string_view close = variable ? "}}" : "%}";
    std::string open;  // brackets not yet closed
    while (at_ < text_.size()) {
      if (open.empty()) {
        const char end_sign = At("-") || (!variable && At("+")) ? text_[at_] : ' ';
        const std::size_t skip = end_sign == ' ' ? 0 : 1;
        if (At(close, skip)) {
          std::size_t end = at_ + skip + 2;
          if (end_sign == '-') {
            end = SkipSpace(end);
          } else if (!variable && end_sign == ' ' && end < text_.size() && text_[end] == '\n') {
            ++end;
          }
          Emit(variable ? TokenType::kVariableEnd : TokenType::kBlockEnd, std::string(close));
          Leave(end);
          return {};
        }
      }
      PX_CHECK_OK(Inside(open));
    }
    return SyntaxError(line_, fmt::format("unexpected end of template, expected '{}'", close));
  }

  /// One token inside a tag, or white space.
  Result<void> Inside(std::string& open) {
    const std::size_t space_end = SkipSpace(at_);
    if (space_end > at_) {
      Advance(space_end - at_);
      return {};
    }
    const char c = text_[at_];
    if (IsDigit(c)) {
      return Number();
    }
    if (c == '\'' || c == '"') {
      return String(c);
    }
    if (const std::size_t end = NameEnd(at_); end > at_) {
      Emit(TokenType::kName, std::string(text_.substr(at_, end - at_)));
      Advance(end - at_);
      return {};
    }
    for (const std::string_view op : kOperators) {
      if (At(op)) {
        PX_CHECK_OK(Balance(op, open));
        Emit(TokenType::kOperator, std::string(op));
        Advance(op.size());
        return {};
      }
    }
    const std::size_t length = std::max<std::size_t>(1, Utf8SequenceLength(text_.substr(at_)));
    return SyntaxError(line_, fmt::format("unexpected char '{}'", text_.substr(at_, length)));
  }

  Result<void> Balance(std::string_view op, std::string& open) const {
    if (op == "{" || op == "(" || op == "[") {
      open.push_back(op == "{" ? '}' : op == "(" ? ')' : ']');
    } else if (op == "}" || op == ")" || op == "]") {
      if (open.empty()) {
        return SyntaxError(line_, fmt::format("unexpected '{}'", op));
      }
      if (open.back() != op[0]) {
        return SyntaxError(line_, fmt::format("unexpected '{}', expected '{}'", op, open.back()));
      }
      open.pop_back();
    }
    return {};
  }

  std::size_t NameEnd(std::size_t from) const {
    std::size_t at = from;
    while (at < text_.size()) {
      const std::size_t length = std::max<std::size_t>(1, Utf8SequenceLength(text_.substr(at)));
      if (!IsWord(length == 1 ? static_cast<unsigned char>(text_[at])
                              : DecodeUtf8(text_.substr(at)))) {
        break;
      }
      at += length;
    }
    return at;
  }

  Result<void> Number() {
    const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';
    const std::size_t whole_end = Digits(text_, at_);
    std::size_t end = whole_end;
    if (!after_dot) {
      if (end + 1 < text_.size() && text_[end] == '.' && IsDigit(text_[end + 1])) {
        end = Digits(text_, end + 1);
      }
      if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
        const std::size_t sign =
            end + 1 < text_.size() && (text_[end + 1] == '+' || text_[end + 1] == '-') ? 1 : 0;
        const std::size_t exponent_end = Digits(text_, end + 1 + sign);
        end = exponent_end > end + 1 + sign ? exponent_end : end;
      }
    }
    const bool is_float = end > whole_end;
    if (!is_float) {
      end = IntegerEnd();
    }
    std::string digits(text_.substr(at_, end - at_));
    std::erase(digits, '_');
    Emit(is_float ? TokenType::kFloat : TokenType::kInteger, std::move(digits));
    Advance(end - at_);
    return {};
  }

  /// 0x1F, 0b1, 0o7, 42 or 000; "007" ends after its zeros, as in Jinja.
  std::size_t IntegerEnd() const {
    const auto run = [&](std::size_t at, auto&& accepts) {
      const std::size_t from = at;
      while (at < text_.size() &&
             (accepts(text_[at]) ||
              (text_[at] == '_' && at + 1 < text_.size() && accepts(text_[at + 1])))) {
        ++at;
      }
      return at > from ? at : 0;
    };
    if (text_[at_] != '0') {
      return Digits(text_, at_);
    }
    std::size_t end = 0;
    if (At("0x") || At("0X")) {
      end = run(at_ + 2, IsHexDigit);
    } else if (At("0b") || At("0B")) {
      end = run(at_ + 2, [](char c) { return c == '0' || c == '1'; });
    } else if (At("0o") || At("0O")) {
      end = run(at_ + 2, [](char c) { return c >= '0' && c <= '7'; });
    }
    return end != 0 ? end : run(at_, [](char c) { return c == '0'; });
  }

  Result<void> String(char quote) {
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) {
      end += text_[end] == '\\' ? 2 : 1;
    }
    if (end >= text_.size()) {
      return SyntaxError(line_, fmt::format("unexpected char '{}'", quote));
    }
    PX_TRY(std::string value, Unescape(text_.substr(at_ + 1, end - at_ - 1)));
    Emit(TokenType::kString, std::move(value));
    Advance(end + 1 - at_);
    return {};
  }

  Result<std::string> Unescape(std::string_view text) const {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\' || i + 1 >= text.size()) {
        out.push_back(text[i]);
        continue;
      }
      const char c = text[++i];
      constexpr std::string_view kFrom = "\\'\"abfnrtv";
      constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
      if (const std::size_t known = kFrom.find(c); known != std::string_view::npos) {
        out.push_back(kTo[known]);
      } else if (c == '\n') {
        continue;
      } else if (c >= '0' && c <= '7') {
        char32_t value = 0;
        std::size_t length = 0;
        while (length < 3 && i + length < text.size() && text[i + length] >= '0' &&
               text[i + length] <= '7') {
          value = value * 8 + static_cast<char32_t>(text[i + length++] - '0');
        }
        AppendUtf8(out, value);
        i += length - 1;
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const std::size_t length = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        char32_t value = 0;
        for (std::size_t k = 1; k <= length; ++k) {
          if (i + k >= text.size() || !IsHexDigit(text[i + k])) {
            return SyntaxError(line_, fmt::format("truncated \\{} escape in a string", c));
          }
          const char digit = text[i + k];
          value = value * 16 +
                  static_cast<char32_t>(IsDigit(digit) ? digit - '0' : (digit | 32) - 'a' + 10);
        }
        if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
          return SyntaxError(line_, fmt::format("\\{} escape of U+{:04X}, which is no character", c,
                                                static_cast<std::uint32_t>(value)));
        }
        AppendUtf8(out, value);
        i += length;
      } else if (c == 'N') {
        return Fail(Code::kUnsupported,
                    fmt::format("chat template line {}: \\N escapes are not supported", line_),
                    "chat_template");
      } else {
        out.push_back('\\');
        out.push_back(c);
      }
    }
    return out;
  }

  std::string source_;
  std::string_view text_;
  std::size_t at_ = 0;
  std::uint32_t line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

tl::unexpected<Error> SyntaxError(std::uint32_t line, std::string_view message) {
  return Fail(Code::kInvalidArgument,
              fmt::format("chat template line {}: TemplateSyntaxError: {}", line, message),
              "chat_template");
}

Result<std::vector<Token>> Tokenize(std::string_view source) {
  return Lexer(NormalizeNewlines(source)).Run();
}

}  // namespace pixii::text::jinja
