// How many rows the features of a picture in tiles become, and which of them are the picture's: of
// LLaVA-NeXT and OneVision. Pixels are cut by media/patches.h, features put together by
// model/vision_layout.h.
//
// Thread: pure functions.
// Source: transformers' pack_image_features and unpad_image (facts only).
#pragma once

#include <cstdint>
#include <span>

#include "media/image.h"

namespace pixii::media {

/// What of a tower says so.
struct TileShape {
  std::span<const ImageSize> pinpoints;  // at least one; multiples of tile_size
  std::uint32_t tile_size = 0;           // pixels of a side
  std::uint32_t patch_size = 0;          // pixels of a side
  std::uint32_t tiles_max = 0;           // larger ones are scaled down to so many; 0: none is
};

/// How the features of tiles become the rows of one picture.
struct TilePlan {
  std::int32_t tile_rows = 0;
  std::int32_t tile_cols = 0;
  std::int32_t side = 0;       // features of a tile's side
  std::int32_t row_begin = 0;  // of the tiles' features side by side, what is no padding
  std::int32_t row_count = 0;
  std::int32_t col_begin = 0;
  std::int32_t col_count = 0;
  std::int32_t out_rows = 0;  // after scaling down
  std::int32_t out_cols = 0;

  std::int32_t tiles() const { return tile_rows * tile_cols; }

  /// The squeezed whole, then the rows with a newline behind each.
  std::int64_t tokens() const {
    return std::int64_t{side} * side + std::int64_t{out_rows} * (out_cols + 1);
  }
};

/// Of a picture of `source`. Pre: neither it nor the shape is empty.
TilePlan PlanTiles(const TileShape& shape, ImageSize source);

}  // namespace pixii::media
