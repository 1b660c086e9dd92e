// The tests of Jinja ("is defined" and its like).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace pixii::text::jinja {

namespace {

template <bool (*kTest)(const Value&)>
Result<bool> Plain(Runtime& rt, const Value& value, CallArgs& args) {
  ArgumentReader reader(rt, "test", args);
  PX_CHECK_OK(reader.Done());
  return kTest(value);
}

bool IsDefined(const Value& v) { return !v.is_undefined(); }

bool IsUndefined(const Value& v) { return v.is_undefined(); }

bool IsNone(const Value& v) { return v.is_none(); }

bool IsBoolean(const Value& v) { return v.is(Type::kBool); }

bool IsTrue(const Value& v) { return v.is(Type::kBool) && v.boolean(); }

bool IsFalse(const Value& v) { return v.is(Type::kBool) && !v.boolean(); }

bool IsInteger(const Value& v) { return v.is(Type::kInt) || v.is(Type::kBigInt); }

bool IsFloat(const Value& v) { return v.is(Type::kFloat); }

bool IsNumber(const Value& v) { return IsInteger(v) || IsFloat(v) || IsBoolean(v); }

bool IsString(const Value& v) { return v.is_string(); }

bool IsMapping(const Value& v) { return v.is(Type::kDict); }

bool IsCallable(const Value& v) {
  switch (v.type()) {
    case Type::kMacro:
    case Type::kFunction:
    case Type::kMethod:
    case Type::kLoop:
    case Type::kJoiner:
    case Type::kUndefined:  // Undefined has __call__, which fails
      return true;
    default:
      return false;
  }
}

/// Python's try: len(v); v.__getitem__. Undefined has both.
bool IsSequence(const Value& v) {
  return v.is_string() || v.is_list_or_tuple() || v.is(Type::kDict) || v.is(Type::kRange) ||
         v.is_undefined();
}

bool IsIterable(const Value& v) {
  return IsSequence(v) || v.is(Type::kDictView) || v.is(Type::kIterator) || v.is(Type::kLoop);
}

bool IsEscaped(const Value& v) { return v.is_string() && v.str().markup(); }

template <bool kUpper>
Result<bool> IsCase(Runtime& rt, const Value& value, CallArgs& args) {
  ArgumentReader reader(rt, "test", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Str text, ToStr(rt, value));
  bool some = false;
  for (StrCursor cursor(text); !cursor.done(); cursor.Next()) {
    const char32_t c = cursor.code_point();
    if (IsCased(c) && !(kUpper ? IsUpper(c) : IsLower(c))) {
      return false;
    }
    some = some || IsCased(c);
  }
  return some;
}

template <Operator kOp>
Result<bool> Compared(Runtime& rt, const Value& value, CallArgs& args) {
  ArgumentReader reader(rt, "test", args);
  PX_TRY(const Value other, reader.TakeRequired("other"));
  PX_CHECK_OK(reader.Done());
  return Compare(rt, kOp, value, other);
}

Result<bool> DivisibleBy(Runtime& rt, const Value& value, CallArgs& args) {
  ArgumentReader reader(rt, "divisibleby", args);
  PX_TRY(const Value number, reader.TakeRequired("num"));
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Value rest, Arithmetic(rt, Operator::kModulo, value, number));
  return !Truthy(rest);
}

template <bool kOdd>
Result<bool> Parity(Runtime& rt, const Value& value, CallArgs& args) {
  ArgumentReader reader(rt, "test", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Value rest, Arithmetic(rt, Operator::kModulo, value, Value(std::int64_t{2})));
  return Equal(rt, rest, Value(std::int64_t{kOdd ? 1 : 0}));
}

Result<bool> SameAs(Runtime& rt, const Value& value, CallArgs& args) {
  ArgumentReader reader(rt, "sameas", args);
  PX_TRY(const Value other, reader.TakeRequired("other"));
  PX_CHECK_OK(reader.Done());
  if (value.type() != other.type()) {
    return false;
  }
  switch (value.type()) {
    case Type::kNone:
      return true;
    case Type::kBool:
    case Type::kInt:
    case Type::kFloat:
    case Type::kString:
      return Equal(rt, value, other);  // what is one object in CPython depends on its caches
    case Type::kMissing:
      return false;
    default:
      return value.object() == other.object();
  }
}

template <bool kFilter>
Result<bool> Exists(Runtime& rt, const Value& value, CallArgs& args) {
  ArgumentReader reader(rt, "test", args);
  PX_CHECK_OK(reader.Done());
  if (!value.is_string()) {
    return false;
  }
  return kFilter ? FindFilter(value.view()) != nullptr : FindTest(value.view()) != nullptr;
}

struct Row {
  std::string_view name;
  TestCall call;
};

constexpr Row kTests[] = {
    {"!=", Compared<Operator::kNotEqual>},
    {"<", Compared<Operator::kLess>},
    {"<=", Compared<Operator::kLessEqual>},
    {"==", Compared<Operator::kEqual>},
    {">", Compared<Operator::kGreater>},
    {">=", Compared<Operator::kGreaterEqual>},
    {"boolean", Plain<IsBoolean>},
    {"callable", Plain<IsCallable>},
    {"defined", Plain<IsDefined>},
    {"divisibleby", DivisibleBy},
    {"eq", Compared<Operator::kEqual>},
    {"equalto", Compared<Operator::kEqual>},
    {"escaped", Plain<IsEscaped>},
    {"even", Parity<false>},
    {"false", Plain<IsFalse>},
    {"filter", Exists<true>},
    {"float", Plain<IsFloat>},
    {"ge", Compared<Operator::kGreaterEqual>},
    {"greaterthan", Compared<Operator::kGreater>},
    {"gt", Compared<Operator::kGreater>},
    {"in", Compared<Operator::kIn>},
    {"integer", Plain<IsInteger>},
    {"iterable", Plain<IsIterable>},
    {"le", Compared<Operator::kLessEqual>},
    {"lessthan", Compared<Operator::kLess>},
    {"lower", IsCase<false>},
    {"lt", Compared<Operator::kLess>},
    {"mapping", Plain<IsMapping>},
    {"ne", Compared<Operator::kNotEqual>},
    {"none", Plain<IsNone>},
    {"number", Plain<IsNumber>},
    {"odd", Parity<true>},
    {"sameas", SameAs},
    {"sequence", Plain<IsSequence>},
    {"string", Plain<IsString>},
    {"test", Exists<false>},
    {"true", Plain<IsTrue>},
    {"undefined", Plain<IsUndefined>},
    {"upper", IsCase<true>},
};

}  // namespace

TestCall FindTest(std::string_view name) {
  const Row* row = std::find_if(std::begin(kTests), std::end(kTests),
                                [&](const Row& r) { return r.name == name; });
  return row == std::end(kTests) ? nullptr : row->call;
}

}  // namespace pixii::text::jinja
