// The functions every template sees: range, dict, namespace, cycler, joiner, raise_exception,
// strftime_now.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace pixii::text::jinja {

/// Missing if there is no such global.
Result<Value> FindGlobal(Runtime& rt, std::string_view name);

/// joiner(): "" the first time, then its separator.
Result<Value> CallJoiner(Runtime& rt, const Value& joiner, CallArgs& args);

}  // namespace pixii::text::jinja
