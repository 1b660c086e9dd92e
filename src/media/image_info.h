// What a file says about its image before anything is decoded: format, size, frames, orientation.
//
// Own code that reads headers and no pixels, so that limits hold before a decoder runs or memory is
// taken. The format is told by content, never by name or type.
//
// Thread: any; pure.
// Source: ITU T.81 (JPEG), Exif 2.32, the PNG, GIF89a and WebP container specifications, BMP as
// Windows documents it.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "media/byte_reader.h"
#include "media/image.h"

namespace pixii::media {

enum class Format : std::uint8_t { kJpeg, kPng, kWebp, kGif, kBmp };

/// "jpeg", "png", "webp", "gif" or "bmp".
std::string_view FormatName(Format format);

struct ImageLimits {
  std::uint64_t bytes_max = std::uint64_t{64} << 20;   // of the file
  std::uint32_t side_max = 32'768;                     // pixels
  std::uint64_t pixels_max = std::uint64_t{64} << 20;  // width * height
  std::uint32_t frames_max = 1'000;                    // of an animation; the first is decoded
};

struct ImageInfo {
  Format format = Format::kPng;
  ImageSize size = {};           // as stored: before any orientation
  std::uint32_t frames = 1;      // at least 1; counting stops past ImageLimits::frames_max
  std::uint8_t orientation = 1;  // of Exif, 1 .. 8; 1 if there is none or it is no such number

  /// The size once `orientation` was followed: for 5 .. 8 width and height change places.
  ImageSize oriented_size() const {
    return orientation >= 5 ? ImageSize{.width = size.height, .height = size.width} : size;
  }

  friend bool operator==(const ImageInfo&, const ImageInfo&) = default;
};

/// Reads the headers of `file`. Errors, param "image": kInvalidArgument if it is empty, truncated
/// or corrupt, kUnsupported if it is none of the formats, kTooLarge naming the limit that it is
/// past.
Result<ImageInfo> ReadImageInfo(Bytes file, const ImageLimits& limits);

/// The orientation in an Exif block ("II" or "MM" and what follows); 1 if there is none.
std::uint8_t ExifOrientation(Bytes tiff);

}  // namespace pixii::media
