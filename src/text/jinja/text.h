// Text operations that methods and filters share; each keeps the provenance of every character.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/jinja/string.h"
#include "text/jinja/unicode.h"

namespace pixii::text::jinja {

enum class Side : std::uint8_t { kLeft, kRight, kBoth };

/// Without white space, or without the characters of `chars`, at the ends that `side` names.
Str Stripped(const Str& text, Side side, const std::optional<Str>& chars);

/// Every character in that case.
Result<Value> Cased(Runtime& rt, const Str& text, Case wanted);
/// First character in title case, the rest lower.
Result<Value> Capitalized(Runtime& rt, const Str& text);

/// str.replace; `count` < 0: all.
Result<Value> Replaced(Runtime& rt, const Str& text, const Str& from, const Str& to,
                       std::int64_t count);

/// markupsafe.escape: & < > " ' as entities; text that is markup already stays as it is.
Result<Str> Escaped(Runtime& rt, const Value& value);

/// A method's or filter's result with the type of what it came from: Markup gives Markup, in lists
/// and tuples too.
Result<Value> LikeSource(Runtime& rt, const Value& source, Value result);

/// str.splitlines.
Result<std::vector<Str>> Lines(Runtime& rt, const Str& text, bool keep_ends);

/// str.center and its like.
Result<Value> Justified(Runtime& rt, const Str& text, std::int64_t width, const Str& fill,
                        Side pad);

}  // namespace pixii::text::jinja
