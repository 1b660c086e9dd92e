// Whether sampling parameters are in their ranges: every field, named in the error.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "engine/request_check.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

inline constexpr std::uint32_t kAllowedTokensMax = 65'536;
inline constexpr std::uint32_t kBadWordsMax = 4'096;
inline constexpr std::uint32_t kBadWordTokensMax = 256;  // tokens of one
inline constexpr std::uint32_t kDryBreakersMax = 4'096;

/// Errors: kInvalidArgument naming `name`, the value and the range; NaN is in none.
Result<void> CheckRange(std::string_view name, double value, double low, double high);

/// Errors: kInvalidArgument naming `name`, the place and the vocabulary.
Result<void> CheckTokens(std::string_view name, std::span<const TokenId> tokens,
                         std::uint32_t vocab_size);

/// Errors: kInvalidArgument naming the field, its value and the limit.
Result<void> CheckSampling(const wire::SamplingParams& params, const RequestLimits& limits);

}  // namespace pixii::engine
