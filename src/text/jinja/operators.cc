#include "text/jinja/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"
#include "text/jinja/text.h"

namespace pixii::text::jinja {

namespace {

bool IsNumber(const Value& value) {
  return value.is(Type::kBool) || value.is(Type::kInt) || value.is(Type::kFloat);
}

bool IsWhole(const Value& value) { return value.is(Type::kBool) || value.is(Type::kInt); }

template <class T>
bool Ordered(Operator op, const T& a, const T& b) {
  switch (op) {
    case Operator::kLess:
      return a < b;
    case Operator::kLessEqual:
      return a <= b;
    case Operator::kGreater:
      return a > b;
    default:
      return a >= b;
  }
}

std::string_view Symbol(Operator op) {
  switch (op) {
    case Operator::kAdd:
      return "+";
    case Operator::kSubtract:
      return "-";
    case Operator::kMultiply:
      return "*";
    case Operator::kDivide:
      return "/";
    case Operator::kFloorDivide:
      return "//";
    case Operator::kModulo:
      return "%";
    case Operator::kPower:
      return "** or pow()";
    case Operator::kLess:
      return "<";
    case Operator::kLessEqual:
      return "<=";
    case Operator::kGreater:
      return ">";
    default:
      return ">=";
  }
}

Result<bool> EqualItems(Runtime& rt, const std::vector<Value>& a, const std::vector<Value>& b) {
  if (a.size() != b.size()) {
    return false;
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    PX_TRY(const bool same, Equal(rt, a[i], b[i]));
    if (!same) {
      return false;
    }
  }
  return true;
}

Result<bool> EqualDicts(Runtime& rt, const Dict& a, const Dict& b) {
  if (a.entries().size() != b.entries().size()) {
    return false;
  }
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.Find(key);
    if (other == nullptr) {
      return false;
    }
    PX_TRY(const bool same, Equal(rt, value, *other));
    if (!same) {
      return false;
    }
  }
  return true;
}

Result<bool> LessItems(Runtime& rt, Operator op, const std::vector<Value>& a,
                       const std::vector<Value>& b) {
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    PX_TRY(const bool same, Equal(rt, a[i], b[i]));
    if (!same) {
      return Compare(rt, op, a[i], b[i]);
    }
  }
  return Ordered(op, a.size(), b.size());
}

Result<bool> Order(Runtime& rt, Operator op, const Value& a, const Value& b) {
  if (IsWhole(a) && IsWhole(b)) {
    return Ordered(op, *a.AsInt(), *b.AsInt());
  }
  if (IsNumber(a) && IsNumber(b)) {
    return Ordered(op, *a.AsFloat(), *b.AsFloat());
  }
  if (a.is_string() && b.is_string()) {
    if (!rt.SpendBytes(std::min(a.str().size(), b.str().size()))) {
      return rt.OutOfSteps();
    }
    return Ordered(op, a.view(), b.view());  // UTF-8 sorts as its code points do
  }
  if (a.is_list_or_tuple() && a.type() == b.type()) {
    return LessItems(rt, op, a.As<List>().items, b.As<List>().items);
  }
  if (a.is_undefined() || b.is_undefined()) {
    return rt.UseOf(a.is_undefined() ? a : b);
  }
  return rt.Raise("TypeError", fmt::format("'{}' not supported between instances of '{}' and '{}'",
                                           Symbol(op), TypeName(a), TypeName(b)));
}

Result<void> AppendItems(Runtime& rt, StrBuilder& out, const std::vector<Value>& items,
                         std::string_view brackets) {
  out.Append(brackets.substr(0, 1));
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i != 0) {
      out.Append(", ");
    }
    PX_CHECK_OK(AppendRepr(rt, out, items[i]));
  }
  if (items.size() == 1 && brackets == "()") {
    out.Append(",");
  }
  out.Append(brackets.substr(1, 1));
  return {};
}

