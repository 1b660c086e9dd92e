// Floats of 16 bits as bits: rounded from fp32 to nearest even, and widened exactly.
//
// Thread: plain functions.
#pragma once

#include <cstdint>

namespace pixii {

/// Upper half of the fp32 bits, round to nearest even; NaN stays NaN.
std::uint16_t Bf16FromFloat(float value);
float FloatFromBf16(std::uint16_t bits);
std::uint16_t F16FromFloat(float value);
float FloatFromF16(std::uint16_t bits);

}  // namespace pixii
