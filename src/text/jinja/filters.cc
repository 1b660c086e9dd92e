// Filters over any value: default, numbers, JSON, look-ups; and the table of all.
#include "text/jinja/filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <utility>

#include "text/jinja/arguments.h"
#include "text/jinja/json.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"
#include "wire/json.h"

namespace pixii::text::jinja {

namespace {

Result<Value> Default(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "default", args);
  const Value fallback = reader.Take("default_value");
  const bool falsy_too = reader.TakeFlag("boolean", false);
  PX_CHECK_OK(reader.Done());
  if (input.is_undefined() || (falsy_too && !Truthy(input))) {
    return fallback.missing() ? Value(Str()) : fallback;
  }
  return input;
}

Result<Value> Abs(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "abs", args);
  PX_CHECK_OK(reader.Done());
  const auto real = input.AsFloat();
  if (input.is_undefined()) {
    return rt.UseOf(input);
  }
  if (!real) {
    return rt.Raise("TypeError", fmt::format("bad operand type for abs(): '{}'", TypeName(input)));
  }
  return *real < 0 ? Negate(rt, Operator::kNegate, input) : Negate(rt, Operator::kPlus, input);
}

Result<Value> Attr(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "attr", args);
  PX_TRY(const Value name, reader.TakeRequired("name"));
  PX_CHECK_OK(reader.Done());
  if (!name.is_string()) {
    return rt.Raise("TypeError",
                    fmt::format("attribute name must be string, not '{}'", TypeName(name)));
  }
  if (input.is(Type::kDict) && FindMethod(input, name.view()).kind == MethodKind::kNone) {
    return rt.NoAttribute(input, name.view());  // attributes only, no items
  }
  return GetAttribute(rt, input, name.view());
}

/// Text without the underscores between its digits that int() and float() of Python allow.
std::optional<std::string> PlainDigits(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t at) {
      return at < text.size() && std::isxdigit(static_cast<unsigned char>(text[at])) != 0;
    };
    if (text[i] != '_') {
      out.push_back(text[i]);
    } else if (i == 0 || !digit(i - 1) || !digit(i + 1)) {
      return std::nullopt;
    }
  }
  return out;
}

std::optional<double> ParseReal(std::string_view text) {
  const std::string_view trimmed = TrimLeft(TrimRight(text));
  const auto plain = PlainDigits(trimmed);
  if (!plain || plain->empty() || plain->find_first_of("xXpP(") != std::string::npos ||
      plain->size() > 400) {
    return std::nullopt;
  }
  char* end = nullptr;
  const double value = std::strtod(plain->c_str(), &end);
  return end == plain->c_str() + plain->size() ? std::optional(value) : std::nullopt;
}

std::optional<std::int64_t> ParseInteger(std::string_view text, int base) {
  const auto plain = PlainDigits(TrimLeft(TrimRight(text)));
  if (!plain || plain->empty()) {
    return std::nullopt;
  }
  std::string_view digits = *plain;
  const bool negative = digits[0] == '-';
  if (digits[0] == '+' || digits[0] == '-') {
    digits.remove_prefix(1);
  }
  const auto prefixed = [&](char lower) {
    return digits.size() > 2 && digits[0] == '0' && (digits[1] | 32) == lower;
  };
  for (const auto& [letter, radix] : {std::pair{'x', 16}, {'o', 8}, {'b', 2}}) {
    if (prefixed(letter) && (base == radix || base == 0)) {
      base = radix;
      digits.remove_prefix(2);
      break;
    }
  }
  std::uint64_t magnitude = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), magnitude,
                                      base == 0 ? 10 : base);
  if (digits.empty() || parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size() ||
      magnitude > static_cast<std::uint64_t>(INT64_MAX)) {
    return std::nullopt;
  }
  return negative ? -static_cast<std::int64_t>(magnitude) : static_cast<std::int64_t>(magnitude);
}

