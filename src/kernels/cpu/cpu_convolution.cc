#include "kernels/cpu/cpu_convolution.h"

#include <algorithm>
#include <cstring>

namespace pixii::kernels {

void UnfoldPixels(const Matrix& in, const ConvolutionShape& shape, const Matrix& out,
                  Index first_pixel) {
  const Volume to = shape.out();
  const Volume& kernel = shape.kernel;
  const Index channels = in.cols;
  const bool dense = in.stride == channels && shape.upscale == 1;
  for (Index row = 0; row < out.rows; ++row) {
    const Index pixel = first_pixel + row;
    const Index frame = pixel / to.frame_pixels() * shape.stride_frames;
    const Index top = pixel / to.width % to.height * shape.stride - shape.pad_top;
    const Index left = pixel % to.width * shape.stride - shape.pad_left;
    float* at = out.f32(row);
    for (Index kf = 0; kf < kernel.frames; ++kf) {
      const Index frame_row = (frame + kf) * shape.in.frame_pixels();
      for (Index y = top; y < top + kernel.height; ++y) {
        const bool outside = y < 0 || y >= Index{shape.in.height} * shape.upscale;
        const Index row_begin = frame_row + y / shape.upscale * shape.in.width;
        const Index right = left + kernel.width;
        if (!outside && dense && left >= 0 && right <= shape.in.width) {
          std::memcpy(at, in.f32(row_begin + left),
                      static_cast<std::size_t>(kernel.width * channels) * sizeof(float));
          at += kernel.width * channels;
          continue;
        }
        for (Index x = left; x < right; ++x, at += channels) {
          if (outside || x < 0 || x >= Index{shape.in.width} * shape.upscale) {
            std::fill_n(at, channels, 0.0F);
          } else {
            std::copy_n(in.f32(row_begin + x / shape.upscale), channels, at);
          }
        }
      }
    }
  }
}

std::vector<Index> PixelRows::Segments() const {
  std::vector<Index> out;
  for (Index frame = 0; frame < shape_.kernel.frames; ++frame) {
    for (Index row = 0; row < shape_.kernel.height; ++row) {
      out.push_back((frame * rows_ + row) * row_floats());
    }
  }
  return out;
}

void PixelRows::Copy(Index frame, Index top, Index begin, Index end, float* to) const {
  const Index channels = in_.cols;
  const bool dense = in_.stride == channels && shape_.upscale == 1;
  for (Index row = begin; row < end; ++row) {
    float* at = to + row * row_floats();
    const Index y = top + row % rows_;
    if (y < 0 || y >= Index{shape_.in.height} * shape_.upscale) {
      std::fill_n(at, row_floats(), 0.0F);
      continue;
    }
    const Index first = (frame * shape_.stride_frames + row / rows_) * shape_.in.frame_pixels() +
                        y / shape_.upscale * shape_.in.width;
    at = std::fill_n(at, shape_.pad_left * channels, 0.0F);
    if (dense) {
      at = std::copy_n(in_.f32(first), shape_.in.width * channels, at);
    } else {
      for (Index x = 0; x < Index{shape_.in.width} * shape_.upscale; ++x) {
        at = std::copy_n(in_.f32(first + x / shape_.upscale), channels, at);
      }
    }
    std::fill_n(at, shape_.pad_right * channels, 0.0F);
  }
}

}  // namespace pixii::kernels
