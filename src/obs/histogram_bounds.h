// Bounds of the frontend's histograms as variables have them, in place of the table's.
//
// Thread: once, before the first Registry.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/result.h"

namespace pixii::obs {

using VariableLookup = std::function<std::optional<std::string>(const std::string& name)>;

/// DYN_HISTOGRAM_NAME_MIN, _MAX and _COUNT give so many bounds from one to the other, each the same
/// times the one before, to two digits; what is not set is the table's. NAME is TTFT, ITL, or the
/// metric's name without its unit: REQUEST_DURATION. Errors: kInvalidArgument naming the variable.
Result<void> SetHistogramBounds(const VariableLookup& lookup);

}  // namespace pixii::obs