Result<Value> Int(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "int", args);
  Value fallback = reader.Take("default");
  PX_TRY(const auto base, reader.TakeInteger("base"));
  PX_CHECK_OK(reader.Done());
  if (fallback.missing()) {
    fallback = Value(std::int64_t{0});
  }
  const std::int64_t radix = base.value_or(10);
  if (radix != 0 && (radix < 2 || radix > 36)) {
    return fallback;
  }
  if (input.is_undefined()) {
    return rt.UseOf(input);
  }
  if (const auto whole = input.AsInt()) {
    return Value(*whole);
  }
  if (input.is(Type::kBigInt)) {
    return input;
  }
  std::optional<double> real = input.AsFloat();
  if (input.is_string()) {
    if (const auto whole = ParseInteger(input.view(), static_cast<int>(radix))) {
      return Value(*whole);
    }
    real = ParseReal(input.view());
  }
  if (!real || !std::isfinite(*real)) {
    return fallback;
  }
  if (std::fabs(*real) >= 9.2e18) {
    return rt.Raise("OverflowError", "the integer does not fit into 64 bits");
  }
  return Value(static_cast<std::int64_t>(*real));
}

Result<Value> Float(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "float", args);
  const Value fallback = reader.Take("default");
  PX_CHECK_OK(reader.Done());
  if (input.is_undefined()) {
    return rt.UseOf(input);
  }
  const auto real = input.is_string() ? ParseReal(input.view()) : input.AsFloat();
  return real ? Value(*real) : fallback.missing() ? Value(0.0) : fallback;
}

Result<Value> Round(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "round", args);
  PX_TRY(const auto precision_given, reader.TakeInteger("precision"));
  PX_TRY(const auto method_given, reader.TakeString("method"));
  PX_CHECK_OK(reader.Done());
  const std::string_view method = method_given ? method_given->view() : "common";
  const auto real = input.AsFloat();
  if (method != "common" && method != "ceil" && method != "floor") {
    return rt.Raise("FilterArgumentError", "method must be common, ceil or floor");
  }
  if (input.is_undefined()) {
    return rt.UseOf(input);
  }
  if (!real) {
    return rt.Raise("TypeError",
                    fmt::format("type {} doesn't define __round__ method", TypeName(input)));
  }
  const auto precision =
      static_cast<int>(std::clamp<std::int64_t>(precision_given.value_or(0), -400, 400));
  const double scale = std::pow(10.0, precision);
  if (method != "common") {
    const double scaled = *real * scale;
    return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
  }
  if (precision < 0) {
    if (input.AsInt()) {
      return rt.Unsupported("rounding integers to tens and more");
    }
    return Value(std::nearbyint(*real * scale) / scale);
  }
  if (const auto whole = input.AsInt()) {
    return Value(*whole);
  }
  // The decimal text rounds halves by the exact binary value, as Python does.
  const std::string text = fmt::format("{:.{}f}", *real, std::min(precision, 350));
  return Value(std::strtod(text.c_str(), nullptr));
}

Result<Value> Filesize(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "filesizeformat", args);
  const bool binary = reader.TakeFlag("binary", false);
  PX_CHECK_OK(reader.Done());
  const auto real = input.is_string() ? ParseReal(input.view()) : input.AsFloat();
  if (!real) {
    return rt.Raise("TypeError",
                    fmt::format("float() argument must be a string or a real number, not '{}'",
                                TypeName(input)));
  }
  const double base = binary ? 1024 : 1000;
  if (*real == 1) {
    return Value::Literal("1 Byte");
  }
  if (*real < base) {
    return Value::Literal(fmt::format("{} Bytes", static_cast<std::int64_t>(*real)));
  }
  constexpr std::string_view kPrefixes = "KMGTPEZY";
  double unit = base * base;
  std::size_t i = 0;
  for (; i + 1 < kPrefixes.size() && *real >= unit; ++i) {
    unit *= base;
  }
  const std::string prefix =
      binary ? fmt::format("{}iB", kPrefixes[i]) : fmt::format("{}B", i == 0 ? 'k' : kPrefixes[i]);
  return Value::Literal(fmt::format("{:.1f} {}", base * *real / unit, prefix));
}

