// The sentences about videos that are refused; each begins with what is wrong.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace pixii::media {

inline constexpr const char* kFilmParam = "video";

inline Error FilmTruncated(std::string_view why) {
  return {Code::kInvalidArgument, fmt::format("video is truncated: {}", why), kFilmParam};
}

inline Error FilmCorrupt(std::string_view why) {
  return {Code::kInvalidArgument, fmt::format("video is corrupt: {}", why), kFilmParam};
}

inline Error FilmUnsupported(std::string_view why) {
  return {Code::kUnsupported, fmt::format("video is of an unsupported kind: {}", why), kFilmParam};
}

inline Error FilmTooLarge(std::string_view what, std::uint64_t value, std::string_view unit,
                          std::string_view name, std::uint64_t limit) {
  return {Code::kTooLarge,
          fmt::format("video is too large: {} {} {}, above the limit {} of {}", what, value, unit,
                      name, limit),
          kFilmParam};
}

/// `codec`: how the container names it.
inline Error FilmCodecUnsupported(std::string_view codec) {
  return FilmUnsupported(fmt::format("its codec is {}; JPEG, VP8, VP9 and H.264 are read", codec));
}

}  // namespace pixii::media
