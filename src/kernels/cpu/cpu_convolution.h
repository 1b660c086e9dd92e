// How the CPU backend lays out what a convolution sees: rows of pixels with their padding, or all
// of it for each output pixel.
//
// Thread: any number of workers, each on its own rows.
#pragma once

#include "kernels/convolution.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/tensor.h"

namespace pixii::kernels {

/// What output pixels first_pixel, ... of a convolution see, a row of `out` each. Pixels beside
/// each other lie so in memory too: those of a kernel's row are copied at once.
void UnfoldPixels(const Matrix& in, const ConvolutionShape& shape, const Matrix& out,
                  Index first_pixel);

/// Copies rows of pixels with what pads them, enlarged where the convolution sees them so.
class PixelRows final {
 public:
  /// `row_count` rows of each of the kernel's frames. Both outlive this.
  PixelRows(const Matrix& in, const ConvolutionShape& shape, Index row_count)
      : in_(in), shape_(shape), rows_(row_count) {}

  Index row_floats() const {
    return (Index{shape_.in.width} * shape_.upscale + shape_.pad_left + shape_.pad_right) *
           in_.cols;
  }

  /// Of all the kernel's frames.
  Index row_count() const { return shape_.kernel.frames * rows_; }

  /// Offsets in floats of what a pixel sees: kernel.width * channels from each on.
  std::vector<Index> Segments() const;

  /// Rows begin .. end - 1 of row_count(), as output frame `frame` sees them; the first of a frame
  /// is at `top`, which may lie in the padding.
  void Copy(Index frame, Index top, Index begin, Index end, float* to) const;

 private:
  const Matrix& in_;
  const ConvolutionShape& shape_;
  Index rows_;  // of a frame
};

}  // namespace pixii::kernels
