// The sentences about images that are refused; each begins with what is wrong.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::media {

inline constexpr const char* kImageParam = "image";

inline Error ImageTruncated(std::string_view why) {
  return {Code::kInvalidArgument, fmt::format("image is truncated: {}", why), kImageParam};
}

inline Error ImageCorrupt(std::string_view why) {
  return {Code::kInvalidArgument, fmt::format("image is corrupt: {}", why), kImageParam};
}

inline Error ImageUnsupported(std::string_view why) {
  return {Code::kUnsupported, fmt::format("image is of an unsupported kind: {}", why), kImageParam};
}

inline Error ImageTakesMemory(std::string_view whose) {
  return {Code::kTooLarge, fmt::format("image is too large: {} gets no memory to decode it", whose),
          kImageParam};
}

/// `what` has `value` of `unit`, and the limit `name` is `limit`.
inline Error ImageTooLarge(std::string_view what, std::uint64_t value, std::string_view unit,
                           std::string_view name, std::uint64_t limit) {
  return {Code::kTooLarge,
          fmt::format("image is too large: {} {} {}, above the limit {} of {}", what, value, unit,
                      name, limit),
          kImageParam};
}

}  // namespace pixii::media
