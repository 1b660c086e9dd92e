// Images of files as models get them: RGB, as Pillow's convert("RGB") gives it.
//
// Decodes in this process: for what is trusted, for tests, and for the child that decodes in a
// sandbox (media/decoder_pool.h).
//
// Thread: any; pure.
// Source: Pillow's readers (facts only): alpha is dropped; CMYK of JPEG is taken as inverted;
// grey of 16 bits is clipped to 255; a palette's missing colours are black.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "media/image.h"
#include "media/image_info.h"
#include "media/resize.h"

namespace pixii::media {

enum class Alpha : std::uint8_t {
  kDrop,   // the colour as stored, as Pillow's convert
  kWhite,  // pasted on white, as TensorRT-LLM does
};

enum class DeepGrey : std::uint8_t {
  kClip,  // values above 255 are white, as Pillow's convert
  kHigh,  // the high byte: value / 256
};

/// How stored pixels become RGB.
struct PixelRules {
  Alpha alpha = Alpha::kDrop;
  DeepGrey deep_grey = DeepGrey::kClip;  // PNG of 16-bit grey
};

struct Resizing {
  ImageSize size = {};
  Filter filter = Filter::kBicubic;
};

struct DecodeOptions {
  PixelRules pixels = {};
  bool exif = false;  // turned as its Exif orientation says
  std::optional<Resizing> resize = {};
  ImageLimits limits = {};
};

/// The size of what Decode makes of an image.
ImageSize DecodedSize(const ImageInfo& info, const DecodeOptions& options);

/// The first frame of `file`. Errors, param "image": as ReadImageInfo, before anything is decoded;
/// kInvalidArgument if it is truncated or corrupt; as Resize.
Result<Image> Decode(Bytes file, const DecodeOptions& options);

/// `image` turned so that Exif `orientation` becomes 1.
Image Oriented(Image image, std::uint8_t orientation);

}  // namespace pixii::media
