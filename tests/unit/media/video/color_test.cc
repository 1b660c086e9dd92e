#include "media/video/color.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace pixii::media {
namespace {

std::vector<std::uint8_t> Plain(PictureSize size, std::uint8_t red, std::uint8_t green,
                                std::uint8_t blue) {
  std::vector<std::uint8_t> rgb;
  for (std::int32_t i = 0; i < size.width * size.height; ++i) {
    rgb.insert(rgb.end(), {red, green, blue});
  }
  return rgb;
}

struct Known {
  std::uint8_t rgb[3];
  int y;
  int cb;
  int cr;
};

TEST(YuvFromRgb, GivesTheLimitedRangeValuesOfBt709) {
  // Colour bars of 100 %, as tables of the standard print them.
  constexpr Known kKnown[] = {{{0, 0, 0}, 16, 128, 128},       {{255, 255, 255}, 235, 128, 128},
                              {{255, 0, 0}, 63, 102, 240},     {{0, 255, 0}, 173, 42, 26},
                              {{0, 0, 255}, 32, 240, 118},     {{255, 255, 0}, 219, 16, 138},
                              {{0, 255, 255}, 188, 154, 16},   {{255, 0, 255}, 78, 214, 230},
                              {{128, 128, 128}, 126, 128, 128}};
  for (const Known& known : kKnown) {
    const PictureSize size{3, 5};
    YuvPicture picture = YuvFromRgb(size, Plain(size, known.rgb[0], known.rgb[1], known.rgb[2]));
    ASSERT_EQ(picture.planes.size(), 15U + 2U * 6U);
    EXPECT_EQ(picture.y()[14], known.y);
    EXPECT_EQ(picture.cb()[0], known.cb);
    EXPECT_EQ(picture.cb()[5], known.cb);  // an odd corner has one pixel
    EXPECT_EQ(picture.cr()[0], known.cr);
  }
}

TEST(YuvFromRgb, MixesFourPixelsToOneColour) {
  std::vector<std::uint8_t> rgb = Plain({2, 2}, 0, 0, 0);
  rgb[0] = 255;  // one red pixel
  YuvPicture picture = YuvFromRgb({2, 2}, rgb);
  EXPECT_EQ(picture.y()[0], 63);
  EXPECT_EQ(picture.y()[3], 16);
  EXPECT_EQ(picture.cr()[0], 128 + 112 / 4);
}

TEST(ByteFromUnit, RoundsAndClips) {
  EXPECT_EQ(ByteFromUnit(0.0F), 0);
  EXPECT_EQ(ByteFromUnit(1.0F), 255);
  EXPECT_EQ(ByteFromUnit(7.0F), 255);
  EXPECT_EQ(ByteFromUnit(-1.0F), 0);
  EXPECT_EQ(ByteFromUnit(std::numeric_limits<float>::quiet_NaN()), 0);
  EXPECT_EQ(ByteFromUnit(0.499F / 255.0F), 0);
  EXPECT_EQ(ByteFromUnit(0.501F / 255.0F), 1);
  for (int value = 0; value < 256; ++value) {
    EXPECT_EQ(ByteFromUnit(static_cast<float>(value) / 255.0F), value);
  }
}

}  // namespace
}  // namespace pixii::media
