// To which scope a name belongs, decided before the first run, by the rules of Jinja's own
// compiler.
#pragma once

#include "base/result.h"
#include "text/jinja/ast.h"

namespace pixii::text::jinja {

/// Fills in all slots, frames, functions, filters and tests of `tree`.
/// Errors: kInvalidArgument or kUnsupported with the line, for unknown filters and tests,
/// assignment to `loop`, break or continue outside a loop.
Result<void> ResolveNames(Template& tree);

}  // namespace pixii::text::jinja
