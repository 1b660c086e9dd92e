// From what a getter gives to what a worker is sent.
#include "frontend/model_media.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pixii::frontend {
namespace {

constexpr wire::VisionCard kSmart{.image_token = 7,
                                  .fit = wire::MediaFit::kSmart,
                                  .pixels_min = 56 * 56,
                                  .pixels_max = 112 * 112,
                                  .filter = 1,
                                  .patch_size = 14,
                                  .merge_size = 2,
                                  .frames_per_row = 2};

media::Image Grey(std::uint32_t width, std::uint32_t height) {
  media::Image image{.size = {.width = width, .height = height}, .rgb = {}};
  image.rgb.assign(3 * image.size.pixel_count(), 100);
  return image;
}

MediaPart Part(wire::MediaKind kind = wire::MediaKind::kImage) {
  return {.kind = kind, .url = "u", .where = "here"};
}

Result<ReadMedia> Read(const wire::VisionCard& card, std::uint32_t width, std::uint32_t height) {
  return ModelMedia(card,
                    [&](const std::string& url) {
                      EXPECT_EQ(url, "u");
                      return Result<media::Image>(Grey(width, height));
                    })
      .Read(Part());
}

TEST(ModelMedia, LargePicturesTravelInTheTowersSize) {
  const Result<ReadMedia> read = Read(kSmart, 400, 200);
  ASSERT_TRUE(read) << read.error().ToString();
  const wire::MediaItem& item = read->item;
  EXPECT_EQ(item.width, 140U);
  EXPECT_EQ(item.height, 56U);
  EXPECT_EQ(item.count, 5U * 2U);
  EXPECT_EQ(item.pixels.size(), 3U * 140 * 56);
  EXPECT_EQ(item.digest, wire::MediaDigest(item));
  EXPECT_EQ(read->pixels, 400U * 200U);
}

TEST(ModelMedia, SmallOnesAreLeftToTheWorker) {
  const Result<ReadMedia> read = Read(kSmart, 10, 20);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->item.width, 10U);
  EXPECT_EQ(read->item.height, 20U);
  EXPECT_EQ(read->item.count, 2U * 3U) << "56 x 84 in blocks of 28";
}

TEST(ModelMedia, OtherTowersCountByTheirOwnSize) {
  const wire::VisionCard exact{.image_token = 7,
                               .fit = wire::MediaFit::kExact,
                               .width = 56,
                               .height = 42,
                               .filter = 1,
                               .patch_size = 14,
                               .merge_size = 1,
                               .tokens_more = 1};
  const Result<ReadMedia> read = Read(exact, 300, 10);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->item.count, 4U * 3U + 1U);
  EXPECT_EQ(read->item.width, 300U);
}

TEST(ModelMedia, ErrorsNameTheField) {
  const Result<ReadMedia> thin = Read(kSmart, 1000, 2);
  EXPECT_EQ(thin.error().param(), "here");
  EXPECT_EQ(thin.error().code(), Code::kInvalidArgument);
  const ModelMedia failing(kSmart, [](const std::string&) {
    return Result<media::Image>(Fail(Code::kTooLarge, "is too large"));
  });
  EXPECT_EQ(failing.Read(Part()).error().code(), Code::kInvalidArgument) << "no long context";
  EXPECT_EQ(failing.Read(Part()).error().param(), "here");
  EXPECT_EQ(failing.Read(Part(wire::MediaKind::kVideo)).error().code(), Code::kUnsupported);
  wire::VisionCard tiles = kSmart;
  tiles.fit = wire::MediaFit::kTiles;
  EXPECT_EQ(Read(tiles, 100, 100).error().code(), Code::kUnsupported);
}

TEST(ModelMedia, PlaceholdersAreTheCards) {
  const ModelMedia media(kSmart, {});
  EXPECT_EQ(media.Placeholder(wire::MediaKind::kImage), 7);
  EXPECT_EQ(media.Placeholder(wire::MediaKind::kVideo), std::nullopt);
}

}  // namespace
}  // namespace pixii::frontend
