// Python's operators over values: text forms, comparison, arithmetic, subscripts, iteration.
//
// All errors are kInvalidArgument in Python's words with the line, or a budget of Limits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace pixii::text::jinja {

/// repr(float): the shortest digits that round-trip.
std::string FormatFloat(double value);

/// str(value), appended.
Result<void> AppendStr(Runtime& rt, StrBuilder& out, const Value& value);
/// repr(value), appended.
Result<void> AppendRepr(Runtime& rt, StrBuilder& out, const Value& value);
/// str(value).
Result<Str> ToStr(Runtime& rt, const Value& value);

Result<bool> Equal(Runtime& rt, const Value& a, const Value& b);
/// kLess, kLessEqual, kGreater, kGreaterEqual, kEqual, kNotEqual, kIn, kNotIn.
Result<bool> Compare(Runtime& rt, Operator op, const Value& a, const Value& b);
Result<bool> Contains(Runtime& rt, const Value& container, const Value& item);

Result<Value> Arithmetic(Runtime& rt, Operator op, const Value& a, const Value& b);
Result<Value> Negate(Runtime& rt, Operator op, const Value& value);

/// object.name, as Jinja's sandbox sees it: attribute, then item, then undefined.
Result<Value> GetAttribute(Runtime& rt, const Value& object, std::string_view name);
/// object[index]: item, then attribute, then undefined.
Result<Value> GetItem(Runtime& rt, const Value& object, const Value& index);
/// object[start:stop:step]; absent parts are missing values.
Result<Value> GetSlice(Runtime& rt, const Value& object, const Value& start, const Value& stop,
                       const Value& step);

/// iter(value).
Result<std::shared_ptr<Iterator>> Iterate(Runtime& rt, const Value& value);
/// list(value) without the list.
Result<std::vector<Value>> Items(Runtime& rt, const Value& value);
/// len(value).
Result<std::int64_t> Length(Runtime& rt, const Value& value);
/// len(value) if it has one.
bool HasLength(const Value& value);

/// Byte offset of `needle` in `text` from `from`, or npos. Linear.
std::size_t FindText(std::string_view text, std::string_view needle, std::size_t from = 0);

}  // namespace pixii::text::jinja
