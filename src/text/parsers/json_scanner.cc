#include "text/parsers/json_scanner.h"

#include <fmt/format.h>

#include <cstdint>
#include <iterator>
#include <optional>

#include "base/utf8.h"
#include "text/parsers/marker_scanner.h"

namespace pixii::text::parsers {

namespace {

bool IsDigit(char byte) { return byte >= '0' && byte <= '9'; }

std::optional<std::uint32_t> HexValue(char byte) {
  if (IsDigit(byte)) {
    return static_cast<std::uint32_t>(byte - '0');
  }
  if (byte >= 'a' && byte <= 'f') {
    return static_cast<std::uint32_t>(byte - 'a' + 10);
  }
  if (byte >= 'A' && byte <= 'F') {
    return static_cast<std::uint32_t>(byte - 'A' + 10);
  }
  return std::nullopt;
}

}  // namespace

JsonText::Status JsonText::Push(char byte) {
  bool in_string = state_ == State::kString;
  Status status = Take(byte);
  if (status == Status::kDoneBefore || status == Status::kBroken) {
    return status;
  }
  if (in_string && static_cast<unsigned char>(byte) < 0x20) {
    repaired_ = true;
    fmt::format_to(std::back_inserter(text_), "{}",
                   byte == '\n'   ? "\\n"
                   : byte == '\r' ? "\\r"
                   : byte == '\t' ? "\\t"
                                  : fmt::format("\\u{:04x}", static_cast<unsigned>(byte)));
  } else {
    text_ += byte;
  }
  return status;
}

JsonText::Status JsonText::Take(char byte) {
  switch (state_) {
    case State::kString:
    case State::kEscape:
    case State::kHex:
      return String(byte);
    case State::kMinus:
    case State::kZero:
    case State::kInteger:
    case State::kPoint:
    case State::kFraction:
    case State::kExponent:
    case State::kExponentSign:
    case State::kExponentDigits:
      return Number(byte);
    case State::kLiteral:
      if (literal_.empty() || byte != literal_[0]) {
        return Status::kBroken;
      }
      literal_.remove_prefix(1);
      return literal_.empty() ? Complete() : Status::kMore;
    case State::kEnd:
      return Status::kDoneBefore;
    default:
      break;
  }
  if (IsSpace(byte)) {
    return Status::kMore;
  }
  switch (state_) {
    case State::kFirstItem:
      return byte == ']' ? Close(byte) : Begin(byte);
    case State::kFirstKey:
    case State::kKey:
      if (byte == '}' && state_ == State::kFirstKey) {
        return Close(byte);
      }
      if (byte != '"') {
        return Status::kBroken;
      }
      key_ = true;
      state_ = State::kString;
      return Status::kMore;
    case State::kColon:
      state_ = State::kValue;
      return byte == ':' ? Status::kMore : Status::kBroken;
    case State::kAfter:
      if (byte == ',') {
        state_ = brackets_.back() == '{' ? State::kKey : State::kValue;
        return Status::kMore;
      }
      return Close(byte);
    default:
      return Begin(byte);
  }
}

JsonText::Status JsonText::Begin(char byte) {
  switch (byte) {
    case '{':
    case '[':
      if (brackets_.size() == kJsonDepthMax) {
        return Status::kBroken;
      }
      brackets_ += byte;
      state_ = byte == '{' ? State::kFirstKey : State::kFirstItem;
      return Status::kMore;
    case '"':
      key_ = false;
      state_ = State::kString;
      return Status::kMore;
    case '-':
      state_ = State::kMinus;
      return Status::kMore;
    case '0':
      state_ = State::kZero;
      return Status::kMore;
    case 't':
    case 'f':
    case 'n':
      literal_ = byte == 't' ? "rue" : byte == 'f' ? "alse" : "ull";
      state_ = State::kLiteral;
      return Status::kMore;
    default:
      state_ = State::kInteger;
      return IsDigit(byte) ? Status::kMore : Status::kBroken;
  }
}

JsonText::Status JsonText::Close(char byte) {
  if (brackets_.empty() || byte != (brackets_.back() == '{' ? '}' : ']')) {
    return Status::kBroken;
  }
  brackets_.pop_back();
  return Complete();
}

JsonText::Status JsonText::Complete() {
  state_ = brackets_.empty() ? State::kEnd : State::kAfter;
  return brackets_.empty() ? Status::kDone : Status::kMore;
}

JsonText::Status JsonText::String(char byte) {
  if (state_ == State::kHex) {
    if (!HexValue(byte)) {
      return Status::kBroken;
    }
    state_ = --hex_ == 0 ? State::kString : State::kHex;
    return Status::kMore;
  }
  if (state_ == State::kEscape) {
    if (byte == 'u') {
      hex_ = 4;
      state_ = State::kHex;
      return Status::kMore;
    }
    state_ = State::kString;
    return std::string_view("\"\\/bfnrt").find(byte) == std::string_view::npos ? Status::kBroken
                                                                               : Status::kMore;
  }
  if (byte == '\\') {
    state_ = State::kEscape;
  } else if (byte == '"') {
    if (!key_) {
      return Complete();
    }
    state_ = State::kColon;
  }
  return Status::kMore;
}

bool JsonText::NumberMayEnd() const {
  return state_ == State::kZero || state_ == State::kInteger || state_ == State::kFraction ||
         state_ == State::kExponentDigits;
}

bool JsonText::CompleteAtEnd() const {
  return state_ == State::kEnd || (brackets_.empty() && NumberMayEnd());
}

JsonText::Status JsonText::Number(char byte) {
  State next = State::kEnd;
  if (IsDigit(byte)) {
    switch (state_) {
      case State::kMinus:
        next = byte == '0' ? State::kZero : State::kInteger;
        break;
      case State::kZero:
        return Status::kBroken;
      case State::kInteger:
        next = State::kInteger;
        break;
      case State::kPoint:
      case State::kFraction:
        next = State::kFraction;
        break;
      default:
        next = State::kExponentDigits;
    }
  } else if (byte == '.' && (state_ == State::kZero || state_ == State::kInteger)) {
    next = State::kPoint;
  } else if ((byte == 'e' || byte == 'E') && NumberMayEnd() && state_ != State::kExponentDigits) {
    next = State::kExponent;
  } else if ((byte == '+' || byte == '-') && state_ == State::kExponent) {
    next = State::kExponentSign;
  } else if (!NumberMayEnd()) {
    return Status::kBroken;
  }
  if (next != State::kEnd) {
    state_ = next;
    return Status::kMore;
  }
  if (brackets_.empty()) {
    state_ = State::kEnd;
    return Status::kDoneBefore;
  }
  state_ = State::kAfter;
  return Take(byte);
}

bool IsJson(std::string_view text) {
  JsonText value;
  for (char byte : text) {
    JsonText::Status status = value.Push(byte);
    if (status == JsonText::Status::kBroken ||
        (status == JsonText::Status::kDoneBefore && !IsSpace(byte))) {
      return false;
    }
  }
  return value.CompleteAtEnd() && !value.repaired();
}

char JsonKind(std::string_view text) {
  text = Trimmed(text);
  return text.empty() ? '\0' : text[0];
}

namespace {

// The value at the start of `text`, which is valid JSON up to its end.
std::string_view ValueAt(std::string_view text) {
  JsonText value;
  std::size_t at = 0;
  for (; at < text.size(); ++at) {
    JsonText::Status status = value.Push(text[at]);
    if (status == JsonText::Status::kDone) {
      return text.substr(0, at + 1);
    }
    if (status != JsonText::Status::kMore) {
      break;
    }
  }
  return text.substr(0, at);
}

void Skip(std::string_view& text, char separator) {
  text = Trimmed(text);
  if (!text.empty() && text[0] == separator) {
    text = Trimmed(text.substr(1));
  }
}

}  // namespace

void ForEachMember(
    std::string_view object,
    const std::function<bool(const std::string& key, std::string_view value)>& member) {
  object = Trimmed(object);
  std::string_view rest = Trimmed(object.substr(1, object.size() - 2));
  while (!rest.empty()) {
    std::string_view key = ValueAt(rest);
    rest.remove_prefix(key.size());
    Skip(rest, ':');
    std::string_view value = ValueAt(rest);
    rest.remove_prefix(value.size());
    Skip(rest, ',');
    if (value.empty() || !member(Unescaped(key), Trimmed(value))) {
      return;
    }
  }
}

void ForEachItem(std::string_view array, const std::function<bool(std::string_view item)>& item) {
  array = Trimmed(array);
  std::string_view rest = Trimmed(array.substr(1, array.size() - 2));
  while (!rest.empty()) {
    std::string_view value = ValueAt(rest);
    rest.remove_prefix(value.size());
    Skip(rest, ',');
    if (value.empty() || !item(Trimmed(value))) {
      return;
    }
  }
}

std::string Unescaped(std::string_view string) {
  std::string out;
  std::string_view rest = string.substr(1, string.size() - 2);
  const auto hex = [&](std::size_t at) {
    std::uint32_t code = 0;
    for (std::size_t i = at; i < at + 4 && i < rest.size(); ++i) {
      code = code * 16 + HexValue(rest[i]).value_or(0);
    }
    return code;
  };
  for (std::size_t i = 0; i < rest.size(); ++i) {
    if (rest[i] != '\\' || i + 1 >= rest.size()) {
      out += rest[i];
      continue;
    }
    char escape = rest[++i];
    constexpr std::string_view kNames = "bfnrt";
    constexpr std::string_view kMeant = "\b\f\n\r\t";
    if (std::size_t named = kNames.find(escape); named != std::string_view::npos) {
      out += kMeant[named];
    } else if (escape != 'u') {
      out += escape;
    } else {
      std::uint32_t code = hex(i + 1);
      i += 4;
      bool pair = (code & 0xFC00U) == 0xD800U && rest.substr(i + 1).starts_with("\\u") &&
                  (hex(i + 3) & 0xFC00U) == 0xDC00U;
      if (pair) {
        code = 0x10000U + ((code & 0x3FFU) << 10U) + (hex(i + 3) & 0x3FFU);
        i += 6;
      } else if ((code & 0xF800U) == 0xD800U) {
        code = 0xFFFDU;
      }
      AppendUtf8(out, static_cast<char32_t>(code));
    }
  }
  return out;
}

}  // namespace pixii::text::parsers