Result<void> AppendEntries(Runtime& rt, StrBuilder& out, const Dict& dict) {
  out.Append("{");
  bool first = true;
  for (const auto& [key, value] : dict.entries()) {
    if (!first) {
      out.Append(", ");
    }
    first = false;
    PX_CHECK_OK(AppendRepr(rt, out, key));
    out.Append(": ");
    PX_CHECK_OK(AppendRepr(rt, out, value));
  }
  out.Append("}");
  return {};
}

/// repr of a string.
Result<void> AppendText(Runtime& rt, StrBuilder& out, const Str& text) {
  out.Append(text.markup() ? "Markup(" : "");
  PX_CHECK_OK(AppendQuoted(rt, out, text));
  out.Append(text.markup() ? ")" : "");
  return {};
}

Result<void> AppendView(Runtime& rt, StrBuilder& out, const Value& view) {
  out.Append(TypeName(view));
  out.Append("(");
  PX_TRY(const std::vector<Value> items, Items(rt, view));
  PX_CHECK_OK(AppendItems(rt, out, items, "[]"));
  out.Append(")");
  return {};
}

}  // namespace

std::string FormatFloat(double value) {
  if (std::isnan(value)) {
    return "nan";
  }
  if (std::isinf(value)) {
    return value < 0 ? "-inf" : "inf";
  }
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = text.find('e');
  int exponent = 0;
  const std::string_view exponent_text = text.substr(text[e + 1] == '+' ? e + 2 : e + 1);
  std::from_chars(exponent_text.data(), exponent_text.data() + exponent_text.size(), exponent);
  if (exponent < -4 || exponent >= 16) {
    return std::string(text);
  }
  char fixed[64];
  const auto fixed_end =
      std::to_chars(fixed, fixed + sizeof(fixed), value, std::chars_format::fixed).ptr;
  std::string out(fixed, fixed_end);
  if (out.find('.') == std::string::npos) {
    out += ".0";
  }
  return out;
}

Result<void> AppendStr(Runtime& rt, StrBuilder& out, const Value& value) {
  if (value.is_string()) {
    if (!rt.SpendBytes(value.str().size())) {
      return rt.OutOfSteps();
    }
    out.Append(value.str());
    return {};
  }
  return AppendRepr(rt, out, value);
}

Result<void> AppendRepr(Runtime& rt, StrBuilder& out, const Value& value) {
  if (!rt.Spend()) {
    return rt.OutOfSteps();
  }
  if (out.failed()) {
    return rt.OutOfMemory();
  }
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
      return {};
    case Type::kNone:
      out.Append("None");
      return {};
    case Type::kBool:
      out.Append(value.boolean() ? "True" : "False");
      return {};
    case Type::kInt:
      out.Append(std::to_string(value.integer()));
      return {};
    case Type::kBigInt:
      out.Append(value.As<BigInt>().digits);
      return {};
    case Type::kFloat:
      out.Append(FormatFloat(value.real()));
      return {};
    case Type::kString:
      return AppendText(rt, out, value.str());
    case Type::kList:
      return AppendItems(rt, out, value.As<List>().items, "[]");
    case Type::kTuple:
      return AppendItems(rt, out, value.As<List>().items, "()");
    case Type::kDict:
      return AppendEntries(rt, out, value.As<Dict>());
    case Type::kDictView:
      return AppendView(rt, out, value);
    case Type::kRange: {
      const auto& range = value.As<Range>();
      out.Append(range.step == 1
                     ? fmt::format("range({}, {})", range.start, range.stop)
                     : fmt::format("range({}, {}, {})", range.start, range.stop, range.step));
      return {};
    }
    case Type::kNamespace:
      return rt.Unsupported("printing a namespace");
    default:
      out.Append(fmt::format("<{} object>", TypeName(value)));
      return {};
  }
}

Result<Str> ToStr(Runtime& rt, const Value& value) {
  if (value.is_string()) {
    return value.str();
  }
  StrBuilder out(rt.meter());
  PX_CHECK_OK(AppendStr(rt, out, value));
  if (out.failed()) {
    return rt.OutOfMemory();
  }
  return out.Finish();
}

