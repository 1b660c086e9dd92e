#include "text/parsers/literal_parser.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/utf8.h"
#include "text/parsers/json_scanner.h"
#include "text/parsers/marker_scanner.h"

namespace pixii::text::parsers {

namespace {

constexpr int kLiteralDepthMax = 128;  // containers inside one another

bool IsDigit(char byte) { return byte >= '0' && byte <= '9'; }

bool IsNameByte(char byte) {
  return IsDigit(byte) || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         byte == '_' || static_cast<unsigned char>(byte) >= 0x80;
}

int DigitValue(char byte) {
  return IsDigit(byte)                  ? byte - '0'
         : (byte >= 'a' && byte <= 'f') ? byte - 'a' + 10
         : (byte >= 'A' && byte <= 'F') ? byte - 'A' + 10
                                        : 99;
}

// Digits of base 2, 8 or 16 as decimal ones, however many.
std::string Decimal(std::string_view digits, int base) {
  std::vector<std::uint8_t> decimal = {0};  // least first
  for (char digit : digits) {
    int carry = DigitValue(digit);
    for (std::uint8_t& place : decimal) {
      int value = place * base + carry;
      place = static_cast<std::uint8_t>(value % 10);
      carry = value / 10;
    }
    for (; carry > 0; carry /= 10) {
      decimal.push_back(static_cast<std::uint8_t>(carry % 10));
    }
  }
  std::string out;
  for (auto it = decimal.rbegin(); it != decimal.rend(); ++it) {
    out += static_cast<char>('0' + *it);
  }
  return out;
}

constexpr std::size_t kBasedDigitsMax = 1'024;  // digits of a number that is not decimal

class LiteralParser {
 public:
  explicit LiteralParser(std::string_view text, std::string_view quote = {})
      : text_(text), quote_(quote) {}

  void Space() {
    while (at_ < text_.size() && IsSpace(text_[at_])) {
      ++at_;
    }
  }

  bool AtEnd() {
    Space();
    return at_ == text_.size();
  }

  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool Eat(std::string_view what) {
    Space();
    if (!text_.substr(at_).starts_with(what)) {
      return false;
    }
    at_ += what.size();
    return true;
  }

