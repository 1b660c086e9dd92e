// AVI files of JPEG pictures (MJPEG): what is left where no video can be coded, and what reads
// everywhere.
//
// Thread: pure functions. Output is the same for the same input: no clock, no random source.
// Source: "AVI RIFF File Reference" (Microsoft): avih, strh, BITMAPINFOHEADER, idx1.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "media/video/color.h"

namespace pixii::media {

inline constexpr std::size_t kAviSizeMax = std::size_t{1} << 30;  // bytes: what all readers take

struct JpegTrack {
  PictureSize size;
  std::uint32_t rate = 16000;  // pictures in `scale` seconds
  std::uint32_t scale = 1000;
};

/// `pictures`: JPEG files. Errors: kInvalidArgument for none, no sides or no rate; kTooLarge.
Result<std::string> WriteAvi(const JpegTrack& track, std::span<const std::string> pictures);

}  // namespace pixii::media
