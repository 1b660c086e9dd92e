#include "media/video/color.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace pixii::media {
namespace {

constexpr double kRed = 0.2126;
constexpr double kBlue = 0.0722;
constexpr double kGreen = 1.0 - kRed - kBlue;
constexpr double kLumaRange = 219.0 / 255.0;
constexpr double kChromaRange = 224.0 / 255.0;

struct Sum {
  double red = 0.0;
  double green = 0.0;
  double blue = 0.0;

  double luma() const { return kRed * red + kGreen * green + kBlue * blue; }
};

std::uint8_t Rounded(double value) {
  return static_cast<std::uint8_t>(std::clamp(std::floor(value + 0.5), 0.0, 255.0));
}

}  // namespace

YuvPicture YuvFromRgb(PictureSize size, std::span<const std::uint8_t> rgb) {
  const std::size_t pixels =
      static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height);
  PX_ASSERT(size.width > 0 && size.height > 0 && rgb.size() == 3 * pixels);
  YuvPicture out{.size = size, .planes = {}};
  const std::size_t chroma =
      static_cast<std::size_t>(out.chroma_width()) * static_cast<std::size_t>(out.chroma_height());
  out.planes.resize(pixels + 2 * chroma);
  const auto at = [&](std::int32_t x, std::int32_t y) {
    const std::uint8_t* pixel = rgb.data() + (static_cast<std::ptrdiff_t>(y) * size.width + x) * 3;
    return Sum{static_cast<double>(pixel[0]), static_cast<double>(pixel[1]),
               static_cast<double>(pixel[2])};
  };
  for (std::int32_t y = 0; y < size.height; ++y) {
    for (std::int32_t x = 0; x < size.width; ++x) {
      out.y()[static_cast<std::ptrdiff_t>(y) * size.width + x] =
          Rounded(16.0 + kLumaRange * at(x, y).luma());
    }
  }
  for (std::int32_t y = 0; y < out.chroma_height(); ++y) {
    for (std::int32_t x = 0; x < out.chroma_width(); ++x) {
      Sum sum;
      double count = 0.0;
      for (std::int32_t row = 2 * y; row < std::min(2 * y + 2, size.height); ++row) {
        for (std::int32_t column = 2 * x; column < std::min(2 * x + 2, size.width); ++column) {
          const Sum one = at(column, row);
          sum = {sum.red + one.red, sum.green + one.green, sum.blue + one.blue};
          count += 1.0;
        }
      }
      const double blue = (sum.blue - sum.luma()) / count / (2.0 * (1.0 - kBlue));
      const double red = (sum.red - sum.luma()) / count / (2.0 * (1.0 - kRed));
      const std::ptrdiff_t index = static_cast<std::ptrdiff_t>(y) * out.chroma_width() + x;
      out.cb()[index] = Rounded(128.0 + kChromaRange * blue);
      out.cr()[index] = Rounded(128.0 + kChromaRange * red);
    }
  }
  return out;
}

std::uint8_t ByteFromUnit(float value) {
  return value > 0.0F ? static_cast<std::uint8_t>(std::min(value, 1.0F) * 255.0F + 0.5F) : 0;
}

}  // namespace pixii::media
