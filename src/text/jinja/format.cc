#include "text/jinja/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "text/jinja/operators.h"
#include "text/jinja/text.h"
#include "text/jinja/unicode.h"

namespace pixii::text::jinja {

namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

/// One character inside quotes as repr shows it.
std::string Escaped(char32_t c, char quote) {
  switch (c) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\\':
      return "\\\\";
    default:
      break;
  }
  if (c == static_cast<char32_t>(quote)) {
    return fmt::format("\\{}", quote);
  }
  const auto value = static_cast<std::uint32_t>(c);
  return c < 0x100     ? fmt::format("\\x{:02x}", value)
         : c < 0x10000 ? fmt::format("\\u{:04x}", value)
                       : fmt::format("\\U{:08x}", value);
}

char QuoteFor(std::string_view text) {
  return text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos
             ? '"'
             : '\'';
}

/// What a conversion asks for, of % and of {}.
struct Spec {
  std::optional<Str> fill;
  char align = 0;  // < > ^ =, or 0 for the type's own
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  char group = 0;  // , or _
  std::uint32_t width = 0;
  std::optional<std::uint32_t> precision;
  char type = 0;
};

constexpr std::uint32_t kWidthMax = 1'000'000;  // characters
constexpr std::uint32_t kPrecisionMax = 500;    // digits of a number

Result<std::uint32_t> Number(Runtime& rt, std::string_view text, std::size_t& at) {
  std::uint32_t value = 0;
  while (at < text.size() && IsDigit(text[at])) {
    value = value * 10 + static_cast<std::uint32_t>(text[at++] - '0');
    if (value > kWidthMax) {
      return rt.Raise("ValueError",
                      fmt::format("a format's width or precision is over {}", kWidthMax));
    }
  }
  return value;
}

/// Puts `body` into its width. `sign_length`: bytes of sign and prefix, before which '=' does not
/// pad.
void Pad(StrBuilder& out, const Spec& spec, const Str& body, std::size_t sign_length,
         char own_align) {
  const std::size_t length = CharacterCount(body);
  const std::size_t missing = spec.width > length ? spec.width - length : 0;
  const char align = spec.align != 0 ? spec.align : own_align;
  const std::size_t before = align == '>' || align == '=' ? missing
                             : align == '^'               ? missing / 2
                                                          : 0;
  const Str fill = spec.fill.value_or(Str());
  const auto pad = [&](std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      if (fill.empty()) {
        out.Append(" ");
      } else {
        out.Append(fill);
      }
    }
  };
  if (align == '=') {
    out.Append(body.Slice(0, sign_length));
    pad(before);
    out.Append(body.Slice(sign_length, body.size()));
  } else {
    pad(before);
    out.Append(body);
  }
  pad(missing - before);
}

std::string Grouped(std::string digits, char group, std::size_t every) {
  const std::size_t end =
      std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  for (std::size_t at = end; group != 0 && at > every;) {
    at -= every;
    digits.insert(at, 1, group);
  }
  return digits;
}

std::string SignFor(bool negative, char sign) {
  return negative ? "-" : sign == '+' ? "+" : sign == ' ' ? " " : "";
}

std::string IntegerText(std::int64_t value, const Spec& spec, std::size_t& sign_length) {
  const std::uint64_t magnitude =
      value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
  std::string head = SignFor(value < 0, spec.sign);
  std::string digits;
  std::size_t every = 4;
  switch (spec.type) {
    case 'x':
      digits = fmt::format("{:x}", magnitude);
      head += spec.alternate ? "0x" : "";
      break;
    case 'X':
      digits = fmt::format("{:X}", magnitude);
      head += spec.alternate ? "0X" : "";
      break;
    case 'o':
      digits = fmt::format("{:o}", magnitude);
      head += spec.alternate ? "0o" : "";
      break;
    case 'b':
      digits = fmt::format("{:b}", magnitude);
      head += spec.alternate ? "0b" : "";
      break;
    default:
      digits = fmt::format("{}", magnitude);
      every = 3;
      break;
  }
  sign_length = head.size();
  return head + Grouped(std::move(digits), spec.group, every);
}

