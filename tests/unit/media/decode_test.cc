#include "media/decode.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <string>
#include <string_view>

#include "base/digest.h"
#include "media/image_info.h"
#include "support/golden.h"
#include "unit/media/golden_images.h"
#include "unit/media/image_writer.h"

namespace pixii::media {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string HashOf(const Image& image) {
  return Sha256Hex({reinterpret_cast<const char*>(image.rgb.data()), image.rgb.size()});
}

std::string Hex(const Result<Image>& image) {
  if (!image) {
    return image.error().ToString();
  }
  std::string out;
  for (std::size_t i = 0; i < image->rgb.size(); ++i) {
    out += fmt::format("{}{:02x}", i > 0 && i % 3 == 0 ? " " : "", image->rgb[i]);
  }
  return out;
}

std::string OwnFile(const std::string& name) {
  return testing::ReadFileOrFail(testing::OwnGoldenDir() + "/media/" + name);
}

// What is expected of one golden file and one way to decode it.
void ExpectGolden(const std::string& bytes, const DecodeOptions& options,
                  const wire::Json* expected) {
  if (expected == nullptr) {
    return;
  }
  Result<Image> image = Decode(AsBytes(bytes), options);
  ASSERT_TRUE(image.has_value()) << image.error().detail();
  const wire::Json::Array& size = expected->Find("size")->array();
  EXPECT_EQ(image->size.width, size[0].AsInt());
  EXPECT_EQ(image->size.height, size[1].AsInt());
  EXPECT_EQ(HashOf(*image), expected->Find("sha256")->string());
}

TEST(Decode, GoldenImagesComeOutAsPillowReadsThem) {
  const std::optional<std::string> folder = GoldenImagesDir();
  if (!folder) {
    GTEST_SKIP() << "no shared images here";
  }
  const wire::Json golden = GoldenImages(*folder);
  for (const wire::Json& file : golden.Find("files")->array()) {
    if (file.Find("expected")->string() != "ok") {
      continue;
    }
    SCOPED_TRACE(file.Find("file")->string());
    const std::string bytes = testing::ReadFileOrFail(*folder + "/" + file.Find("file")->string());
    ExpectGolden(bytes, {}, file.Find("decoded_rgb"));
    ExpectGolden(bytes, {.pixels = {.alpha = Alpha::kWhite}}, file.Find("over_white_rgb"));
    ExpectGolden(bytes, {.pixels = {.deep_grey = DeepGrey::kHigh}}, file.Find("high_byte_rgb"));
    ExpectGolden(bytes, {.exif = true}, file.Find("exif_transposed_rgb"));
    Result<ImageInfo> info = ReadImageInfo(AsBytes(bytes), {});
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->frames, file.Find("frames")->AsInt());
    const wire::Json* orientation = file.Find("exif_orientation");
    EXPECT_EQ(info->orientation, orientation != nullptr ? orientation->AsInt() : 1);
    for (const wire::Json& resized : file.Find("resized")->array()) {
      std::string filter = resized.Find("filter")->string();
      std::ranges::transform(filter, filter.begin(),
                             [](unsigned char c) { return std::tolower(c); });
      const wire::Json::Array& size = resized.Find("size")->array();
      ExpectGolden(
          bytes,
          {.resize = Resizing{.size = {.width = static_cast<std::uint32_t>(*size[0].AsInt()),
                                       .height = static_cast<std::uint32_t>(*size[1].AsInt())},
                              .filter = *FilterOf(filter)}},
          &resized);
    }
  }
}

TEST(Decode, GoldenRefusalsSayWhatIsWrong) {
  const std::optional<std::string> folder = GoldenImagesDir();
  if (!folder) {
    GTEST_SKIP() << "no shared images here";
  }
  const std::map<std::string, std::string> sentences = {
      {"truncated", "image is truncated: "},
      {"corrupt", "image is corrupt: "},
      {"too_large", "image is too large: "},
      {"empty", "image is empty: "},
      {"unsupported", "image is of an unsupported kind: "}};
  const wire::Json golden = GoldenImages(*folder);
  int refused = 0;
  for (const wire::Json& file : golden.Find("files")->array()) {
    if (file.Find("expected")->string() == "ok") {
      continue;
    }
    SCOPED_TRACE(file.Find("file")->string());
    Result<Image> image =
        Decode(AsBytes(testing::ReadFileOrFail(*folder + "/" + file.Find("file")->string())), {});
    ASSERT_FALSE(image.has_value());
    EXPECT_THAT(image.error().detail(),
                StartsWith(sentences.at(file.Find("error_kind")->string())));
    EXPECT_EQ(image.error().param(), "image");
    ++refused;
  }
  EXPECT_GE(refused, 7);
}