Result<bool> Equal(Runtime& rt, const Value& a, const Value& b) {
  if (!rt.Spend()) {
    return rt.OutOfSteps();
  }
  if (a.is_string() && b.is_string()) {
    if (a.str().size() != b.str().size()) {
      return false;
    }
    if (!rt.SpendBytes(a.str().size())) {
      return rt.OutOfSteps();
    }
    return a.view() == b.view();
  }
  if (IsWhole(a) && IsWhole(b)) {
    return *a.AsInt() == *b.AsInt();
  }
  if (IsNumber(a) && IsNumber(b)) {
    return *a.AsFloat() == *b.AsFloat();
  }
  if (a.type() != b.type()) {
    return false;
  }
  switch (a.type()) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      return true;
    case Type::kBigInt:
      return a.As<BigInt>().digits == b.As<BigInt>().digits;
    case Type::kList:
    case Type::kTuple:
      return EqualItems(rt, a.As<List>().items, b.As<List>().items);
    case Type::kDict:
      return EqualDicts(rt, a.As<Dict>(), b.As<Dict>());
    case Type::kRange: {
      const auto& left = a.As<Range>();
      const auto& right = b.As<Range>();
      return left.count == right.count &&
             (left.count == 0 ||
              (left.start == right.start && (left.count == 1 || left.step == right.step)));
    }
    default:
      return a.object() == b.object();
  }
}

Result<bool> Compare(Runtime& rt, Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::kEqual:
      return Equal(rt, a, b);
    case Operator::kNotEqual: {
      PX_TRY(const bool same, Equal(rt, a, b));
      return !same;
    }
    case Operator::kIn:
      return Contains(rt, b, a);
    case Operator::kNotIn: {
      PX_TRY(const bool there, Contains(rt, b, a));
      return !there;
    }
    default:
      return Order(rt, op, a, b);
  }
}

Result<bool> Contains(Runtime& rt, const Value& container, const Value& item) {
  switch (container.type()) {
    case Type::kString:
      if (!item.is_string()) {
        return rt.Raise(
            "TypeError",
            fmt::format("'in <string>' requires string as left operand, not {}", TypeName(item)));
      }
      if (!rt.SpendBytes(container.str().size())) {
        return rt.OutOfSteps();
      }
      return FindText(container.view(), item.view()) != std::string_view::npos;
    case Type::kDict:
      if (!Hashable(item)) {
        return rt.Raise("TypeError", fmt::format("unhashable type: '{}'", TypeName(item)));
      }
      return container.As<Dict>().Find(item) != nullptr;
    case Type::kList:
    case Type::kTuple:
    case Type::kDictView:
    case Type::kRange:
    case Type::kIterator:
    case Type::kUndefined: {
      PX_TRY(const auto items, Iterate(rt, container));
      while (true) {
        PX_TRY(const Value next, items->Next(rt));
        if (next.missing()) {
          return false;
        }
        PX_TRY(const bool same, Equal(rt, next, item));
        if (same) {
          return true;
        }
      }
    }
    default:
      return rt.Raise("TypeError",
                      fmt::format("argument of type '{}' is not iterable", TypeName(container)));
  }
}

