#include "media/tiles.h"

#include <algorithm>
#include <cmath>

#include "media/patches.h"

namespace pixii::media {
namespace {

/// Of `count` features across that hold a picture padded on both sides, the first that is the
/// picture's, if it is `extent` pixels and scaled by `factor`.
std::int32_t PaddingBefore(std::int32_t count, std::uint32_t extent, double factor) {
  // Seven decimals first, so that what is whole but for rounding stays so.
  const double scaled = std::nearbyint(extent * factor * 1e7) / 1e7;
  return (count - static_cast<std::int32_t>(scaled)) / 2;
}

}  // namespace

TilePlan PlanTiles(const TileShape& shape, ImageSize source) {
  const ImageSize best = BestPinpoint(source, shape.pinpoints);
  TilePlan out;
  out.tile_rows = static_cast<std::int32_t>(best.height / shape.tile_size);
  out.tile_cols = static_cast<std::int32_t>(best.width / shape.tile_size);
  out.side = static_cast<std::int32_t>(shape.tile_size / shape.patch_size);
  out.row_count = out.tile_rows * out.side;
  out.col_count = out.tile_cols * out.side;
  const double wide = static_cast<double>(source.width) / source.height;
  if (wide > static_cast<double>(out.col_count) / out.row_count) {
    const double factor = static_cast<double>(out.col_count) / source.width;
    out.row_begin = PaddingBefore(out.row_count, source.height, factor);
    out.row_count -= 2 * out.row_begin;
  } else {
    const double factor = static_cast<double>(out.row_count) / source.height;
    out.col_begin = PaddingBefore(out.col_count, source.width, factor);
    out.col_count -= 2 * out.col_begin;
  }
  out.out_rows = out.row_count;
  out.out_cols = out.col_count;
  if (shape.tiles_max == 0) {
    return out;
  }
  const double features = static_cast<double>(out.row_count) * out.col_count;
  const double shrink =
      std::sqrt(features / (static_cast<double>(shape.tiles_max) * out.side * out.side));
  if (shrink > 1.1) {
    out.out_rows = std::max(1, static_cast<std::int32_t>(out.row_count / shrink));
    out.out_cols = std::max(1, static_cast<std::int32_t>(out.col_count / shrink));
  }
  return out;
}

}  // namespace pixii::media