TEST(Decode, FilesOfThisProjectKeepTheirPixels) {
  const auto hash = [](const std::string& name, const DecodeOptions& options) {
    Result<Image> image = Decode(AsBytes(OwnFile(name)), options);
    return image ? HashOf(*image).substr(0, 12) : image.error().ToString();
  };
  EXPECT_EQ(hash("turned_6.jpg", {}), "7efcc9068af8");
  EXPECT_EQ(hash("turned_6.jpg", {.exif = true}), "5fcb73315251");
  EXPECT_EQ(hash("moving.gif", {}), "e9d5918b7f7c");
  EXPECT_EQ(hash("lossy.webp", {}), "ab463883c867");
  EXPECT_EQ(hash("palette.png", {}), "32901a41bd49");
  EXPECT_EQ(hash("palette.png", {.pixels = {.alpha = Alpha::kWhite}}), "84041d7a34b8");
  EXPECT_THAT(hash("cut.jpg", {}), HasSubstr("image is truncated"));
  EXPECT_THAT(hash("bad_checksum.png", {}), HasSubstr("checksum of its header"));
  EXPECT_THAT(hash("huge.png", {}),
              HasSubstr("width 100000 pixels, above the limit side_max of 32768"));
}

TEST(Decode, PngOfEveryDepthAndColourType) {
  const auto decode = [](PngToWrite png, PixelRules rules = {}) {
    png.width = 2;
    png.height = 1;
    return Hex(Decode(AsBytes(PngText(png)), {.pixels = rules}));
  };
  EXPECT_EQ(decode({.bits = 1, .colour_type = 0, .rows = {"\x40"}}), "000000 ffffff");
  EXPECT_EQ(decode({.bits = 2, .colour_type = 0, .rows = {"\x60"}}), "555555 aaaaaa");
  EXPECT_EQ(decode({.bits = 4, .colour_type = 0, .rows = {"\x1f"}}), "111111 ffffff");
  EXPECT_EQ(decode({.bits = 8, .colour_type = 0, .rows = {"\x07\x80"}}), "070707 808080");
  const PngToWrite deep{.bits = 16, .colour_type = 0, .rows = {std::string("\x00\x07\x12\x34", 4)}};
  EXPECT_EQ(decode(deep), "070707 ffffff");
  EXPECT_EQ(decode(deep, {.deep_grey = DeepGrey::kHigh}), "000000 121212");
  EXPECT_EQ(decode({.bits = 8, .colour_type = 2, .rows = {"abcdef"}}), "616263 646566");
  EXPECT_EQ(decode({.bits = 16, .colour_type = 2, .rows = {"aAbBcCdDeEfF"}}), "616263 646566");
  const std::string palette = PngChunkText("PLTE", "\x0a\x0b\x0c\x0d\x0e\x0f");
  EXPECT_EQ(decode({.bits = 1, .colour_type = 3, .rows = {"\x40"}, .chunks = palette}),
            "0a0b0c 0d0e0f");
  EXPECT_EQ(
      decode({.bits = 8, .colour_type = 3, .rows = {std::string("\1\7", 2)}, .chunks = palette}),
      "0d0e0f 000000")
      << "colours that the palette lacks are black";
  const PngToWrite grey_alpha{
      .bits = 8, .colour_type = 4, .rows = {std::string("\x40\x80\x20\0", 4)}};
  EXPECT_EQ(decode(grey_alpha), "404040 202020");
  EXPECT_EQ(decode(grey_alpha, {.alpha = Alpha::kWhite}), "9f9f9f ffffff");
  EXPECT_EQ(decode({.bits = 8,
                    .colour_type = 6,
                    .rows = {std::string("abc\xff"
                                         "def\0",
                                         8)}},
                   {.alpha = Alpha::kWhite}),
            "616263 ffffff");
}

TEST(Decode, PngKeysOneColourAsTransparent) {
  const PngToWrite png{.width = 2,
                       .height = 1,
                       .rows = {"abcdef"},
                       .chunks = PngChunkText("tRNS", std::string("\0a\0b\0c", 6))};
  EXPECT_EQ(Hex(Decode(AsBytes(PngText(png)), {})), "616263 646566");
  EXPECT_EQ(Hex(Decode(AsBytes(PngText(png)), {.pixels = {.alpha = Alpha::kWhite}})),
            "ffffff 646566");
}

