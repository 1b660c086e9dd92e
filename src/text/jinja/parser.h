// Template source to a tree with resolved variables.
//
// Source: Jinja 3.1, template designer documentation; grammar and precedence checked against
// Jinja 3.1.6.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"

namespace pixii::text::jinja {

/// Errors: kInvalidArgument with the line: bad syntax, unknown filter or test, a budget of
/// `limits`, invalid UTF-8; kUnsupported for tags, filters and tests that Jinja has and this engine
/// has not (include, import, extends, ...).
Result<Template> ParseTemplate(std::string_view source, const Limits& limits);

}  // namespace pixii::text::jinja
