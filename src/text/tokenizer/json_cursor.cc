#include "text/tokenizer/json_cursor.h"

#include <fmt/format.h>

#include <charconv>

#include "base/utf8.h"

namespace pixii::text {

namespace {

constexpr std::size_t kDepthMax = 128;  // nested brackets in a value that is stepped over

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// Four hexadecimal digits, -1 if they are not.
int Hex4(std::string_view text) {
  unsigned value = 0;
  if (text.size() < 4) {
    return -1;
  }
  auto [end, error] = std::from_chars(text.data(), text.data() + 4, value, 16);
  return error == std::errc{} && end == text.data() + 4 ? static_cast<int>(value) : -1;
}

}  // namespace

bool JsonCursor::Fail(std::string_view reason) {
  if (reason_.empty()) {
    reason_ = reason;
    failed_at_ = at_;
  }
  at_ = text_.size();
  return false;
}

std::string JsonCursor::error() const {
  return fmt::format("{} at byte {}", reason_, base_ + failed_at_);
}

char JsonCursor::Peek() {
  while (at_ < text_.size() && IsSpace(text_[at_])) {
    ++at_;
  }
  return at_ < text_.size() ? text_[at_] : '\0';
}

bool JsonCursor::Open(char bracket) {
  if (Peek() != bracket) {
    return Fail(bracket == '{' ? "an object is expected" : "a list is expected");
  }
  ++at_;
  fresh_ = true;
  return true;
}

bool JsonCursor::Next(char close) {
  if (failed()) {
    return false;
  }
  char c = Peek();
  if (c == close) {
    ++at_;
    fresh_ = false;
    return false;
  }
  if (!fresh_) {
    if (c != ',') {
      return Fail("a comma or a closing bracket is expected");
    }
    ++at_;
  }
  fresh_ = false;
  return true;
}

bool JsonCursor::NextItem() { return Next(']'); }

bool JsonCursor::NextKey(std::string_view& key) {
  if (!Next('}')) {
    return false;
  }
  if (!String(key)) {
    return false;
  }
  if (Peek() != ':') {
    return Fail("a colon is expected");
  }
  ++at_;
  return true;
}

bool JsonCursor::String(std::string_view& value) {
  if (failed()) {
    return false;
  }
  if (Peek() != '"') {
    return Fail("a string is expected");
  }
  ++at_;
  return StringBody(value);
}

bool JsonCursor::StringBody(std::string_view& value) {
  std::size_t begin = at_;
  bool ascii = true;
  bool escaped = false;
  std::size_t plain = at_;  // start of the bytes not yet copied
  unescaped_.clear();
  while (at_ < text_.size()) {
    auto c = static_cast<unsigned char>(text_[at_]);
    if (c == '"') {
      value = text_.substr(begin, at_ - begin);
      if (escaped) {
        unescaped_.append(text_, plain, at_ - plain);
        value = unescaped_;
      }
      if (!ascii && !IsValidUtf8(value)) {
        return Fail("a string that is not valid UTF-8");
      }
      ++at_;
      return true;
    }
    if (c == '\\') {
      unescaped_.append(text_, plain, at_ - plain);
      escaped = true;
      if (!Escape()) {
        return false;
      }
      plain = at_;
      continue;
    }
    if (c < 0x20) {
      return Fail("a control character in a string");
    }
    ascii = ascii && c < 0x80;
    ++at_;
  }
  return Fail("a string without end");
}

bool JsonCursor::Escape() {
  char kind = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
  static constexpr std::string_view kFrom = "\"\\/bfnrt";
  static constexpr std::string_view kTo = "\"\\/\b\f\n\r\t";
  if (std::size_t which = kFrom.find(kind); kind != '\0' && which != std::string_view::npos) {
    unescaped_ += kTo[which];
    at_ += 2;
    return true;
  }
  if (kind != 'u') {
    return Fail("an unknown escape");
  }
  int unit = Hex4(text_.substr(at_ + 2));
  if (unit < 0) {
    return Fail("\\u without four hexadecimal digits");
  }
  at_ += 6;
  auto code_point = static_cast<char32_t>(unit);
  if (unit >= 0xD800 && unit < 0xE000) {
    int low = text_.substr(at_).starts_with("\\u") ? Hex4(text_.substr(at_ + 2)) : -1;
    if (unit >= 0xDC00 || low < 0xDC00 || low > 0xDFFF) {
      return Fail("a lone surrogate");
    }
    code_point = 0x10000 + ((code_point - 0xD800) << 10) + (static_cast<char32_t>(low) - 0xDC00);
    at_ += 6;
  }
  AppendUtf8(unescaped_, code_point);
  return true;
}

bool JsonCursor::Integer(std::int64_t& value) {
  if (failed()) {
    return false;
  }
  Peek();
  auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
  auto next = static_cast<std::size_t>(end - text_.data());
  bool fraction =
      next < text_.size() && (text_[next] == '.' || text_[next] == 'e' || text_[next] == 'E');
  if (error != std::errc{} || fraction) {
    return Fail("an integer is expected");
  }
  at_ = next;
  return true;
}

bool JsonCursor::Double(double& value) {
  if (failed()) {
    return false;
  }
  char c = Peek();
  if (c != '-' && (c < '0' || c > '9')) {
    return Fail("a number is expected");
  }
  auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
  if (error != std::errc{}) {
    return Fail("a number is expected");
  }
  at_ = static_cast<std::size_t>(end - text_.data());
  return true;
}

bool JsonCursor::Raw(std::string_view& value) {
  if (failed()) {
    return false;
  }
  char first = Peek();
  std::size_t begin = at_;
  if (first == '"') {
    std::string_view ignored;
    if (!String(ignored)) {
      return false;
    }
  } else if (first == '{' || first == '[') {
    std::size_t depth = 0;
    do {
      char c = at_ < text_.size() ? text_[at_] : '\0';
      if (at_ >= text_.size()) {
        return Fail("a bracket without end");
      }
      ++at_;
      if (c == '"') {
        while (at_ < text_.size() && text_[at_] != '"') {
          at_ += text_[at_] == '\\' ? 2 : 1;
        }
        ++at_;
      } else if (c == '{' || c == '[') {
        if (++depth > kDepthMax) {
          return Fail("brackets nested too deeply");
        }
      } else if (c == '}' || c == ']') {
        --depth;
      }
    } while (depth > 0);
  } else {
    while (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '}' && text_[at_] != ']' &&
           !IsSpace(text_[at_])) {
      ++at_;
    }
    if (at_ == begin) {
      return Fail("a value is expected");
    }
  }
  value = text_.substr(begin, at_ - begin);
  return true;
}

bool JsonCursor::End() {
  return !failed() && (Peek() == '\0' && at_ == text_.size() ? true : Fail("text after the end"));
}

}  // namespace pixii::text