TEST(Decode, PngPixelsThatAreMissingOrBrokenAreRefused) {
  const PngToWrite png{.width = 2, .height = 2, .rows = {"abcdef", "ghijkl"}};
  const std::string whole = PngText(png);
  ASSERT_TRUE(Decode(AsBytes(whole), {}).has_value());
  for (std::size_t size = 8; size + 13 < whole.size(); ++size) {
    Result<Image> cut = Decode(AsBytes(std::string_view(whole).substr(0, size)), {});
    ASSERT_FALSE(cut.has_value()) << size;
    EXPECT_THAT(cut.error().detail(), StartsWith("image is truncated")) << size;
  }
  std::string broken = whole;
  broken[60] = static_cast<char>(broken[60] ^ 1);
  EXPECT_THAT(Decode(AsBytes(broken), {}).error().detail(), StartsWith("image is corrupt"));
  PngToWrite short_one = png;
  short_one.rows.pop_back();
  EXPECT_FALSE(Decode(AsBytes(PngText(short_one)), {}).has_value());
  PngToWrite flat = png;
  flat.height = 0;
  EXPECT_THAT(Decode(AsBytes(PngText(flat)), {}).error().detail(), HasSubstr("size is 2x0"));
}

TEST(Decode, PngTextIsNeverInflated) {
  // A zTXt that claims to be deflated but is noise: a reader that touches it fails.
  PngToWrite png{.width = 1, .height = 1, .rows = {"abc"}};
  png.chunks = PngChunkText("zTXt", std::string("Comment\0\0", 9) + "no deflate stream at all");
  EXPECT_EQ(Hex(Decode(AsBytes(PngText(png)), {})), "616263");
}

TEST(Decode, BmpOfEveryDepth) {
  const std::string palette = std::string("\x0c\x0b\x0a\0\x0f\x0e\x0d\0", 8);
  EXPECT_EQ(Hex(Decode(AsBytes(BmpText({.width = 2,
                                        .height = 1,
                                        .bits = 1,
                                        .palette = palette,
                                        .rows = std::string("\x40\0\0\0", 4)})),
                       {})),
            "0a0b0c 0d0e0f");
  EXPECT_EQ(Hex(Decode(AsBytes(BmpText({.width = 2,
                                        .height = 1,
                                        .bits = 4,
                                        .palette = palette,
                                        .rows = std::string("\x10\0\0\0", 4)})),
                       {})),
            "0d0e0f 0a0b0c");
  EXPECT_EQ(Hex(Decode(AsBytes(BmpText({.width = 2,
                                        .height = 1,
                                        .bits = 8,
                                        .palette = palette,
                                        .rows = std::string("\1\x07\0\0", 4)})),
                       {})),
            "0d0e0f 000000");
  EXPECT_EQ(Hex(Decode(AsBytes(BmpText({.width = 1, .height = 2, .rows = "abc-def-"})), {})),
            "666564 636261")
      << "rows from the bottom up";
  EXPECT_EQ(Hex(Decode(AsBytes(BmpText({.width = 1, .height = -2, .rows = "abc-def-"})), {})),
            "636261 666564");
  EXPECT_EQ(Hex(Decode(
                AsBytes(BmpText(
                    {.width = 1, .height = 1, .bits = 16, .rows = std::string("\x1f\x7c\0\0", 4)})),
                {})),
            "ff00ff");
  EXPECT_EQ(
      Hex(Decode(AsBytes(BmpText({.width = 1, .height = 1, .bits = 32, .rows = "abcd"})), {})),
      "636261");
}

TEST(Decode, BmpThatClaimsMoreThanItHasIsRefused) {
  const std::string bmp = BmpText({.width = 1, .height = 2, .rows = "abc-def"});
  EXPECT_THAT(Decode(AsBytes(bmp), {}).error().detail(),
              StartsWith("image is truncated: its pixels need 8 bytes"));
  EXPECT_THAT(Decode(AsBytes(bmp.substr(0, 40)), {}).error().detail(),
              StartsWith("image is truncated: it ends in its header"));
  EXPECT_THAT(Decode(AsBytes(BmpText({.width = 1, .height = 1, .bits = 7, .rows = "abcd"})), {})
                  .error()
                  .detail(),
              HasSubstr("BMP of 7 bits"));
}

