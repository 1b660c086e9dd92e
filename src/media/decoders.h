// One decoder for each format. Each gets an image of the size of its header, and fills it.
#pragma once

#include <array>
#include <span>

#include "media/decode.h"

namespace pixii::media {

struct Pixel {
  std::uint8_t red = 0;
  std::uint8_t green = 0;
  std::uint8_t blue = 0;
  std::uint8_t alpha = 255;
};

/// Colours that a file does not list are black.
using Palette = std::array<Pixel, 256>;

/// Writes `row` as RGB.
void StoreRow(std::span<const Pixel> row, Alpha alpha, std::uint8_t* rgb);

// Errors: kInvalidArgument (truncated, corrupt), kUnsupported.
Result<void> DecodeJpeg(Bytes file, const ImageInfo& info, Image& out);
Result<void> DecodePng(Bytes file, const ImageInfo& info, const PixelRules& rules, Image& out);
Result<void> DecodeWebp(Bytes file, const ImageInfo& info, const PixelRules& rules, Image& out);
Result<void> DecodeGif(Bytes file, const ImageInfo& info, const PixelRules& rules, Image& out);
Result<void> DecodeBmp(Bytes file, const ImageInfo& info, const PixelRules& rules, Image& out);

}  // namespace pixii::media
