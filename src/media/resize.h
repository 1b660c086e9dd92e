// Images of another size, bit for bit as Pillow makes them.
//
// Training pipelines resize with Pillow, and a model sees the difference: two grey levels at an
// edge move its features. So this is integer arithmetic with the same roundings, never floats.
//
// Thread: any; pure.
// Source: Pillow's Resample.c (facts only): two passes, horizontal first, 8 bits in between; the
// filter grows with the scale when shrinking; weights are doubles, normalised, then rounded to 22
// fractional bits.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "media/image.h"

namespace pixii::media {

enum class Filter : std::uint8_t {
  kBilinear,  // triangle, 1 pixel to each side
  kBicubic,   // a = -0.5, 2 pixels
  kLanczos,   // 3 pixels
};

/// "bilinear", "bicubic" or "lanczos"; nothing for other names.
std::optional<Filter> FilterOf(std::string_view name);

inline constexpr std::uint32_t kResizeSideMax = 65'536;                      // pixels
inline constexpr std::uint64_t kResizePixelsMax = std::uint64_t{256} << 20;  // of what is made

/// `image` with `size`. Errors: kInvalidArgument naming the side that is not 1 .. kResizeSideMax;
/// kTooLarge if the result or what is kept between the passes has more than kResizePixelsMax
/// pixels. O(pixels of both * the filter's width).
Result<Image> Resize(const Image& image, ImageSize size, Filter filter);

}  // namespace pixii::media
