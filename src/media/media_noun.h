// The sentences about pictures and videos that are refused; each begins with what is wrong.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace pixii::media {

/// What the sentences speak of, and the field that they name.
struct MediaNoun {
  const char* noun;

  Error Truncated(std::string_view why) const {
    return {Code::kInvalidArgument, fmt::format("{} is truncated: {}", noun, why), noun};
  }

  Error Corrupt(std::string_view why) const {
    return {Code::kInvalidArgument, fmt::format("{} is corrupt: {}", noun, why), noun};
  }

  Error Unsupported(std::string_view why) const {
    return {Code::kUnsupported, fmt::format("{} is of an unsupported kind: {}", noun, why), noun};
  }

  /// `what` has `value` of `unit`, and the limit `name` is `limit`.
  Error TooLarge(std::string_view what, std::uint64_t value, std::string_view unit,
                 std::string_view name, std::uint64_t limit) const {
    return {Code::kTooLarge,
            fmt::format("{} is too large: {} {} {}, above the limit {} of {}", noun, what, value,
                        unit, name, limit),
            noun};
  }

  Error TakesMemory(std::string_view whose) const {
    return {Code::kTooLarge,
            fmt::format("{} is too large: {} gets no memory to decode it", noun, whose), noun};
  }
};

inline constexpr MediaNoun kImage{"image"};
inline constexpr MediaNoun kFilm{"video"};

}  // namespace pixii::media