std::string RealText(double value, const Spec& spec, std::size_t& sign_length) {
  const std::string head = SignFor(std::signbit(value) && !std::isnan(value), spec.sign);
  sign_length = head.size();
  const double magnitude = std::fabs(value);
  const int precision = static_cast<int>(spec.precision.value_or(6));
  const bool upper = spec.type == 'F' || spec.type == 'E' || spec.type == 'G';
  std::string body;
  if (std::isnan(magnitude) || std::isinf(magnitude)) {
    body = std::isnan(magnitude) ? "nan" : "inf";
    body += spec.type == '%' ? "%" : "";
  } else {
    switch (spec.type) {
      case 'f':
      case 'F':
        body = fmt::format("{:.{}f}", magnitude, precision);
        break;
      case '%':
        body = fmt::format("{:.{}f}%", magnitude * 100.0, precision);
        break;
      case 'e':
      case 'E':
        body = fmt::format("{:.{}e}", magnitude, precision);
        break;
      case 'g':
      case 'G':
      case 'n':
        body = fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
        break;
      default:  // no type: like repr, or like g with at least one digit behind the point
        body = spec.precision ? fmt::format("{:.{}g}", magnitude, std::max(precision, 1))
                              : FormatFloat(magnitude);
        if (spec.precision && body.find_first_not_of("0123456789") == std::string::npos) {
          body += ".0";
        }
        break;
    }
  }
  if (upper) {
    std::transform(body.begin(), body.end(), body.begin(),
                   [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  }
  return head + Grouped(std::move(body), spec.group, 3);
}

Str Truncated(const Str& text, const std::optional<std::uint32_t>& characters) {
  return characters ? text.Slice(0, CharacterOffset(text, *characters)) : text;
}

Result<Str> ReprOf(Runtime& rt, const Value& value) {
  StrBuilder out(rt.meter());
  PX_CHECK_OK(AppendRepr(rt, out, value));
  if (out.failed()) {
    return rt.OutOfMemory();
  }
  return out.Finish();
}

// ---- %

class Percent {
 public:
  Percent(Runtime& rt, const Str& format, const Value& args)
      : rt_(rt), format_(format), args_(args), out_(rt.meter()) {}

  Result<Value> Run() {
    const std::string_view text = format_.view();
    std::size_t at = 0;
    while (at < text.size()) {
      const std::size_t percent = std::min(text.find('%', at), text.size());
      out_.Append(format_.Slice(at, percent));
      at = percent;
      if (at < text.size()) {
        PX_CHECK_OK(Conversion(text, at));
      }
    }
    const bool mapping = args_.is(Type::kDict) || args_.is(Type::kList);
    const std::size_t given = args_.is(Type::kTuple) ? args_.As<List>().items.size() : 1;
    if (used_ < given && !(mapping && !args_.is(Type::kTuple)) && !by_name_) {
      return rt_.Raise("TypeError", "not all arguments converted during string formatting");
    }
    return rt_.NewString(out_);
  }

 private:
  Result<Value> NextArgument() {
    if (args_.is(Type::kTuple)) {
      const auto& items = args_.As<List>().items;
      if (used_ < items.size()) {
        return items[used_++];
      }
    } else if (used_ == 0) {
      ++used_;
      return args_;
    }
    return rt_.Raise("TypeError", "not enough arguments for format string");
  }

  Result<void> Conversion(std::string_view text, std::size_t& at) {
    ++at;  // %
    Spec spec;
    spec.align = '>';
    Value argument;
    if (at < text.size() && text[at] == '(') {
      const std::size_t end = text.find(')', at);
      if (end == std::string_view::npos) {
        return rt_.Raise("ValueError", "incomplete format key");
      }
      if (!args_.is(Type::kDict)) {
        return rt_.Raise("TypeError", "format requires a mapping");
      }
      const std::string_view key = text.substr(at + 1, end - at - 1);
      const Value* found = args_.As<Dict>().Find(key);
      if (found == nullptr) {
        return rt_.Raise("KeyError", Quoted(key));
      }
      argument = *found;
      by_name_ = true;
      at = end + 1;
    }
    for (; at < text.size() && std::string_view("-+ #0").find(text[at]) != std::string_view::npos;
         ++at) {
      switch (text[at]) {
        case '-':
          spec.align = '<';
          break;
        case '+':
          spec.sign = '+';
          break;
        case ' ':
          spec.sign = spec.sign == '+' ? '+' : ' ';
          break;
        case '#':
          spec.alternate = true;
          break;
        default:
          spec.zero = true;
          break;
      }
    }
    if (at < text.size() && text[at] == '*') {
      return rt_.Unsupported("a width from the arguments in a % format");
    }
    PX_TRY(spec.width, Number(rt_, text, at));
    if (at < text.size() && text[at] == '.') {
      PX_TRY(spec.precision, Number(rt_, text, ++at));
    }
    while (at < text.size() && (text[at] == 'l' || text[at] == 'h' || text[at] == 'L')) {
      ++at;
    }
    if (at >= text.size()) {
      return rt_.Raise("ValueError", "incomplete format");
    }
    spec.type = text[at++];
    if (spec.type == '%') {
      out_.Append("%");
      return {};
    }
    if (argument.missing()) {
      PX_TRY(argument, NextArgument());
    }
    return Convert(spec, argument);
  }

  Result<void> Convert(Spec spec, const Value& argument) {
    std::size_t sign_length = 0;
    const auto pad_number = [&](std::string body) {
      if (spec.zero && spec.align == '>') {
        spec.align = '=';
        spec.fill = Str::Literal("0");
      }
      Pad(out_, spec, Str::Literal(std::move(body)), sign_length, '>');
    };
    switch (spec.type) {
      case 's': {
        PX_TRY(const Str text, format_.markup() ? Escaped(rt_, argument) : ToStr(rt_, argument));
        Pad(out_, spec, Truncated(text, spec.precision), 0, '>');
        return {};
      }
      case 'r':
      case 'a': {
        PX_TRY(Str text, ReprOf(rt_, argument));
        if (format_.markup()) {
          PX_TRY(text, Escaped(rt_, Value(text)));
        }
        Pad(out_, spec, Truncated(text, spec.precision), 0, '>');
        return {};
      }
      case 'c': {
        if (argument.is_string() && CharacterCount(argument.str()) == 1) {
          Pad(out_, spec, argument.str(), 0, '>');
          return {};
        }
        const auto code = argument.AsInt();
        if (!code || *code < 0 || *code > 0x10FFFF || (*code >= 0xD800 && *code < 0xE000)) {
          return rt_.Raise("TypeError", "%c requires int or char");
        }
        StrBuilder one(rt_.meter());
        one.Append(static_cast<char32_t>(*code), false);
        Pad(out_, spec, one.Finish(), 0, '>');
        return {};
      }
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o': {
        auto whole = argument.AsInt();
        const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
        if (!whole && decimal && argument.is(Type::kFloat) && std::fabs(argument.real()) < 9.2e18) {
          whole = static_cast<std::int64_t>(argument.real());
        }
        if (!whole) {
          return rt_.Raise("TypeError",
                           fmt::format("%{} format: a{} is required, not {}", spec.type,
                                       decimal ? " real number" : "n integer", TypeName(argument)));
        }
        spec.type = decimal ? 'd' : spec.type;
        pad_number(IntegerText(*whole, spec, sign_length));
        return {};
      }
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        const auto real = argument.AsFloat();
        if (!real) {
          return rt_.Raise("TypeError",
                           fmt::format("must be real number, not {}", TypeName(argument)));
        }
        if (spec.precision.value_or(0) > kPrecisionMax) {
          return rt_.Raise("ValueError", fmt::format("a precision over {} digits", kPrecisionMax));
        }
        pad_number(RealText(*real, spec, sign_length));
        return {};
      }
      default:
        return rt_.Raise("ValueError", fmt::format("unsupported format character '{}'", spec.type));
    }
  }

  Runtime& rt_;
  Str format_;
  Value args_;
  StrBuilder out_;
  std::size_t used_ = 0;
  bool by_name_ = false;
};

