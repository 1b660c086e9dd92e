#include "model/vision_layout.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"
#include "model/rotary.h"

namespace pixii::model {
namespace {

/// Where one of `count` lines lies among `side` of the table, and how far past it.
struct Stretched {
  std::int32_t before = 0;
  std::int32_t after = 0;
  float share = 0.0F;  // of `after`
};

std::vector<Stretched> StretchAxis(std::int32_t count, std::int32_t side) {
  std::vector<Stretched> out;
  const float step =
      count > 1 ? static_cast<float>(side - 1) / static_cast<float>(count - 1) : 0.0F;
  for (std::int32_t i = 0; i < count; ++i) {
    // From both ends, as torch.linspace does, so that the last one is exact.
    const float at = i < count / 2 || count == 1
                         ? step * static_cast<float>(i)
                         : static_cast<float>(side - 1) - step * static_cast<float>(count - 1 - i);
    const auto before = static_cast<std::int32_t>(at);
    out.push_back({before, std::min(before + 1, side - 1), at - static_cast<float>(before)});
  }
  return out;
}

/// Where output `i` of `out` lies among `in` positions, both lines of the same length.
Stretched ScaleDown(std::int32_t i, std::int32_t in, std::int32_t out) {
  const float step = static_cast<float>(in) / static_cast<float>(out);
  const float at = std::max(0.0F, (static_cast<float>(i) + 0.5F) * step - 0.5F);
  const auto before = std::min(static_cast<std::int32_t>(at), in - 1);
  return {before, std::min(before + 1, in - 1), at - static_cast<float>(before)};
}

}  // namespace

std::vector<PatchPlace> PatchPlaces(const PatchGrid& grid, std::int32_t merge_size) {
  PX_ASSERT(grid.rows % merge_size == 0 && grid.cols % merge_size == 0);
  std::vector<PatchPlace> out;
  out.reserve(static_cast<std::size_t>(grid.rows) * static_cast<std::size_t>(grid.cols));
  for (std::int32_t row = 0; row < grid.rows; row += merge_size) {
    for (std::int32_t col = 0; col < grid.cols; col += merge_size) {
      for (std::int32_t i = 0; i < merge_size * merge_size; ++i) {
        out.push_back({row + i / merge_size, col + i % merge_size});
      }
    }
  }
  return out;
}

WindowPlan MakeWindows(const MediaGrid& grid, std::int32_t window) {
  WindowPlan out;
  for (std::int32_t frame = 0; frame < grid.frames; ++frame) {
    for (std::int32_t top = 0; top < grid.rows; top += window) {
      for (std::int32_t left = 0; left < grid.cols; left += window) {
        const std::int32_t bottom = std::min(grid.rows, top + window);
        const std::int32_t right = std::min(grid.cols, left + window);
        for (std::int32_t row = top; row < bottom; ++row) {
          for (std::int32_t col = left; col < right; ++col) {
            out.order.push_back((frame * grid.rows + row) * grid.cols + col);
          }
        }
        out.sizes.push_back((bottom - top) * (right - left));
      }
    }
  }
  return out;
}

std::vector<std::int32_t> InverseOrder(std::span<const std::int32_t> order) {
  std::vector<std::int32_t> out(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    out[static_cast<std::size_t>(order[i])] = static_cast<std::int32_t>(i);
  }
  return out;
}

std::vector<float> VisionRotary(std::span<const PatchPlace> places, std::int32_t head_dim,
                                double theta) {
  RopeSpec rope;
  rope.theta = theta;
  const std::vector<float> frequencies = InverseFrequencies(rope, head_dim / 2, 0);
  const std::size_t half = frequencies.size();
  const std::size_t pairs = 2 * half;
  std::int32_t side = 1;
  for (const PatchPlace& place : places) {
    side = std::max({side, place.row + 1, place.col + 1});
  }
  std::vector<float> cos(static_cast<std::size_t>(side) * half);
  std::vector<float> sin(cos.size());
  FillRotaryTable(frequencies, side, 1.0, cos, sin);
  std::vector<float> out(2 * places.size() * pairs);
  const auto copy = [&](const std::vector<float>& table, std::int32_t position, std::size_t to) {
    std::copy_n(table.begin() + position * static_cast<std::int64_t>(half), half,
                out.begin() + static_cast<std::int64_t>(to));
  };
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::size_t sines = (places.size() + i) * pairs;
    copy(cos, places[i].row, i * pairs);
    copy(cos, places[i].col, i * pairs + half);
    copy(sin, places[i].row, sines);
    copy(sin, places[i].col, sines + half);
  }
  return out;
}

