#include "media/resize.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>

#include "base/assert.h"
#include "base/checked.h"
#include "media/resample.h"

namespace pixii::media {

namespace {

double Triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

double Cubic(double x) {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) {
    return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  }
  return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * kA : 0.0;
}

double Sinc(double x) {
  x *= std::numbers::pi;
  return x == 0.0 ? 1.0 : std::sin(x) / x;
}

double Lanczos(double x) { return -3.0 <= x && x < 3.0 ? Sinc(x) * Sinc(x / 3) : 0.0; }

struct Kernel {
  double (*weight)(double distance);
  double support;  // pixels to each side
};

Kernel KernelOf(Filter filter) {
  switch (filter) {
    case Filter::kBilinear:
      return {Triangle, 1.0};
    case Filter::kBicubic:
      return {Cubic, 2.0};
    case Filter::kLanczos:
      return {Lanczos, 3.0};
  }
  PX_ASSERT(false);
}

std::int32_t ToFixed(double weight) {
  const double scaled = weight * (1 << kWeightBits);
  return static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

Result<void> CheckSide(std::string_view name, std::uint32_t side) {
  if (side >= 1 && side <= kResizeSideMax) {
    return {};
  }
  return Fail(
      Code::kInvalidArgument,
      fmt::format("{} {} of the resized image is not in 1..{} pixels", name, side, kResizeSideMax),
      std::string(name));
}

}  // namespace

std::optional<Filter> FilterOf(std::string_view name) {
  if (name == "bilinear") {
    return Filter::kBilinear;
  }
  if (name == "bicubic") {
    return Filter::kBicubic;
  }
  return name == "lanczos" ? std::optional(Filter::kLanczos) : std::nullopt;
}

AxisWeights MakeWeights(std::uint32_t in, std::uint32_t out, Filter filter,
                        std::uint32_t tap_group) {
  const Kernel kernel = KernelOf(filter);
  const double scale = static_cast<double>(in) / out;
  const double filter_scale = std::max(scale, 1.0);  // shrinking: each source pixel counts
  const double support = kernel.support * filter_scale;
  const double inverse = 1.0 / filter_scale;
  AxisWeights axis;
  axis.windows.resize(out);
  std::uint32_t count_max = 0;
  for (std::uint32_t i = 0; i < out; ++i) {
    const double center = (i + 0.5) * scale;
    const auto first = static_cast<std::uint32_t>(std::max(center - support + 0.5, 0.0));
    const auto end = std::min(static_cast<std::uint32_t>(center + support + 0.5), in);
    PX_ASSERT(first < end);
    axis.windows[i] = {.first = first, .count = end - first};
    count_max = std::max(count_max, end - first);
  }
  axis.taps_max = CeilDiv(count_max, tap_group) * tap_group;
  axis.weights.resize(std::size_t{out} * axis.taps_max);
  std::vector<double> exact(axis.taps_max);
  for (std::uint32_t i = 0; i < out; ++i) {
    const double center = (i + 0.5) * scale;
    const Window window = axis.windows[i];
    double sum = 0;
    for (std::uint32_t k = 0; k < window.count; ++k) {
      exact[k] = kernel.weight((static_cast<double>(k + window.first) - center + 0.5) * inverse);
      sum += exact[k];
    }
    for (std::uint32_t k = 0; k < window.count; ++k) {
      axis.weights[std::size_t{i} * axis.taps_max + k] =
          ToFixed(sum != 0.0 ? exact[k] / sum : exact[k]);
    }
  }
  return axis;
}

Result<Image> ResizeWith(const Passes& passes, const Image& image, ImageSize size, Filter filter) {
  PX_CHECK_OK(CheckSide("width", size.width));
  PX_CHECK_OK(CheckSide("height", size.height));
  PX_ASSERT(image.size.pixel_count() > 0 &&
            image.rgb.size() == image.size.pixel_count() * kImageChannels);
  const bool across = size.width != image.size.width;
  const bool down = size.height != image.size.height;
  if (!across && !down) {
    return image;
  }
  AxisWeights columns;
  std::vector<SplitBlock> split;
  if (across) {
    columns = MakeWeights(image.size.width, size.width, filter, passes.tap_group);
    split = SplitWeights(columns, passes.tap_group);
  }
  AxisWeights rows;
  if (down) {
    rows = MakeWeights(image.size.height, size.height, filter, passes.tap_group);
  }
  // The rows of one vertical window are kept; the pass goes through the image once, while they are
  // in the nearest cache.
  const std::uint32_t kept = across && down ? rows.taps_max + 1 : 0;  // they come in twos
  const std::uint64_t made = size.pixel_count() + std::uint64_t{kept} * size.width;
  if (made > kResizePixelsMax) {
    return Fail(
        Code::kTooLarge,
        fmt::format("resizing {}x{} to {}x{} takes {} pixels, more than {}", image.size.width,
                    image.size.height, size.width, size.height, made, kResizePixelsMax),
        "size");
  }
  Image out{.size = size, .rgb = std::vector<std::uint8_t>(size.pixel_count() * kImageChannels)};
  const RowWeights row_weights{.axis = columns, .split = split};
  const std::size_t room =
      image.row_bytes() + columns.taps_max * kImageChannels + passes.row_slack_bytes;
  std::array<std::vector<std::uint8_t>, 2> last_rows;  // those at the end, with room behind them
  const auto source_row = [&](std::uint32_t y, std::vector<std::uint8_t>& copy) {
    const std::uint8_t* row = image.row(y);
    if (image.rgb.size() - y * image.row_bytes() >= room) {
      return row;
    }
    copy.assign(row, row + image.row_bytes());
    copy.resize(room);
    return static_cast<const std::uint8_t*>(copy.data());
  };
  std::vector<std::uint8_t> nowhere(out.row_bytes());  // where the other row of the last one goes
  const auto narrow_two = [&](std::uint32_t y, const auto& place) {
    const bool both = y + 1 < image.size.height;
    const std::uint8_t* first = source_row(y, last_rows[0]);
    passes.horizontal(row_weights, {first, both ? source_row(y + 1, last_rows[1]) : first},
                      {place(y), both ? place(y + 1) : nowhere.data()});
  };
  if (!down) {
    for (std::uint32_t y = 0; y < size.height; y += 2) {
      narrow_two(y, [&](std::uint32_t to) { return out.row(to); });
    }
    return out;
  }
  std::vector<std::uint8_t> ring(kept * out.row_bytes());
  const auto ring_row = [&](std::uint32_t y) { return ring.data() + (y % kept) * out.row_bytes(); };
  std::vector<const std::uint8_t*> window_rows(rows.taps_max);
  std::uint32_t narrowed = rows.windows.front().first;  // rows before it were, or are not needed
  for (std::uint32_t y = 0; y < size.height; ++y) {
    const Window window = rows.windows[y];
    for (; across && narrowed < window.first + window.count; narrowed += 2) {
      narrow_two(narrowed, ring_row);
    }
    for (std::uint32_t k = 0; k < window.count; ++k) {
      const std::uint32_t source = window.first + k;
      window_rows[k] = across ? ring_row(source) : image.row(source);
    }
    passes.vertical({rows.weights.data() + std::size_t{y} * rows.taps_max, window.count},
                    {window_rows.data(), window.count}, out.row_bytes(), out.row(y));
  }
  return out;
}

Result<Image> Resize(const Image& image, ImageSize size, Filter filter) {
  return ResizeWith(PassesHere().back(), image, size, filter);
}

}  // namespace pixii::media
