// The filters and tests of Jinja, by name.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/jinja/value.h"

namespace pixii::text::jinja {

class Runtime;

using FilterCall = Result<Value> (*)(Runtime& rt, const Value& input, CallArgs& args);
using TestCall = Result<bool> (*)(Runtime& rt, const Value& input, CallArgs& args);

/// Null if there is no such filter.
FilterCall FindFilter(std::string_view name);
/// Null if there is no such test.
TestCall FindTest(std::string_view name);

/// The parts of FindFilter, one per kind of input.
FilterCall FindTextFilter(std::string_view name);
FilterCall FindSequenceFilter(std::string_view name);

/// Filters of Jinja that this engine refuses by name.
bool IsUnsupportedFilter(std::string_view name);

}  // namespace pixii::text::jinja
