// Pictures to the bytes of an image file.
//
// Thread: pure functions. Output is the same for the same input and the same libraries.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "media/image.h"

namespace pixii::media {

enum class ImageFileFormat : std::uint8_t { kPng, kJpeg, kWebp };

/// `quality`: of JPEG and WebP, 0 smallest .. 100 best. Errors: kInvalidArgument (no pixels, sides
/// past what the format has), kUnavailable with the library's words.
Result<std::string> EncodeImage(const Image& image, ImageFileFormat format, std::int32_t quality);

}  // namespace pixii::media