// ---- {}

class Braces {
 public:
  Braces(Runtime& rt, const Str& format, const CallArgs& args)
      : rt_(rt), format_(format), args_(args), out_(rt.meter()) {}

  Result<Value> Run() {
    const std::string_view text = format_.view();
    std::size_t at = 0;
    while (at < text.size()) {
      const std::size_t brace = std::min(text.find_first_of("{}", at), text.size());
      out_.Append(format_.Slice(at, brace));
      at = brace;
      if (at == text.size()) {
        break;
      }
      if (at + 1 < text.size() && text[at + 1] == text[at]) {
        out_.Append(format_.Slice(at, at + 1));
        at += 2;
        continue;
      }
      if (text[at] == '}') {
        return rt_.Raise("ValueError", "Single '}' encountered in format string");
      }
      const std::size_t end = text.find_first_of("{}", at + 1);
      if (end == std::string_view::npos) {
        return rt_.Raise("ValueError", "expected '}' before end of string");
      }
      if (text[end] == '{') {
        return rt_.Unsupported("a replacement field inside a replacement field");
      }
      PX_CHECK_OK(Field(at + 1, end));
      at = end + 1;
    }
    return rt_.NewString(out_);
  }

 private:
  Result<void> Field(std::size_t begin, std::size_t end) {
    const std::string_view text = format_.view().substr(0, end);
    const std::size_t name_end = std::min({text.find('!', begin), text.find(':', begin), end});
    PX_TRY(Value value, Lookup(text.substr(begin, name_end - begin)));
    std::size_t at = name_end;
    if (at < end && text[at] == '!') {
      const char conversion = at + 1 < end ? text[at + 1] : ' ';
      if (conversion != 's' && conversion != 'r') {
        return rt_.Raise("ValueError",
                         fmt::format("Unknown conversion specifier '{}'", conversion));
      }
      if (conversion == 's') {
        PX_TRY(value, ToStr(rt_, value));
      } else {
        PX_TRY(value, ReprOf(rt_, value));
      }
      at += 2;
    }
    if (at < end && text[at] != ':') {
      return rt_.Raise("ValueError", "expected ':' after conversion specifier");
    }
    if (!format_.markup()) {
      return Convert(out_, value, at < end ? at + 1 : end, end);
    }
    StrBuilder field(rt_.meter());
    PX_CHECK_OK(Convert(field, value, at < end ? at + 1 : end, end));
    PX_TRY(Value shown, rt_.NewString(field));
    PX_TRY(shown, LikeSource(rt_, value, std::move(shown)));
    PX_TRY(const Str escaped, Escaped(rt_, shown));
    out_.Append(escaped);
    return {};
  }