std::vector<float> StretchPositions(std::span<const float> table, std::int32_t side,
                                    std::int64_t cols, const PatchGrid& grid,
                                    std::span<const PatchPlace> places) {
  const std::vector<Stretched> rows = StretchAxis(grid.rows, side);
  const std::vector<Stretched> columns = StretchAxis(grid.cols, side);
  std::vector<float> out(places.size() * static_cast<std::size_t>(cols));
  float* to = out.data();
  for (const PatchPlace& place : places) {
    const Stretched& y = rows[static_cast<std::size_t>(place.row)];
    const Stretched& x = columns[static_cast<std::size_t>(place.col)];
    const auto at = [&](std::int32_t row, std::int32_t col) {
      return table.data() + (std::int64_t{row} * side + col) * cols;
    };
    const float* corners[4] = {at(y.before, x.before), at(y.before, x.after), at(y.after, x.before),
                               at(y.after, x.after)};
    const float shares[4] = {(1.0F - y.share) * (1.0F - x.share), (1.0F - y.share) * x.share,
                             y.share * (1.0F - x.share), y.share * x.share};
    for (std::int64_t i = 0; i < cols; ++i, ++to) {
      *to = corners[0][i] * shares[0] + corners[1][i] * shares[1] + corners[2][i] * shares[2] +
            corners[3][i] * shares[3];
    }
  }
  return out;
}

media::TilePlan PlanTiles(const VisionSpec& spec, media::ImageSize source) {
  return media::PlanTiles({.pinpoints = spec.tiles.pinpoints,
                           .tile_size = static_cast<std::uint32_t>(spec.image_size),
                           .patch_size = static_cast<std::uint32_t>(spec.patch_size),
                           .tiles_max = static_cast<std::uint32_t>(spec.tiles.tiles_max)},
                          source);
}

std::int64_t TokenCount(const VisionSpec& spec, const PatchGrid& grid, media::ImageSize source) {
  return spec.tiles.pinpoints.empty() ? spec.projected_rows(grid)
                                      : PlanTiles(spec, source).tokens();
}

std::vector<float> PackTiles(const media::TilePlan& plan, std::span<const float> features,
                             std::span<const float> newline) {
  const std::size_t cols = newline.size();
  const std::int32_t cells = plan.side * plan.side;
  PX_ASSERT(features.size() == static_cast<std::size_t>((1 + plan.tiles()) * cells) * cols);
  std::vector<float> out(features.begin(),
                         features.begin() + static_cast<std::int64_t>(cells * cols));
  // A feature of the picture, by where it lies in it.
  const auto at = [&](std::int32_t row, std::int32_t col) {
    row += plan.row_begin;
    col += plan.col_begin;
    const std::int32_t tile = row / plan.side * plan.tile_cols + col / plan.side;
    const std::int32_t cell = row % plan.side * plan.side + col % plan.side;
    return features.data() + static_cast<std::size_t>((1 + tile) * cells + cell) * cols;
  };
  const bool scaled = plan.out_rows != plan.row_count || plan.out_cols != plan.col_count;
  for (std::int32_t row = 0; row < plan.out_rows; ++row) {
    for (std::int32_t col = 0; col < plan.out_cols; ++col) {
      if (!scaled) {
        const float* from = at(row, col);
        out.insert(out.end(), from, from + cols);
        continue;
      }
      const Stretched y = ScaleDown(row, plan.row_count, plan.out_rows);
      const Stretched x = ScaleDown(col, plan.col_count, plan.out_cols);
      for (std::size_t i = 0; i < cols; ++i) {
        const float upper =
            at(y.before, x.before)[i] * (1.0F - x.share) + at(y.before, x.after)[i] * x.share;
        const float lower =
            at(y.after, x.before)[i] * (1.0F - x.share) + at(y.after, x.after)[i] * x.share;
        out.push_back(upper * (1.0F - y.share) + lower * y.share);
      }
    }
    out.insert(out.end(), newline.begin(), newline.end());
  }
  return out;
}

}  // namespace pixii::model
