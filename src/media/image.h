// An image as models read it: 8 bits of red, green and blue for each pixel.
//
// Thread: values.
// Layout, row-major: [height][width][3], no padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pixii::media {

struct ImageSize {
  std::uint32_t width = 0;   // pixels
  std::uint32_t height = 0;  // pixels

  friend bool operator==(const ImageSize&, const ImageSize&) = default;

  std::uint64_t pixel_count() const { return std::uint64_t{width} * height; }
};

inline constexpr std::size_t kImageChannels = 3;

struct Image {
  ImageSize size;
  std::vector<std::uint8_t> rgb;  // size.pixel_count() * kImageChannels

  std::size_t row_bytes() const { return std::size_t{size.width} * kImageChannels; }

  const std::uint8_t* row(std::uint32_t y) const { return rgb.data() + y * row_bytes(); }

  std::uint8_t* row(std::uint32_t y) { return rgb.data() + y * row_bytes(); }
};

}  // namespace pixii::media