  Result<Value> Lookup(std::string_view name) {
    const std::size_t first_end = std::min(name.find_first_of(".["), name.size());
    const std::string_view first = name.substr(0, first_end);
    Value value;
    if (first.empty() || std::all_of(first.begin(), first.end(), IsDigit)) {
      std::size_t at = 0;
      std::size_t index = automatic_;
      if (first.empty()) {
        ++automatic_;
      } else {
        PX_TRY(index, Number(rt_, first, at));
      }
      if (index >= args_.positional.size()) {
        return rt_.Raise("IndexError", "tuple index out of range");
      }
      value = args_.positional[index];
    } else {
      const auto it = std::find_if(args_.named.begin(), args_.named.end(),
                                   [&](const auto& named) { return named.first.view() == first; });
      if (it == args_.named.end()) {
        return rt_.Raise("KeyError", Quoted(first));
      }
      value = it->second;
    }
    std::size_t at = first_end;
    while (at < name.size()) {
      const bool dotted = name[at] == '.';
      const std::size_t end =
          dotted ? std::min(name.find_first_of(".[", at + 1), name.size()) : name.find(']', at);
      if (end == std::string_view::npos) {
        return rt_.Raise("ValueError", "Missing ']' in format string");
      }
      const std::string_view part = name.substr(at + 1, end - at - 1);
      if (dotted) {
        PX_TRY(value, GetAttribute(rt_, value, part));
      } else if (!part.empty() && std::all_of(part.begin(), part.end(), IsDigit)) {
        std::size_t from = 0;
        PX_TRY(const std::uint32_t index, Number(rt_, part, from));
        PX_TRY(value, GetItem(rt_, value, Value(static_cast<std::int64_t>(index))));
      } else {
        PX_TRY(value, GetItem(rt_, value, Value::Literal(part)));
      }
      at = dotted ? end : end + 1;
    }
    return value;
  }

  Result<Spec> ParseSpec(std::size_t begin, std::size_t end) {
    Spec spec;
    const std::string_view text = format_.view().substr(0, end);
    std::size_t at = begin;
    constexpr std::string_view kAligns = "<>^=";
    const Str rest = format_.Slice(begin, end);
    const std::size_t first = begin + CharacterOffset(rest, 1);
    if (begin < end && first < end && kAligns.find(text[first]) != std::string_view::npos) {
      spec.fill = format_.Slice(begin, first);
      spec.align = text[first];
      at = first + 1;
    } else if (at < end && kAligns.find(text[at]) != std::string_view::npos) {
      spec.align = text[at++];
    }
    if (at < end && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) {
      spec.sign = text[at++];
    }
    if (at < end && text[at] == '#') {
      spec.alternate = true;
      ++at;
    }
    if (at < end && text[at] == '0') {
      spec.zero = true;
      ++at;
    }
    PX_TRY(spec.width, Number(rt_, text, at));
    if (at < end && (text[at] == ',' || text[at] == '_')) {
      spec.group = text[at++];
    }
    if (at < end && text[at] == '.') {
      PX_TRY(spec.precision, Number(rt_, text, ++at));
    }
    if (at < end) {
      spec.type = text[at++];
    }
    if (at != end) {
      return rt_.Raise("ValueError", "Invalid format specifier");
    }
    if (spec.zero && spec.align == 0) {
      spec.align = '=';
      spec.fill = Str::Literal("0");
    }
    return spec;
  }