std::size_t FindText(std::string_view text, std::string_view needle, std::size_t from) {
  if (from > text.size() || needle.size() > text.size() - from) {
    return std::string_view::npos;
  }
  if (needle.empty()) {
    return from;
  }
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return found == nullptr ? std::string_view::npos
                          : static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

// ---- arithmetic

namespace {

tl::unexpected<Error> Overflow(Runtime& rt) {
  return rt.Raise("OverflowError", "the integer result does not fit into 64 bits");
}

tl::unexpected<Error> BadOperands(Runtime& rt, Operator op, const Value& a, const Value& b) {
  return rt.Raise("TypeError", fmt::format("unsupported operand type(s) for {}: '{}' and '{}'",
                                           Symbol(op), TypeName(a), TypeName(b)));
}

Result<Value> Add(Runtime& rt, const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) {
    if (a.str().markup() || b.str().markup()) {
      PX_TRY(const Str left, Escaped(rt, a));
      PX_TRY(const Str right, Escaped(rt, b));
      StrBuilder both(rt.meter(), left);
      both.Append(right);
      if (both.failed()) {
        return rt.OutOfMemory();
      }
      return Value(both.Finish().AsMarkup());
    }
    StrBuilder out(rt.meter(), a.str());
    out.Append(b.str());
    if (!rt.SpendBytes(b.str().size())) {
      return rt.OutOfSteps();
    }
    if (out.failed()) {
      return rt.OutOfMemory();
    }
    return Value(out.Finish());
  }
  if (a.is_list_or_tuple() && a.type() == b.type()) {
    ListBuilder out(rt);
    for (const Value* part : {&a, &b}) {
      for (const Value& item : part->As<List>().items) {
        PX_CHECK_OK(out.Add(item));
      }
    }
    return out.Finish(a.type());
  }
  if (a.is_string() || a.is_list_or_tuple()) {
    return rt.Raise("TypeError", fmt::format("can only concatenate {} (not \"{}\") to {}",
                                             TypeName(a), TypeName(b), TypeName(a)));
  }
  return BadOperands(rt, Operator::kAdd, a, b);
}

Result<Value> Repeat(Runtime& rt, const Value& sequence, std::int64_t count) {
  const auto times = static_cast<std::uint64_t>(std::max<std::int64_t>(0, count));
  if (sequence.is_string()) {
    const auto bytes = CheckedMul<std::uint64_t>(sequence.str().size(), times);
    if (!bytes || *bytes > rt.meter().left()) {
      return rt.OutOfMemory();
    }
    StrBuilder out(rt.meter());
    for (std::uint64_t i = 0; i < times && !sequence.str().empty(); ++i) {
      out.Append(sequence.str());
    }
    PX_TRY(Value repeated, rt.NewString(out));
    return LikeSource(rt, sequence, std::move(repeated));
  }
  const auto& items = sequence.As<List>().items;
  ListBuilder out(rt);
  for (std::uint64_t i = 0; i < times && !items.empty(); ++i) {
    for (const Value& item : items) {
      PX_CHECK_OK(out.Add(item));
    }
  }
  return out.Finish(sequence.type());
}

Result<Value> IntegerPower(Runtime& rt, std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) {
      return rt.Raise("ZeroDivisionError", "0.0 cannot be raised to a negative power");
    }
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  std::int64_t out = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0) {
      const auto next = CheckedMul(out, base);
      if (!next) {
        return Overflow(rt);
      }
      out = *next;
    }
    exponent >>= 1;
    if (exponent > 0) {
      const auto square = CheckedMul(base, base);
      if (!square) {
        return Overflow(rt);
      }
      base = *square;
    }
  }
  return Value(out);
}

Result<Value> Integers(Runtime& rt, Operator op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  switch (op) {
    case Operator::kAdd:
      return __builtin_add_overflow(a, b, &out) ? Result<Value>(Overflow(rt))
                                                : Result<Value>(Value(out));
    case Operator::kSubtract:
      return __builtin_sub_overflow(a, b, &out) ? Result<Value>(Overflow(rt))
                                                : Result<Value>(Value(out));
    case Operator::kMultiply:
      return __builtin_mul_overflow(a, b, &out) ? Result<Value>(Overflow(rt))
                                                : Result<Value>(Value(out));
    case Operator::kPower:
      return IntegerPower(rt, a, b);
    default:
      break;
  }
  if (b == 0) {
    return rt.Raise("ZeroDivisionError", op == Operator::kDivide ? "division by zero"
                                         : op == Operator::kModulo
                                             ? "integer modulo by zero"
                                             : "integer division or modulo by zero");
  }
  if (op == Operator::kDivide) {
    return Value(static_cast<double>(a) / static_cast<double>(b));
  }
  if (b == -1) {
    if (op == Operator::kModulo) {
      return Value(std::int64_t{0});
    }
    return a == INT64_MIN ? Result<Value>(Overflow(rt)) : Result<Value>(Value(-a));
  }
  const std::int64_t remainder = a % b;
  const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
  return op == Operator::kModulo ? Value(adjust ? remainder + b : remainder)
                                 : Value(a / b - (adjust ? 1 : 0));
}

