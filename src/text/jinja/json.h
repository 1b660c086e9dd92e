// Between JSON and values: the request's data in, tojson out.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"
#include "wire/json.h"

namespace pixii::text::jinja {

/// The value Python's json.loads gives; strings (keys too) are marked untrusted if `untrusted`.
/// Errors: kInvalidArgument: invalid UTF-8, deeper than value_depth_max, or past the memory budget.
Result<Value> FromJson(Runtime& rt, const wire::Json& json, bool untrusted);

/// A string of this run.
Result<Value> MakeString(Runtime& rt, std::string_view text, bool untrusted);

/// json.dumps' arguments.
struct DumpOptions {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool indented = false;
  Str indent;  // of one level, if indented
  Str item_separator = Str::Literal(", ");
  Str key_separator = Str::Literal(": ");
};

/// json.dumps(value): punctuation is trusted, characters of strings keep their provenance.
Result<Value> ToJson(Runtime& rt, const Value& value, const DumpOptions& options);

}  // namespace pixii::text::jinja
