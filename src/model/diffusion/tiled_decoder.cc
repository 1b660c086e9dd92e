#include "model/diffusion/tiled_decoder.h"

#include <algorithm>

#include "base/assert.h"
#include "base/checked.h"

namespace pixii::model {
namespace {

/// Values of one row of one frame.
float* RowOf(const Tile& tile, std::int32_t frame, std::int32_t row) {
  const std::int64_t at = (std::int64_t{frame} * tile.volume.height + row) * tile.volume.width * 3;
  return const_cast<float*>(tile.rgb.data()) + at;
}

void Mix(const float* before, float share, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    to[i] = before[i] * (1.0F - share) + to[i] * share;
  }
}

}  // namespace

void BlendDown(const Tile& before, std::int32_t extent, Tile& to) {
  PX_ASSERT(before.volume.frames == to.volume.frames && before.volume.width == to.volume.width);
  extent = std::min({extent, before.volume.height, to.volume.height});
  for (std::int32_t frame = 0; frame < to.volume.frames; ++frame) {
    for (std::int32_t y = 0; y < extent; ++y) {
      Mix(RowOf(before, frame, before.volume.height - extent + y),
          static_cast<float>(y) / static_cast<float>(extent), std::int64_t{to.volume.width} * 3,
          RowOf(to, frame, y));
    }
  }
}

void BlendAcross(const Tile& before, std::int32_t extent, Tile& to) {
  PX_ASSERT(before.volume.frames == to.volume.frames && before.volume.height == to.volume.height);
  extent = std::min({extent, before.volume.width, to.volume.width});
  for (std::int32_t frame = 0; frame < to.volume.frames; ++frame) {
    for (std::int32_t y = 0; y < to.volume.height; ++y) {
      for (std::int32_t x = 0; x < extent; ++x) {
        Mix(RowOf(before, frame, y) + (before.volume.width - extent + x) * 3,
            static_cast<float>(x) / static_cast<float>(extent), 3, RowOf(to, frame, y) + x * 3);
      }
    }
  }
}

TiledDecoder::TiledDecoder(PictureVae& vae, const TileOptions& options, std::int32_t height,
                           std::int32_t width)
    : vae_(vae), height_(height), width_(width) {
  const std::int32_t scale = vae.space_scale();
  const std::int32_t whole = std::max(height, width);
  size_ = options.size > 0 ? std::clamp(options.size / scale, 1, whole) : whole;
  stride_ = options.stride > 0 ? std::clamp(options.stride / scale, 1, size_) : size_;
  const bool one = size_ == whole;
  rows_ = static_cast<std::size_t>(one ? 1 : CeilDiv(height, stride_));
  columns_ = static_cast<std::size_t>(one ? 1 : CeilDiv(width, stride_));
  streams_.resize(rows_ * columns_);
}

Result<Tile> TiledDecoder::DecodeTile(std::span<const float> latent, std::size_t row,
                                      std::size_t column) {
  const std::int32_t top = static_cast<std::int32_t>(row) * stride_;
  const std::int32_t left = static_cast<std::int32_t>(column) * stride_;
  const std::int32_t height = std::min(size_, height_ - top);
  const std::int32_t width = std::min(size_, width_ - left);
  std::vector<float> part;
  for (std::int32_t channel = 0; channel < vae_.latent_channels(); ++channel) {
    for (std::int32_t y = top; y < top + height; ++y) {
      const float* from = latent.data() + (std::int64_t{channel} * height_ + y) * width_ + left;
      part.insert(part.end(), from, from + width);
    }
  }
  return vae_.Decode(streams_[row * columns_ + column], part, height, width);
}

Result<Pictures> TiledDecoder::Decode(std::span<const float> latent) {
  const std::int32_t scale = vae_.space_scale();
  const std::int32_t overlap = (size_ - stride_) * scale;
  Pictures out;
  std::vector<Tile> above(columns_);
  for (std::size_t row = 0; row < rows_; ++row) {
    std::vector<Tile> tiles;
    for (std::size_t column = 0; column < columns_; ++column) {
      PX_TRY(Tile tile, DecodeTile(latent, row, column));
      if (row > 0) {
        BlendDown(above[column], overlap, tile);
      }
      if (column > 0) {
        BlendAcross(tiles.back(), overlap, tile);
      }
      if (out.rgb.empty()) {
        out.volume = {tile.volume.frames, height_ * scale, width_ * scale};
        out.rgb.resize(static_cast<std::size_t>(out.volume.pixels() * 3));
      }
      // Of each tile what the next ones do not cover.
      const std::int32_t top = static_cast<std::int32_t>(row) * stride_ * scale;
      const std::int32_t left = static_cast<std::int32_t>(column) * stride_ * scale;
      const std::int32_t height =
          row + 1 < rows_ ? std::min(stride_ * scale, tile.volume.height) : tile.volume.height;
      const std::int32_t width =
          column + 1 < columns_ ? std::min(stride_ * scale, tile.volume.width) : tile.volume.width;
      for (std::int32_t frame = 0; frame < tile.volume.frames; ++frame) {
        for (std::int32_t y = 0; y < height; ++y) {
          std::copy_n(RowOf(tile, frame, y), width * 3, RowOf(out, frame, top + y) + left * 3);
        }
      }
      tiles.push_back(std::move(tile));
    }
    above = std::move(tiles);
  }
  for (float& value : out.rgb) {
    value = std::clamp(value, -1.0F, 1.0F);
  }
  return out;
}

}  // namespace pixii::model
