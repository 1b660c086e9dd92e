#include "media/encode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "media/decode.h"

namespace pixii::media {
namespace {

// Colours that change slowly, as pictures do.
Image Gradient(std::uint32_t width, std::uint32_t height) {
  Image out{.size = {width, height}, .rgb = {}};
  for (std::uint32_t y = 0; y < height; ++y) {
    for (std::uint32_t x = 0; x < width; ++x) {
      out.rgb.push_back(static_cast<std::uint8_t>(x * 255 / width));
      out.rgb.push_back(static_cast<std::uint8_t>(y * 255 / height));
      out.rgb.push_back(128);
    }
  }
  return out;
}

Image Decoded(const std::string& file) {
  Result<Image> image =
      Decode({reinterpret_cast<const std::uint8_t*>(file.data()), file.size()}, {});
  EXPECT_TRUE(image) << image.error().ToString();
  return image ? std::move(*image) : Image();
}

int LargestDifference(const Image& one, const Image& other) {
  EXPECT_EQ(one.size, other.size);
  int out = one.rgb.size() == other.rgb.size() ? 0 : 255;
  for (std::size_t i = 0; out < 255 && i < one.rgb.size(); ++i) {
    out = std::max(out, std::abs(int{one.rgb[i]} - int{other.rgb[i]}));
  }
  return out;
}

TEST(Encode, PngGivesThePictureBack) {
  for (const ImageSize size : {ImageSize{1, 1}, ImageSize{33, 7}, ImageSize{64, 64}}) {
    const Image image = Gradient(size.width, size.height);
    const Result<std::string> file = EncodeImage(image, ImageFileFormat::kPng, 0);
    ASSERT_TRUE(file) << file.error().ToString();
    EXPECT_EQ(Decoded(*file).rgb, image.rgb);
  }
}

TEST(Encode, JpegAndWebpComeCloseAndLowerQualityIsSmaller) {
  const Image image = Gradient(48, 40);
  for (const ImageFileFormat format : {ImageFileFormat::kJpeg, ImageFileFormat::kWebp}) {
    const Result<std::string> good = EncodeImage(image, format, 95);
    const Result<std::string> small = EncodeImage(image, format, 5);
    ASSERT_TRUE(good && small);
    EXPECT_LE(LargestDifference(Decoded(*good), image), 24);
    EXPECT_LT(small->size(), good->size());
    EXPECT_EQ(*EncodeImage(image, format, 95), *good);
  }
}

TEST(Encode, WhatIsNoPictureIsRefused) {
  Image cut = Gradient(8, 8);
  cut.rgb.pop_back();
  for (const Image& image : {Image{}, cut}) {
    for (const ImageFileFormat format :
         {ImageFileFormat::kPng, ImageFileFormat::kJpeg, ImageFileFormat::kWebp}) {
      const Result<std::string> file = EncodeImage(image, format, 90);
      ASSERT_FALSE(file);
      EXPECT_EQ(file.error().code(), Code::kInvalidArgument);
    }
  }
  const Image wide = Gradient(16384, 1);
  EXPECT_FALSE(EncodeImage(wide, ImageFileFormat::kWebp, 90));
}

}  // namespace
}  // namespace pixii::media
