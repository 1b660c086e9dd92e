// The two passes of a resize over rows of bytes, with weights in fixed point, for one instruction
// set each; all give the same bits.
//
// Thread: any; pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "media/resize.h"

namespace pixii::media {

inline constexpr int kWeightBits = 22;  // fractional bits of a weight

/// Where one output position reads, along one axis.
struct Window {
  std::uint32_t first = 0;
  std::uint32_t count = 0;  // 1 .. taps_max
};

struct AxisWeights {
  /// The most of any window, in whole groups; those past a window weigh nothing.
  std::uint32_t taps_max = 0;
  std::vector<Window> windows;        // [out]
  std::vector<std::int32_t> weights;  // [out][taps_max]; 0 past the window
};

/// Weights of `out` positions over `in` ones, in groups of `tap_group`. Pre: all at least 1.
AxisWeights MakeWeights(std::uint32_t in, std::uint32_t out, Filter filter,
                        std::uint32_t tap_group);

/// A line of the cache, so that no load takes from two.
struct alignas(64) SplitBlock {
  std::int16_t values[32];
};

/// The weights of a horizontal pass as 16-bit halves, weight = high * 65536 + low, each pair of
/// taps once for every lane that multiplies by it: [out][group][low, high][tap pair][4 lanes][2].
std::vector<SplitBlock> SplitWeights(const AxisWeights& axis, std::uint32_t tap_group);

struct RowWeights {
  const AxisWeights& axis;
  std::span<const SplitBlock> split;  // SplitWeights(axis, tap_group)
};

using RowPair = std::array<const std::uint8_t*, 2>;
using OutPair = std::array<std::uint8_t*, 2>;

struct Passes {
  std::uint32_t tap_group;  // taps that are multiplied at a time
  /// Bytes that must be readable behind a row of the horizontal pass, beside taps_max pixels.
  std::size_t row_slack_bytes;
  /// Pixel x of each row of `out` = the weighted sum of the pixels of that row in window x, for all
  /// x. Two rows at a time: the weights are more bytes than their pixels.
  void (*horizontal)(const RowWeights& weights, const RowPair& rows, const OutPair& out);
  /// out[i] = the weighted sum of rows[k][i], for i < size; weights[k] is that of rows[k].
  void (*vertical)(std::span<const std::int32_t> weights, std::span<const std::uint8_t* const> rows,
                   std::size_t size, std::uint8_t* out);
};

/// All that this processor can run, the best last.
std::span<const Passes> PassesHere();

/// Resize by `passes`. Errors: as Resize.
Result<Image> ResizeWith(const Passes& passes, const Image& image, ImageSize size, Filter filter);

}  // namespace pixii::media