  Result<void> Convert(StrBuilder& out, const Value& value, std::size_t begin, std::size_t end) {
    if (begin == end) {
      return AppendStr(rt_, out, value);
    }
    PX_TRY(Spec spec, ParseSpec(begin, end));
    const auto unknown = [&] {
      return rt_.Raise("ValueError", fmt::format("Unknown format code '{}' for object of type '{}'",
                                                 spec.type, TypeName(value)));
    };
    std::size_t sign_length = 0;
    const auto whole = value.AsInt();
    const auto real = value.AsFloat();
    if (value.is_string()) {
      if (spec.type != 0 && spec.type != 's') {
        return unknown();
      }
      if (spec.align == '=') {
        if (!spec.zero) {
          return rt_.Raise("ValueError", "'=' alignment not allowed in string format specifier");
        }
        spec.align = '<';
      }
      Pad(out, spec, Truncated(value.str(), spec.precision), 0, '<');
      return {};
    }
    if (!real) {
      return rt_.Raise("TypeError", fmt::format("unsupported format string passed to {}.__format__",
                                                TypeName(value)));
    }
    if (spec.precision.value_or(0) > kPrecisionMax) {
      return rt_.Raise("ValueError", fmt::format("a precision over {} digits", kPrecisionMax));
    }
    constexpr std::string_view kWhole = "bdoxX";
    constexpr std::string_view kReal = "eEfFgGn%";
    if (whole &&
        (spec.type == 0 || spec.type == 'n' || kWhole.find(spec.type) != std::string_view::npos)) {
      if (value.is(Type::kBool) && spec.type == 0) {
        PX_TRY(const Str text, ToStr(rt_, value));
        Pad(out, spec, text, 0, '<');
        return {};
      }
      Pad(out, spec, Str::Literal(IntegerText(*whole, spec, sign_length)), sign_length, '>');
      return {};
    }
    if (spec.type != 0 && kReal.find(spec.type) == std::string_view::npos) {
      return unknown();
    }
    Pad(out, spec, Str::Literal(RealText(*real, spec, sign_length)), sign_length, '>');
    return {};
  }

  Runtime& rt_;
  Str format_;
  const CallArgs& args_;
  StrBuilder out_;
  std::size_t automatic_ = 0;
};

}  // namespace

std::string Quoted(std::string_view text) {
  const char quote = QuoteFor(text);
  std::string out(1, quote);
  const Str shown = Str::Literal(std::string(text));  // a cursor borrows its string
  for (StrCursor cursor(shown); !cursor.done(); cursor.Next()) {
    const char32_t c = cursor.code_point();
    if (c == '\\' || c == static_cast<char32_t>(quote) || !IsPrintable(c)) {
      out += Escaped(c, quote);
    } else {
      out += cursor.bytes();
    }
  }
  out += quote;
  return out;
}

Result<void> AppendQuoted(Runtime& rt, StrBuilder& out, const Str& text) {
  if (!rt.SpendBytes(text.size())) {
    return rt.OutOfSteps();
  }
  const char quote = QuoteFor(text.view());
  const std::string_view mark(&quote, 1);
  out.Append(mark);
  for (StrCursor cursor(text); !cursor.done() && !out.failed(); cursor.Next()) {
    const char32_t c = cursor.code_point();
    if (c == '\\' || c == static_cast<char32_t>(quote) || !IsPrintable(c)) {
      out.Append(Escaped(c, quote), cursor.untrusted());
    } else {
      out.Append(cursor.bytes(), cursor.untrusted());
    }
  }
  out.Append(mark);
  return {};
}

Result<Value> PercentFormat(Runtime& rt, const Str& format, const Value& args) {
  PX_TRY(Value out, Percent(rt, format, args).Run());
  return LikeSource(rt, Value(format), std::move(out));
}

Result<Value> BraceFormat(Runtime& rt, const Str& format, const CallArgs& args) {
  PX_TRY(Value out, Braces(rt, format, args).Run());
  return LikeSource(rt, Value(format), std::move(out));
}

}  // namespace pixii::text::jinja