Result<Value> ToJsonFilter(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "tojson", args);
  DumpOptions options;
  options.ensure_ascii = reader.TakeFlag("ensure_ascii", false);
  const Value indent = reader.Take("indent");
  const Value separators = reader.Take("separators");
  options.sort_keys = reader.TakeFlag("sort_keys", false);
  PX_CHECK_OK(reader.Done());
  if (const auto spaces = indent.AsInt()) {
    options.indented = true;
    if (*spaces > 1'000) {
      return rt.Raise("ValueError", "an indent over 1000 spaces");
    }
    options.indent = Str::Literal(
        std::string(static_cast<std::size_t>(std::max<std::int64_t>(0, *spaces)), ' '));
  } else if (indent.is_string()) {
    options.indented = true;
    options.indent = indent.str();
  } else if (!indent.missing() && !indent.is_none()) {
    return rt.Raise("TypeError", fmt::format("can't multiply sequence by non-int of type '{}'",
                                             TypeName(indent)));
  }
  if (options.indented) {
    options.item_separator = Str::Literal(",");
  }
  if (!separators.missing() && !separators.is_none()) {
    PX_TRY(const std::vector<Value> both, Items(rt, separators));
    if (both.size() != 2 || !both[0].is_string() || !both[1].is_string()) {
      return rt.Raise("ValueError", "separators must be two strings");
    }
    options.item_separator = both[0].str();
    options.key_separator = both[1].str();
  }
  return ToJson(rt, input, options);
}

/// Not Jinja's: templates written for other engines parse the arguments of past tool calls with it.
Result<Value> FromJsonFilter(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "fromjson", args);
  PX_CHECK_OK(reader.Done());
  if (!input.is_string()) {
    return rt.Raise("TypeError",
                    fmt::format("the JSON object must be str, not {}", TypeName(input)));
  }
  if (!rt.SpendBytes(input.str().size() * 16)) {
    return rt.OutOfSteps();
  }
  auto parsed = wire::ParseJson(input.view(), {.depth_max = 128, .values_max = 1'000'000});
  if (!parsed) {
    return rt.Raise("JSONDecodeError", parsed.error().detail());
  }
  return FromJson(rt, *parsed, input.str().any_untrusted());
}

Result<Value> Safe(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "safe", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Str text, ToStr(rt, input));
  return Value(text.AsMarkup());
}

Result<Value> String(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "string", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(Str text, ToStr(rt, input));
  return Value(std::move(text));
}

struct Row {
  std::string_view name;
  FilterCall call;
};

constexpr Row kFilters[] = {
    {"abs", Abs},
    {"attr", Attr},
    {"d", Default},
    {"default", Default},
    {"filesizeformat", Filesize},
    {"float", Float},
    {"fromjson", FromJsonFilter},
    {"int", Int},
    {"round", Round},
    {"safe", Safe},
    {"string", String},
    {"tojson", ToJsonFilter},
};

}  // namespace

FilterCall FindFilter(std::string_view name) {
  const Row* row = std::find_if(std::begin(kFilters), std::end(kFilters),
                                [&](const Row& r) { return r.name == name; });
  if (row != std::end(kFilters)) {
    return row->call;
  }
  const FilterCall text = FindTextFilter(name);
  return text != nullptr ? text : FindSequenceFilter(name);
}

bool IsUnsupportedFilter(std::string_view name) {
  constexpr std::string_view kNames[] = {"forceescape", "pprint",   "random", "striptags",
                                         "urlize",      "wordwrap", "xmlattr"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

}  // namespace pixii::text::jinja