  // A name with dots, empty if there is none.
  std::string Name() {
    Space();
    std::size_t begin = at_;
    while (at_ < text_.size() &&
           (IsNameByte(text_[at_]) || text_[at_] == '.' || (text_[at_] == '-' && at_ > begin))) {
      ++at_;
    }
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::size_t at() const { return at_; }

  void Return(std::size_t at) { at_ = at; }

  bool Value(std::string& out, int depth) {
    Space();
    if (depth > kLiteralDepthMax || at_ >= text_.size()) {
      return false;
    }
    if (!quote_.empty() && text_.substr(at_).starts_with(quote_)) {
      std::string text;
      if (!GemmaString(text)) {
        return false;
      }
      out += Quoted(text);
      return true;
    }
    char first = text_[at_];
    if (first == '[' || first == '(') {
      return List(out, depth);
    }
    if (first == '{') {
      return Dict(out, depth);
    }
    if (StartsString()) {
      std::string text;
      if (!Strings(text)) {
        return false;
      }
      out += Quoted(text);
      return true;
    }
    if (IsDigit(first) || first == '-' || first == '+' || first == '.') {
      std::size_t begin = at_;
      if (Number(out)) {
        return true;
      }
      at_ = begin;
    }
    return quote_.empty() ? Constant(out) : Bare(out);
  }

 private:
  bool Constant(std::string& out) {
    std::string name = Name();
    constexpr std::pair<std::string_view, std::string_view> kNames[] = {
        {"True", "true"}, {"False", "false"}, {"None", "null"},
        {"true", "true"}, {"false", "false"}, {"null", "null"}};
    for (const auto& [python, json] : kNames) {
      if (name == python) {
        out += json;
        return true;
      }
    }
    return false;
  }

  // Gemma: text without quotes, up to what ends a value.
  bool Bare(std::string& out) {
    std::size_t end = std::min(text_.find_first_of(",]}", at_), text_.size());
    std::string_view bare = Trimmed(text_.substr(at_, end - at_));
    if (bare.empty()) {
      return false;
    }
    at_ = end;
    bool constant = bare == "true" || bare == "false" || bare == "null";
    out += constant ? std::string(bare) : bare == "None" ? "null" : Quoted(bare);
    return true;
  }

  bool GemmaString(std::string& out) {
    at_ += quote_.size();
    std::size_t end = text_.find(quote_, at_);
    if (end == std::string_view::npos) {
      return false;
    }
    out = text_.substr(at_, end - at_);
    at_ = end + quote_.size();
    return true;
  }

  bool StartsString() const {
    std::size_t at = at_;
    while (at < text_.size() && at < at_ + 2 && std::strchr("rRbBuUfF", text_[at]) != nullptr &&
           text_[at] != '\0') {
      ++at;
    }
    return at < text_.size() && (text_[at] == '"' || text_[at] == '\'');
  }

  // Neighbouring strings are one, as in Python.
  bool Strings(std::string& out) {
    while (at_ < text_.size() && StartsString()) {
      bool raw = false;
      for (; text_[at_] != '"' && text_[at_] != '\''; ++at_) {
        raw = raw || text_[at_] == 'r' || text_[at_] == 'R';
      }
      std::string_view quote = text_.substr(at_, 1);
      std::string_view three = text_.substr(at_, 3);
      if (three.size() == 3 && three[1] == three[0] && three[2] == three[0]) {
        quote = three;
      }
      at_ += quote.size();
      while (!text_.substr(at_).starts_with(quote)) {
        if (at_ >= text_.size()) {
          return false;
        }
        if (text_[at_] == '\\' && raw && at_ + 1 < text_.size()) {
          out.append(text_.substr(at_, 2));
          at_ += 2;
        } else if (text_[at_] == '\\') {
          Escape(out);
        } else {
          out += text_[at_++];
        }
      }
      at_ += quote.size();
      Space();
    }
    return true;
  }

  std::optional<std::uint32_t> Hex(std::size_t from, std::size_t count) const {
    if (from + count > text_.size()) {
      return std::nullopt;
    }
    std::uint32_t code = 0;
    for (char digit : text_.substr(from, count)) {
      if (DigitValue(digit) > 15) {
        return std::nullopt;
      }
      code = code * 16 + static_cast<std::uint32_t>(DigitValue(digit));
    }
    return code;
  }

  // An escape that Python does not know stays as it is written.
  void Escape(std::string& out) {
    char name = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
    constexpr std::string_view kNames = "\\'\"abfnrtv/";
    constexpr std::string_view kMeant = "\\'\"\a\b\f\n\r\t\v/";
    if (name == '\n') {
      at_ += 2;
      return;
    }
    if (std::size_t known = kNames.find(name); name != '\0' && known != std::string_view::npos) {
      out += kMeant[known];
      at_ += 2;
      return;
    }
    std::size_t digits = name == 'x' ? 2 : name == 'u' ? 4 : name == 'U' ? 8 : 0;
    std::optional<std::uint32_t> code = digits == 0 ? std::nullopt : Hex(at_ + 2, digits);
    if (!code || *code > 0x10FFFFU) {
      out += text_[at_++];
      return;
    }
    at_ += 2 + digits;
    // JSON's way to write a character past 16 bits, which models use here too.
    if ((*code & 0xFFFFFC00U) == 0xD800U && text_.substr(at_).starts_with("\\u")) {
      std::optional<std::uint32_t> low = Hex(at_ + 2, 4);
      if (low && (*low & 0xFFFFFC00U) == 0xDC00U) {
        code = 0x10000U + ((*code & 0x3FFU) << 10U) + (*low & 0x3FFU);
        at_ += 6;
      }
    }
    AppendUtf8(out, static_cast<char32_t>((*code & 0xFFFFF800U) == 0xD800U ? 0xFFFDU : *code));
  }

  bool Number(std::string& out) {
    std::string digits;
    if (Peek() == '-' || Peek() == '+') {
      digits += Peek() == '-' ? "-" : "";
      ++at_;
    }
    std::size_t begin = at_;
    while (at_ < text_.size() && (IsNameByte(text_[at_]) || text_[at_] == '.' ||
                                  ((text_[at_] == '-' || text_[at_] == '+') &&
                                   (text_[at_ - 1] == 'e' || text_[at_ - 1] == 'E')))) {
      ++at_;
    }
    std::string body(text_.substr(begin, at_ - begin));
    std::erase(body, '_');
    int base = body.size() > 2 && body[0] == '0' ? (body[1] == 'x' || body[1] == 'X')   ? 16
                                                   : (body[1] == 'o' || body[1] == 'O') ? 8
                                                   : (body[1] == 'b' || body[1] == 'B') ? 2
                                                                                        : 0
                                                 : 0;
    if (base != 0) {
      std::string_view based = std::string_view(body).substr(2);
      if (based.size() > kBasedDigitsMax ||
          !std::ranges::all_of(based, [&](char d) { return DigitValue(d) < base; })) {
        return false;
      }
      out += digits + Decimal(based, base);
      return true;
    }
    if (body.starts_with('.')) {
      body.insert(0, "0");
    }
    std::size_t point = body.find('.');
    if (point != std::string::npos && (point + 1 == body.size() || !IsDigit(body[point + 1]))) {
      body.insert(point + 1, "0");
    }
    digits += body;
    if (!IsJson(digits) || body.empty() || !IsDigit(body[0])) {
      return false;
    }
    out += digits;
    return true;
  }

  bool List(std::string& out, int depth) {
    char close = text_[at_++] == '[' ? ']' : ')';
    out += '[';
    bool first = true;
    while (true) {
      Space();
      if (Peek() == close) {
        ++at_;
        out += ']';
        return true;
      }
      out += first ? "" : ", ";
      first = false;
      if (!Value(out, depth + 1)) {
        return false;
      }
      Space();
      if (Peek() == ',') {
        ++at_;
      } else if (Peek() != close) {
        return false;
      }
    }
  }

  bool Dict(std::string& out, int depth) {
    ++at_;
    ArgumentsBuilder members;
    while (true) {
      Space();
      if (Peek() == '}') {
        ++at_;
        out += members.Take();
        return true;
      }
      std::string key;
      std::string value;
      if (!Key(key, depth) || !Eat(":") || !Value(value, depth + 1)) {
        return false;
      }
      members.Set(std::move(key), std::move(value));
      Space();
      if (Peek() == ',') {
        ++at_;
      } else if (Peek() != '}') {
        return false;
      }
    }
  }

  bool Key(std::string& key, int depth) {
    if (!quote_.empty()) {
      if (text_.substr(at_).starts_with(quote_)) {
        return GemmaString(key);
      }
      if (!StartsString()) {
        std::size_t end = text_.find_first_of(":,{}", at_);
        if (end == std::string_view::npos || text_[end] != ':') {
          return false;
        }
        key = Trimmed(text_.substr(at_, end - at_));
        at_ = end;
        return !key.empty();
      }
    }
    if (StartsString()) {
      return Strings(key);
    }
    return Value(key, depth + 1);  // a number as a key is its own text
  }

  std::string_view text_;
  std::string_view quote_;
  std::size_t at_ = 0;
};

// name(arguments); false if it cannot be read.
bool OneCall(LiteralParser& in, const ToolSet& tools, ParsedCall& call) {
  call.name = in.Name();
  if (call.name.empty() || !in.Eat("(")) {
    return false;
  }
  ArgumentsBuilder arguments;
  for (std::size_t position = 0; !in.Eat(")"); ++position) {
    std::size_t before = in.at();
    std::string name = in.Name();
    if (name.empty() || !in.Eat("=")) {
      in.Return(before);
      name = tools.ParameterAt(call.name, position);
    }
    std::string value;
    if (name.empty() || !in.Value(value, 0)) {
      return false;
    }
    arguments.Set(std::move(name), std::move(value));
    if (!in.Eat(",")) {
      if (!in.Eat(")")) {
        return false;
      }
      break;
    }
  }
  call.arguments = arguments.Take();
  return true;
}

}  // namespace

std::optional<std::string> PythonLiteral(std::string_view text) {
  LiteralParser in(text);
  std::string out;
  if (!in.Value(out, 0) || !in.AtEnd()) {
    return std::nullopt;
  }
  return out;
}

std::vector<ParsedCall> PythonCalls(std::string_view text, const ToolSet& tools, bool& complete) {
  LiteralParser in(text);
  bool list = in.Eat("[");
  std::vector<ParsedCall> calls;
  complete = false;
  while (!(list && in.Eat("]"))) {
    ParsedCall call;
    if (!OneCall(in, tools, call)) {
      return calls;
    }
    calls.push_back(std::move(call));
    if (!in.Eat(",") && !in.Eat(";")) {
      if (list && !in.Eat("]")) {
        return calls;
      }
      if (list || in.AtEnd()) {
        break;
      }
    }
  }
  complete = in.AtEnd();
  return calls;
}

std::optional<ParsedCall> GemmaCall(std::string_view text, std::string_view quote) {
  text = Trimmed(text);
  if (text.starts_with("call:")) {
    text.remove_prefix(5);
  }
  std::size_t open = text.find('{');
  ParsedCall call;
  call.name = Trimmed(text.substr(0, std::min(open, text.size())));
  if (open == std::string_view::npos || call.name.empty()) {
    return std::nullopt;
  }
  LiteralParser in(text.substr(open), quote);
  if (!in.Value(call.arguments, 0) || !in.AtEnd()) {
    return std::nullopt;
  }
  return call;
}

}  // namespace pixii::text::parsers
