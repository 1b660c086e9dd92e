// Python's text formatting: repr of strings, the % operator, str.format.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace pixii::text::jinja {

/// repr(text), appended; the quotes are trusted, the characters keep their provenance.
Result<void> AppendQuoted(Runtime& rt, StrBuilder& out, const Str& text);

/// format % args.
Result<Value> PercentFormat(Runtime& rt, const Str& format, const Value& args);

/// format.format(*args, **kwargs), with the sandbox's rules for attributes.
Result<Value> BraceFormat(Runtime& rt, const Str& format, const CallArgs& args);

/// strftime of `rt.now()`; time zone fields are empty, as for Python's naive datetime.
Result<std::string> FormatTime(const Runtime& rt, std::string_view format);

}  // namespace pixii::text::jinja
