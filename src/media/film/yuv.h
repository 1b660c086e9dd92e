// Planes of a video frame to RGB.
//
// Thread: any; pure.
// Source: ITU-R BT.601, BT.709, SMPTE 240M, BT.2020 (luma factors), ITU-T H.273 (8-bit ranges). A
// pixel takes the colour difference sample that its place falls in: none is mixed from its
// neighbours. Numbers: with luma factors r, g, b and a range of 219 and 224 steps from 16 and 128
// (limited) or of 255 from 0 and 128 (full),
//   R = Y + 2 (1 - r) Cr,  B = Y + 2 (1 - b) Cb,  G = Y - (b * 2 (1 - b) Cb + r * 2 (1 - r) Cr) / g
// each term rounded to 16 fractional bits, their sum to the nearest integer, then clipped.
#pragma once

#include <cstdint>

#include "media/film/film_index.h"

namespace pixii::media {

struct YuvPlane {
  const std::uint8_t* data = nullptr;
  std::int64_t stride = 0;  // bytes from row to row
};

/// Planes of 8 bits; of chroma every 2^shift-th sample is there.
struct YuvFrame {
  ImageSize size = {};
  YuvPlane y;
  YuvPlane cb;
  YuvPlane cr;
  std::uint32_t chroma_shift_x = 1;
  std::uint32_t chroma_shift_y = 1;
  FilmColors colors = {};  // kUnknown is taken as BT.601, as swscale takes it
};

/// Errors: kUnsupported for planes that hold RGB.
Result<Image> RgbOf(const YuvFrame& frame);

}  // namespace pixii::media
