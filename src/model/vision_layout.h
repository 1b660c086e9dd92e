// Where the patches of a picture lie: their order, windows, rotations and learned positions.
//
// Thread: pure functions. Orders are those of the reference implementations (facts only): towers
// that merge take patches merge block by merge block, so that the rows of one token lie together.
// Source: transformers' Qwen2VL, Qwen2_5_VL and Qwen3VL vision models.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "media/image.h"
#include "media/tiles.h"
#include "model/vision_spec.h"

namespace pixii::model {

struct PatchPlace {
  std::int32_t row = 0;
  std::int32_t col = 0;

  friend bool operator==(const PatchPlace&, const PatchPlace&) = default;
};

/// Where each patch of one frame lies, in the order that the tower takes them.
std::vector<PatchPlace> PatchPlaces(const PatchGrid& grid, std::int32_t merge_size);

/// Which rows attend to each other: runs of `order`.
struct WindowPlan {
  std::vector<std::int32_t> order;  // [tokens] merged cells, window by window
  std::vector<std::int32_t> sizes;  // merged cells of each window; they sum to the tokens
};

/// Windows of `window` by `window` merged cells from the upper left, shorter at the right and at
/// the bottom, frame by frame.
WindowPlan MakeWindows(const MediaGrid& grid, std::int32_t window);

/// out[order[i]] = i.
std::vector<std::int32_t> InverseOrder(std::span<const std::int32_t> order);

/// Cosines, then sines, [places, head_dim / 2] each: a quarter of a head's elements turns with the
/// row, a quarter with the column. Pre: head_dim is a multiple of 4.
std::vector<float> VisionRotary(std::span<const PatchPlace> places, std::int32_t head_dim,
                                double theta);

/// Rows of a square table [side * side, cols] stretched over `grid` with its corners on the
/// picture's, linear between: [places, cols].
std::vector<float> StretchPositions(std::span<const float> table, std::int32_t side,
                                    std::int64_t cols, const PatchGrid& grid,
                                    std::span<const PatchPlace> places);

/// Of a picture of `source`. Pre: the spec has pinpoints.
media::TilePlan PlanTiles(const VisionSpec& spec, media::ImageSize source);

/// Rows that stand for a picture of `grid`; `source`, its size before it was resized, counts for
/// tiles alone.
std::int64_t TokenCount(const VisionSpec& spec, const PatchGrid& grid, media::ImageSize source);

/// `features` [1 + tiles, side * side, cols] to [plan.tokens(), cols]. Scaling down is linear
/// between centres.
std::vector<float> PackTiles(const media::TilePlan& plan, std::span<const float> features,
                             std::span<const float> newline);

}  // namespace pixii::model
