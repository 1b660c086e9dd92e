// Frames of real files, as another demuxer and other decoders gave them
// (tests/golden/make_films.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "base/digest.h"
#include "media/decoder_child.h"
#include "media/decoder_pool.h"
#include "media/film/film_decode.h"
#include "support/golden.h"
#include "wire/json.h"

namespace pixii::media {
namespace {

using ::testing::HasSubstr;

std::string File(const std::string& name) {
  return testing::ReadFileOrFail(testing::OwnGoldenDir() + "/media/film/" + name);
}

Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::vector<std::uint32_t> All(std::uint32_t count) {
  std::vector<std::uint32_t> frames(count);
  std::iota(frames.begin(), frames.end(), 0);
  return frames;
}

std::string Sha256(std::span<const std::uint8_t> bytes) {
  return Sha256Hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

DecoderPoolOptions Honest() {
  return {.command = {"/proc/self/exe", std::string(kDecoderCommand)}};
}

wire::Json Expected() { return *wire::ParseJson(File("expected.json")); }

TEST(FilmGolden, EveryFrameIsBitForBitWhatOthersDecode) {
  DecoderPool pool(Honest());
  const wire::Json expected = Expected();
  for (const auto& [name, film] : expected.object()) {
    SCOPED_TRACE(name);
    const std::string file = File(name);
    const Result<FilmInfo> info = ReadFilmInfo(AsBytes(file), {});
    ASSERT_TRUE(info.has_value()) << info.error().detail();
    const wire::Json::Array& digests = film.Find("sha256")->array();
    EXPECT_EQ(info->size.width, film.Find("width")->AsDouble());
    EXPECT_EQ(info->size.height, film.Find("height")->AsDouble());
    EXPECT_NEAR(info->frames_per_second(), *film.Find("fps")->AsDouble(), 0.01);
    ASSERT_EQ(info->frames, digests.size());
    const std::vector<std::uint32_t> frames = All(info->frames);
    const auto rgb = pool.DecodeFrames(AsBytes(file), {.frames = frames});
    ASSERT_TRUE(rgb.has_value()) << rgb.error().detail();
    const std::size_t bytes = info->size.pixel_count() * 3;
    for (std::size_t i = 0; i < digests.size(); ++i) {
      EXPECT_EQ(Sha256(std::span(*rgb).subspan(i * bytes, bytes)), digests[i].string()) << i;
    }
  }
  EXPECT_EQ(pool.started(), 1U) << "no codec calls the system";
}

TEST(FilmGolden, FramesThatAreTakenAloneAreTheSame) {
  for (const std::string name : {"h264_b.mp4", "vp8.webm", "vp9.webm", "moving.gif", "mjpeg.avi"}) {
    SCOPED_TRACE(name);
    const std::string file = File(name);
    const FilmInfo info = *ReadFilmInfo(AsBytes(file), {});
    const std::size_t bytes = info.size.pixel_count() * 3;
    std::vector<std::uint8_t> all(bytes * info.frames);
    const std::vector<std::uint32_t> frames = All(info.frames);
    ASSERT_TRUE(DecodeFilm(AsBytes(file), {.frames = frames}, all).has_value());
    for (std::uint32_t i = 0; i < info.frames; ++i) {
      const std::uint32_t twice[] = {i, i};
      std::vector<std::uint8_t> alone(2 * bytes);
      ASSERT_TRUE(DecodeFilm(AsBytes(file), {.frames = twice}, alone).has_value()) << i;
      const auto expected = std::span(all).subspan(i * bytes, bytes);
      EXPECT_TRUE(std::ranges::equal(std::span(alone).first(bytes), expected)) << i;
      EXPECT_TRUE(std::ranges::equal(std::span(alone).last(bytes), expected)) << i;
    }
  }
}

TEST(FilmGolden, FramesOfMotionJpegAreTheirPictures) {
  const std::string avi = File("mjpeg.avi");
  const FilmInfo info = *ReadFilmInfo(AsBytes(avi), {});
  EXPECT_EQ(info.frames, 3U);
  EXPECT_EQ(info.size, (ImageSize{.width = 48, .height = 32}));
  EXPECT_NEAR(info.frames_per_second(), 10.0, 0.01);
  std::vector<std::uint8_t> frames(3 * info.size.pixel_count() * 3);
  const std::vector<std::uint32_t> all = All(3);
  ASSERT_TRUE(DecodeFilm(AsBytes(avi), {.frames = all}, frames).has_value());
  std::size_t at = avi.find("movi");
  std::size_t frame = 0;
  while ((at = avi.find("00dc", at)) != std::string::npos && frame < 3) {
    std::uint32_t size = 0;
    std::memcpy(&size, avi.data() + at + 4, 4);
    const Result<Image> image = Decode(AsBytes(avi).subspan(at + 8, size), {});
    ASSERT_TRUE(image.has_value());
    EXPECT_TRUE(std::ranges::equal(
        image->rgb, std::span(frames).subspan(frame * image->rgb.size(), image->rgb.size())));
    at += 8 + size;
    ++frame;
  }
  EXPECT_EQ(frame, 3U);
  for (const std::string name : {"mjpeg.mp4", "mjpeg.mov", "mjpeg.mkv"}) {
    const std::string other = File(name);
    std::vector<std::uint8_t> same(frames.size());
    const Result<void> decoded = DecodeFilm(AsBytes(other), {.frames = all}, same);
    ASSERT_TRUE(decoded.has_value()) << name << decoded.error().detail();
    EXPECT_EQ(same, frames) << name;
  }
}

TEST(FilmGolden, AResizeIsThatOfPictures) {
  const std::string file = File("vp9.webm");
  const FilmInfo info = *ReadFilmInfo(AsBytes(file), {});
  const std::uint32_t third[] = {3};
  Image plain{.size = info.size, .rgb = std::vector<std::uint8_t>(info.size.pixel_count() * 3)};
  ASSERT_TRUE(DecodeFilm(AsBytes(file), {.frames = third}, plain.rgb).has_value());
  const Resizing resizing{.size = {.width = 28, .height = 56}, .filter = Filter::kBicubic};
  const auto resized =
      DecoderPool(Honest()).DecodeFrames(AsBytes(file), {.frames = third, .resize = resizing});
  ASSERT_TRUE(resized.has_value());
  EXPECT_EQ(*resized, Resize(plain, resizing.size, resizing.filter)->rgb);
}

TEST(FilmGolden, WhatIsNotReadIsRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"hevc.mp4", "its codec is HEVC (\"hev1\"); JPEG, VP8, VP9 and H.264 are read"},
      {"av1.mp4", "its codec is AV1 (\"av01\")"},
      {"av1.mkv", "its codec is AV1 (\"V_AV1\")"},
      {"h264_10_bits.mp4", "its H.264 has 10 bits"},
      {"h264_422.mp4", "its H.264 is 4:2:2"}};
  for (const auto& [name, why] : cases) {
    const std::string file = File(name);
    const Result<FilmInfo> info = ReadFilmInfo(AsBytes(file), {});
    ASSERT_FALSE(info.has_value()) << name;
    EXPECT_EQ(info.error().code(), Code::kUnsupported) << name;
    EXPECT_EQ(info.error().param(), "video");
    EXPECT_THAT(info.error().detail(), HasSubstr(why));
  }
  const std::string deep = File("vp9_10_bits.webm");
  const std::uint32_t first[] = {0};
  const auto frames = DecoderPool(Honest()).DecodeFrames(AsBytes(deep), {.frames = first});
  ASSERT_FALSE(frames.has_value());
  EXPECT_THAT(frames.error().detail(), HasSubstr("its VP9 has 10 bits"));
  EXPECT_EQ(frames.error().code(), Code::kUnsupported);
}

TEST(FilmGolden, AFileThatIsCutAnywhereIsRefusedOrShowsWhatItHas) {
  const wire::Json expected = Expected();
  for (const auto& [name, film] : expected.object()) {
    const std::string file = File(name);
    for (std::size_t size = 0; size < file.size(); size += 1 + size / 16) {
      const Bytes cut = AsBytes(file).first(size);
      const Result<FilmInfo> info = ReadFilmInfo(cut, {});
      if (!info) {
        EXPECT_EQ(info.error().param(), "video") << name << " " << size;
        continue;
      }
      ASSERT_LE(info->frames, film.Find("sha256")->array().size());
      const std::uint32_t last[] = {info->frames - 1};
      std::vector<std::uint8_t> rgb(info->size.pixel_count() * 3);
      (void)DecodeFilm(cut, {.frames = last}, rgb);
    }
  }
}

}  // namespace
}  // namespace pixii::media
