#include "media/video/vp9_encoder.h"

#include <gtest/gtest.h>
#include <vpx/vp8dx.h>
#include <vpx/vpx_decoder.h>

#include <cmath>

namespace pixii::media {
namespace {

constexpr PictureSize kSize{48, 33};

/// A bright square on grey that moves to the right, three pixels a picture.
YuvPicture Moving(std::int32_t index) {
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(kSize.width * kSize.height * 3), 90);
  for (std::int32_t y = 10; y < 22; ++y) {
    for (std::int32_t x = 3 * index; x < 3 * index + 12; ++x) {
      std::uint8_t* pixel = rgb.data() + (y * kSize.width + x) * 3;
      pixel[0] = 230;
      pixel[1] = 200;
      pixel[2] = 40;
    }
  }
  return YuvFromRgb(kSize, rgb);
}

std::vector<VideoSample> Encode(std::int32_t pictures, std::int32_t quality) {
  auto encoder = Vp9Encoder::Create({.size = kSize, .quality = quality});
  EXPECT_TRUE(encoder.has_value());
  for (std::int32_t i = 0; i < pictures; ++i) {
    EXPECT_TRUE(encoder->Add(Moving(i)).has_value());
  }
  EXPECT_TRUE(encoder->Finish().has_value());
  return encoder->TakeSamples();
}

TEST(Vp9Encoder, GivesASampleForEveryPictureThatDecodesToIt) {
  const std::vector<VideoSample> samples = Encode(10, 10);
  ASSERT_EQ(samples.size(), 10U);
  EXPECT_TRUE(samples[0].key);
  EXPECT_FALSE(samples[1].key);
  vpx_codec_ctx_t decoder{};
  ASSERT_EQ(vpx_codec_dec_init(&decoder, vpx_codec_vp9_dx(), nullptr, 0), VPX_CODEC_OK);
  for (std::int32_t i = 0; i < 10; ++i) {
    const std::string& bytes = samples[static_cast<std::size_t>(i)].bytes;
    ASSERT_EQ(vpx_codec_decode(&decoder, reinterpret_cast<const std::uint8_t*>(bytes.data()),
                               static_cast<unsigned>(bytes.size()), nullptr, 0),
              VPX_CODEC_OK);
    vpx_codec_iter_t at = nullptr;
    const vpx_image_t* image = vpx_codec_get_frame(&decoder, &at);
    ASSERT_NE(image, nullptr);
    ASSERT_EQ(image->d_w, 48U);
    ASSERT_EQ(image->d_h, 33U);
    EXPECT_EQ(image->cs, VPX_CS_BT_709);
    EXPECT_EQ(image->range, VPX_CR_STUDIO_RANGE);
    YuvPicture original = Moving(i);
    double squares = 0.0;
    for (std::int32_t y = 0; y < kSize.height; ++y) {
      for (std::int32_t x = 0; x < kSize.width; ++x) {
        const int difference =
            image->planes[0][y * image->stride[0] + x] - original.y()[y * kSize.width + x];
        squares += difference * difference;
      }
    }
    EXPECT_LT(std::sqrt(squares / (kSize.width * kSize.height)), 4.0) << "picture " << i;
  }
  vpx_codec_destroy(&decoder);
}

TEST(Vp9Encoder, GivesEqualBytesForEqualPicturesAndFewerForLessQuality) {
  const std::vector<VideoSample> once = Encode(5, 10);
  const std::vector<VideoSample> again = Encode(5, 10);
  const std::vector<VideoSample> worse = Encode(5, 60);
  std::size_t size = 0;
  std::size_t size_worse = 0;
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(once[i].bytes, again[i].bytes);
    size += once[i].bytes.size();
    size_worse += worse[i].bytes.size();
  }
  EXPECT_LT(size_worse, size);
}

TEST(Vp9Encoder, RefusesSidesAndQualityOutOfRange) {
  for (const Vp9Options& options :
       {Vp9Options{.size = {0, 8}}, Vp9Options{.size = {8, 16385}},
        Vp9Options{.size = {8, 8}, .quality = 64}, Vp9Options{.size = {8, 8}, .quality = -1}}) {
    const auto encoder = Vp9Encoder::Create(options);
    ASSERT_FALSE(encoder.has_value());
    EXPECT_EQ(encoder.error().code(), Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace pixii::media
