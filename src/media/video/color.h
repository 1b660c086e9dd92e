// RGB pictures to the planes that video codecs take: BT.709, limited range, 4:2:0.
//
// Thread: pure functions.
// Source: ITU-R BT.709 (luma factors 0.2126, 0.7152, 0.0722), 8 bits: Y 16 .. 235, Cb and Cr 16 ..
// 240.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pixii::media {

struct PictureSize {
  std::int32_t width = 0;
  std::int32_t height = 0;

  bool operator==(const PictureSize&) const = default;
};

/// One picture: Y [height, width], then Cb and Cr [ceil(height / 2), ceil(width / 2)].
struct YuvPicture {
  PictureSize size;
  std::vector<std::uint8_t> planes;

  std::int32_t chroma_width() const { return (size.width + 1) / 2; }

  std::int32_t chroma_height() const { return (size.height + 1) / 2; }

  std::uint8_t* y() { return planes.data(); }

  std::uint8_t* cb() {
    return planes.data() + static_cast<std::ptrdiff_t>(size.width) * size.height;
  }

  std::uint8_t* cr() {
    return cb() + static_cast<std::ptrdiff_t>(chroma_width()) * chroma_height();
  }
};

/// `rgb` [height, width, 3]. A chroma sample is the mean of its four pixels (at odd edges of those
/// there are); all are rounded to nearest.
YuvPicture YuvFromRgb(PictureSize size, std::span<const std::uint8_t> rgb);

/// 0 .. 1 to 0 .. 255, rounded to nearest; others are clipped, NaN is 0.
std::uint8_t ByteFromUnit(float value);

}  // namespace pixii::media
