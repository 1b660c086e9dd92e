#include "media/film/yuv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace pixii::media {
namespace {

struct Kind {
  ColorMatrix matrix;
  double red;
  double blue;
};

constexpr Kind kKinds[] = {{ColorMatrix::kBt601, 0.299, 0.114},
                           {ColorMatrix::kBt709, 0.2126, 0.0722},
                           {ColorMatrix::kBt2020, 0.2627, 0.0593},
                           {ColorMatrix::kSmpte240, 0.212, 0.087},
                           {ColorMatrix::kUnknown, 0.299, 0.114}};

// The value before rounding, from the definition: E' of luma and of colour differences.
std::array<double, 3> Exact(int y, int cb, int cr, const Kind& kind, bool full) {
  const double luma = full ? y / 255.0 : (y - 16) / 219.0;
  const double blue_difference = full ? (cb - 128) / 255.0 : (cb - 128) / 224.0;
  const double red_difference = full ? (cr - 128) / 255.0 : (cr - 128) / 224.0;
  const double red = luma + 2.0 * (1.0 - kind.red) * red_difference;
  const double blue = luma + 2.0 * (1.0 - kind.blue) * blue_difference;
  const double green = (luma - kind.red * red - kind.blue * blue) / (1.0 - kind.red - kind.blue);
  return {255.0 * red, 255.0 * green, 255.0 * blue};
}

TEST(Yuv, EveryColourIsTheNearestOfItsDefinition) {
  for (const Kind& kind : kKinds) {
    for (const bool full : {false, true}) {
      for (int y = 0; y < 256; y += 5) {
        std::vector<std::uint8_t> luma(256 * 256, static_cast<std::uint8_t>(y));
        std::vector<std::uint8_t> cb(256 * 256);
        std::vector<std::uint8_t> cr(256 * 256);
        for (std::size_t i = 0; i < cb.size(); ++i) {
          cb[i] = static_cast<std::uint8_t>(i);
          cr[i] = static_cast<std::uint8_t>(i >> 8U);
        }
        const Image image = *RgbOf({.size = {.width = 256, .height = 256},
                                    .y = {luma.data(), 256},
                                    .cb = {cb.data(), 256},
                                    .cr = {cr.data(), 256},
                                    .chroma_shift_x = 0,
                                    .chroma_shift_y = 0,
                                    .colors = {.matrix = kind.matrix, .full_range = full}});
        double worst = 0.0;
        for (std::size_t i = 0; i < cb.size(); ++i) {
          const auto exact = Exact(y, cb[i], cr[i], kind, full);
          for (std::size_t channel = 0; channel < 3; ++channel) {
            worst = std::max(worst, std::abs(std::clamp(exact[channel], 0.0, 255.0) -
                                             image.rgb[3 * i + channel]));
          }
        }
        ASSERT_LE(worst, 0.5 + 3.0 / 65536.0) << y;
      }
    }
  }
}

TEST(Yuv, PixelsOfABlockShareItsColourAndOddEdgesHaveTheirOwn) {
  const std::vector<std::uint8_t> luma(5 * 3, 100);
  const std::vector<std::uint8_t> cb = {90, 128, 160, 20, 128, 240};  // 3 columns, 2 rows
  const std::vector<std::uint8_t> cr(6, 128);
  const Image image = *RgbOf({.size = {.width = 5, .height = 3},
                              .y = {luma.data(), 5},
                              .cb = {cb.data(), 3},
                              .cr = {cr.data(), 3}});
  const auto blue = [&](std::uint32_t x, std::uint32_t y) { return image.row(y)[3 * x + 2]; };
  EXPECT_EQ(blue(0, 0), blue(1, 1));
  EXPECT_NE(blue(1, 0), blue(2, 0));
  EXPECT_EQ(blue(2, 0), blue(3, 1));
  EXPECT_NE(blue(4, 1), blue(3, 1));
  EXPECT_NE(blue(4, 2), blue(4, 1));
}

TEST(Yuv, PlanesOfRgbAreRefused) {
  const std::uint8_t one = 0;
  EXPECT_EQ(RgbOf({.size = {.width = 1, .height = 1},
                   .y = {&one, 1},
                   .cb = {&one, 1},
                   .cr = {&one, 1},
                   .colors = {.matrix = ColorMatrix::kRgb}})
                .error()
                .code(),
            Code::kUnsupported);
}

}  // namespace
}  // namespace pixii::media
