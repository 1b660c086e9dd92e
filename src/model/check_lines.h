// How `pixii check` compares: by the largest error, or bit by bit.
//
// Thread: pure functions.
#pragma once

#include <span>
#include <string>

#include "model/check.h"

namespace pixii::model {

/// Largest difference relative to the largest golden value; infinite if anything of ours is not
/// finite. Pre: `ours` is as long as `golden`.
CheckLine CompareValues(std::string name, std::span<const float> ours,
                        std::span<const float> golden, double tolerance);

/// How many floats differ in any bit.
CheckLine CompareBits(std::string name, std::span<const float> ours, std::span<const float> whole);

/// How many integers differ.
CheckLine CompareIntegers(std::string name, std::span<const std::int32_t> ours,
                          std::span<const std::int32_t> golden);

}  // namespace pixii::model
