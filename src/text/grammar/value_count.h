// How many JSON values satisfy a formula, where they are few: what items that must be unique run
// out of.
//
// Thread: as the store. Lists and objects count as many.
#pragma once

#include <cstdint>

#include "text/grammar/formula.h"

namespace pixii::text::grammar {

/// The number of values that satisfy `formula`, at most `count_max` + 1, which stands for more or
/// too many to tell.
std::uint64_t CountValues(FormulaStore& store, FormulaId formula, std::uint64_t count_max);

}  // namespace pixii::text::grammar