Result<Value> Reals(Runtime& rt, Operator op, double a, double b) {
  switch (op) {
    case Operator::kAdd:
      return Value(a + b);
    case Operator::kSubtract:
      return Value(a - b);
    case Operator::kMultiply:
      return Value(a * b);
    case Operator::kPower:
      if (a == 0.0 && b < 0) {
        return rt.Raise("ZeroDivisionError", "0.0 cannot be raised to a negative power");
      }
      if (a < 0 && b != std::trunc(b)) {
        return rt.Unsupported("a complex number");
      }
      return Value(std::pow(a, b));
    default:
      break;
  }
  if (b == 0.0) {
    return rt.Raise("ZeroDivisionError", op == Operator::kDivide ? "float division by zero"
                                         : op == Operator::kModulo
                                             ? "float modulo"
                                             : "float floor division by zero");
  }
  if (op == Operator::kDivide) {
    return Value(a / b);
  }
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0.0 && (remainder < 0) != (b < 0)) {
    remainder += b;
    quotient -= 1.0;
  }
  return op == Operator::kModulo ? Value(remainder) : Value(std::floor(quotient + 0.5));
}

}  // namespace

Result<Value> Arithmetic(Runtime& rt, Operator op, const Value& a, const Value& b) {
  if (op == Operator::kModulo && a.is_string()) {
    return PercentFormat(rt, a.str(), b);
  }
  if (IsWhole(a) && IsWhole(b)) {
    return Integers(rt, op, *a.AsInt(), *b.AsInt());
  }
  if (IsNumber(a) && IsNumber(b)) {
    return Reals(rt, op, *a.AsFloat(), *b.AsFloat());
  }
  for (const Value* side : {&a, &b}) {
    if (side->is_undefined()) {
      return rt.UseOf(*side);
    }
    if (side->is(Type::kBigInt)) {
      return Overflow(rt);
    }
  }
  if (op == Operator::kAdd) {
    return Add(rt, a, b);
  }
  if (op == Operator::kMultiply) {
    const bool left = a.is_string() || a.is_list_or_tuple();
    const bool right = b.is_string() || b.is_list_or_tuple();
    if (left && IsWhole(b)) {
      return Repeat(rt, a, *b.AsInt());
    }
    if (right && IsWhole(a)) {
      return Repeat(rt, b, *a.AsInt());
    }
    if (left || right) {
      return rt.Raise("TypeError", fmt::format("can't multiply sequence by non-int of type '{}'",
                                               TypeName(left ? b : a)));
    }
  }
  return BadOperands(rt, op, a, b);
}

Result<Value> Negate(Runtime& rt, Operator op, const Value& value) {
  const bool minus = op == Operator::kNegate;
  if (const auto whole = value.AsInt()) {
    return minus ? Integers(rt, Operator::kSubtract, 0, *whole) : Result<Value>(Value(*whole));
  }
  if (value.is(Type::kFloat)) {
    return minus ? Value(-value.real()) : value;
  }
  if (value.is_undefined()) {
    return rt.UseOf(value);
  }
  if (value.is(Type::kBigInt)) {
    return Overflow(rt);
  }
  return rt.Raise("TypeError", fmt::format("bad operand type for unary {}: '{}'", minus ? "-" : "+",
                                           TypeName(value)));
}

}  // namespace pixii::text::jinja
