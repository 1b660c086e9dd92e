// Runs a parsed template over one set of variables.
//
// Thread: one run, one thread; many runs may share one Template.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"
#include "text/jinja/string.h"

namespace pixii::text::jinja {

/// Variables of a run; a name hides the global of that name.
using Variables = std::vector<std::pair<std::string, Value>>;

/// Renders `tree`. `rt` was made for this run and dies after it; `variables` hold values made by
/// it. Errors: kInvalidArgument: what Python would raise, the template's own raise_exception (its
/// message is the whole detail, and `messages` the field), or a budget; kUnsupported for what this
/// engine lacks.
Result<StrBuilder::Taken> Run(const Template& tree, Runtime& rt, const Variables& variables);

}  // namespace pixii::text::jinja
