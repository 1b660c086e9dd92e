#include "media/decode.h"

#include <utility>

#include "media/decoders.h"

namespace pixii::media {

namespace {

// Colour `over` white, as Pillow's paste rounds: (a * m + b * (255 - m)) / 255 to the nearest.
std::uint8_t OnWhite(std::uint8_t colour, std::uint8_t alpha) {
  const std::uint32_t sum = std::uint32_t{colour} * alpha + 255U * (255U - alpha) + 128;
  return static_cast<std::uint8_t>(((sum >> 8) + sum) >> 8);
}

Result<void> DecodeInto(Bytes file, const ImageInfo& info, const PixelRules& rules, Image& out) {
  switch (info.format) {
    case Format::kJpeg:
      return DecodeJpeg(file, info, out);
    case Format::kPng:
      return DecodePng(file, info, rules, out);
    case Format::kWebp:
      return DecodeWebp(file, info, rules, out);
    case Format::kGif:
      return DecodeGif(file, info, rules, out);
    case Format::kBmp:
      return DecodeBmp(file, info, rules, out);
  }
  return {};
}

}  // namespace

void StoreRow(std::span<const Pixel> row, Alpha alpha, std::uint8_t* rgb) {
  for (const Pixel& pixel : row) {
    const bool blends = alpha == Alpha::kWhite && pixel.alpha != 255;
    *rgb++ = blends ? OnWhite(pixel.red, pixel.alpha) : pixel.red;
    *rgb++ = blends ? OnWhite(pixel.green, pixel.alpha) : pixel.green;
    *rgb++ = blends ? OnWhite(pixel.blue, pixel.alpha) : pixel.blue;
  }
}

ImageSize DecodedSize(const ImageInfo& info, const DecodeOptions& options) {
  if (options.resize) {
    return options.resize->size;
  }
  return options.exif ? info.oriented_size() : info.size;
}

Result<Image> Decode(Bytes file, const DecodeOptions& options) {
  PX_TRY(const ImageInfo info, ReadImageInfo(file, options.limits));
  Image image{.size = info.size,
              .rgb = std::vector<std::uint8_t>(info.size.pixel_count() * kImageChannels)};
  PX_CHECK_OK(DecodeInto(file, info, options.pixels, image));
  if (options.exif) {
    image = Oriented(std::move(image), info.orientation);
  }
  return options.resize ? Resize(image, options.resize->size, options.resize->filter)
                        : Result<Image>(std::move(image));
}

Image Oriented(Image image, std::uint8_t orientation) {
  if (orientation <= 1 || orientation > 8) {
    return image;
  }
  // 2 mirrored, 3 upside down, 4 both; 5 to 8 as 1, 4, 2 and 3 with rows for columns: what stands
  // at the top is the file's left side.
  const bool swaps = orientation >= 5;
  const bool from_right =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const ImageSize stored = image.size;
  Image out{.size = swaps ? ImageSize{.width = stored.height, .height = stored.width} : stored,
            .rgb = std::vector<std::uint8_t>(image.rgb.size())};
  for (std::uint32_t y = 0; y < out.size.height; ++y) {
    std::uint8_t* to = out.row(y);
    for (std::uint32_t x = 0; x < out.size.width; ++x, to += kImageChannels) {
      std::uint32_t column = swaps ? y : x;
      std::uint32_t row = swaps ? x : y;
      column = from_right ? stored.width - 1 - column : column;
      row = from_bottom ? stored.height - 1 - row : row;
      const std::uint8_t* from = image.row(row) + std::size_t{column} * kImageChannels;
      to[0] = from[0];
      to[1] = from[1];
      to[2] = from[2];
    }
  }
  return out;
}

}  // namespace pixii::media
