// The shape of a convolution over frames of rows of pixels, channels last.
//
// Thread: values.
// Layout: a volume is a Matrix [frames * height * width, channels]: frame by frame, row by row.
#pragma once

#include <cstdint>

namespace pixii::kernels {

struct Volume {
  std::int32_t frames = 1;
  std::int32_t height = 1;
  std::int32_t width = 1;

  std::int64_t frame_pixels() const { return std::int64_t{height} * width; }

  std::int64_t pixels() const { return frames * frame_pixels(); }

  bool operator==(const Volume&) const = default;
};

/// What an output pixel sees: kernel.frames x kernel.height x kernel.width input pixels, their
/// channels one behind the other in that order. Frames are never padded (a causal convolution is
/// given its history in front of the new frames); pixels outside a frame are zeros.
struct ConvolutionShape {
  Volume in;
  Volume kernel;
  std::int32_t stride_frames = 1;
  std::int32_t stride = 1;   // down and across
  std::int32_t upscale = 1;  // each input pixel stands for upscale x upscale equal ones
  std::int32_t pad_top = 0;
  std::int32_t pad_bottom = 0;
  std::int32_t pad_left = 0;
  std::int32_t pad_right = 0;

  /// Pre: no extent of the kernel is larger than the padded input.
  Volume out() const {
    return {.frames = (in.frames - kernel.frames) / stride_frames + 1,
            .height = (in.height * upscale + pad_top + pad_bottom - kernel.height) / stride + 1,
            .width = (in.width * upscale + pad_left + pad_right - kernel.width) / stride + 1};
  }
};

}  // namespace pixii::kernels