TEST(Decode, LimitsHoldBeforeAnythingIsDecoded) {
  // The pixels are nonsense: only a header was read when this is refused.
  std::string png = PngText({.width = 3000, .height = 2000, .rows = {"no"}});
  const auto refusal = [&](const ImageLimits& limits) {
    Result<Image> image = Decode(AsBytes(png), {.limits = limits});
    EXPECT_FALSE(image.has_value());
    EXPECT_EQ(image.error().code(), Code::kTooLarge);
    return image.error().detail();
  };
  EXPECT_EQ(refusal({.side_max = 2999}),
            "image is too large: width 3000 pixels, above the limit side_max of 2999");
  EXPECT_EQ(refusal({.pixels_max = 5'999'999}),
            "image is too large: 3000x2000 is 6000000 pixels, above the limit pixels_max of "
            "5999999");
  EXPECT_EQ(refusal({.bytes_max = 10}),
            fmt::format("image is too large: it has {} bytes, above the limit bytes_max of 10",
                        png.size()));
  png = OwnFile("moving.gif");
  EXPECT_EQ(refusal({.frames_max = 2}),
            "image is too large: it has at least 3 frames, above the limit frames_max of 2");
}

TEST(Decode, FramesPastTheLimitAreNotCounted) {
  const std::string gif = OwnFile("moving.gif");
  std::string longer = gif.substr(0, gif.size() - 1);
  // Images of one pixel, thousands of them.
  for (int i = 0; i < 10'000; ++i) {
    longer += std::string("\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0", 15);
  }
  longer += ";";
  Result<ImageInfo> info = ReadImageInfo(AsBytes(longer), {});
  ASSERT_FALSE(info.has_value());
  EXPECT_EQ(info.error().detail(),
            "image is too large: it has at least 1001 frames, above the limit frames_max of 1000");
  EXPECT_EQ(ReadImageInfo(AsBytes(longer), {.frames_max = 20'000})->frames, 10'003U);
}

TEST(Decode, CutFilesOfEveryFormatAreErrorsNotImages) {
  for (const char* name : {"turned_6.jpg", "moving.gif", "lossy.webp", "palette.png"}) {
    const std::string whole = OwnFile(name);
    const Image expected = *Decode(AsBytes(whole), {});
    for (std::size_t size = 0; size < whole.size(); size += 97) {
      Result<Image> cut = Decode(AsBytes(std::string_view(whole).substr(0, size)), {});
      // What follows the pixels of the first frame may be missing.
      EXPECT_TRUE(!cut.has_value() || cut->rgb == expected.rgb) << name << " " << size;
    }
  }
}

TEST(Decode, OrientationsTurnAsExifSays) {
  // 1 2 3
  // 4 5 6
  const Image stored{.size = {.width = 3, .height = 2},
                     .rgb = {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6}};
  const auto turned = [&](std::uint8_t orientation) {
    const Image image = Oriented(stored, orientation);
    std::string out;
    for (std::uint32_t y = 0; y < image.size.height; ++y) {
      for (std::uint32_t x = 0; x < image.size.width; ++x) {
        out += static_cast<char>('0' + image.row(y)[x * kImageChannels]);
      }
      out += '/';
    }
    return out;
  };
  EXPECT_EQ(turned(0), "123/456/");
  EXPECT_EQ(turned(1), "123/456/");
  EXPECT_EQ(turned(2), "321/654/");
  EXPECT_EQ(turned(3), "654/321/");
  EXPECT_EQ(turned(4), "456/123/");
  EXPECT_EQ(turned(5), "14/25/36/");
  EXPECT_EQ(turned(6), "41/52/63/");
  EXPECT_EQ(turned(7), "63/52/41/");
  EXPECT_EQ(turned(8), "36/25/14/");
  EXPECT_EQ(turned(9), "123/456/");
}

TEST(Decode, ExifOrientationIsReadInBothByteOrders) {
  const std::string little = std::string("II\x2a\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0", 22);
  const std::string big = std::string("MM\0\x2a\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x08\0\0", 22);
  EXPECT_EQ(ExifOrientation(AsBytes(little)), 6);
  EXPECT_EQ(ExifOrientation(AsBytes(big)), 8);
  std::string ninth = little;
  ninth[18] = 9;
  EXPECT_EQ(ExifOrientation(AsBytes(ninth)), 1) << "there is no such orientation";
  for (std::size_t size = 0; size < little.size(); ++size) {
    EXPECT_EQ(ExifOrientation(AsBytes(little.substr(0, size))), 1) << "cut at " << size;
  }
}

}  // namespace
}  // namespace pixii::media
