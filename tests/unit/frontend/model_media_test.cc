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
                                  .filter = wire::MediaFilter::kBicubic,
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
                               .filter = wire::MediaFilter::kBicubic,
                               .patch_size = 14,
                               .merge_size = 1,
                               .tokens_more = 1};
  const Result<ReadMedia> read = Read(exact, 300, 10);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->item.count, 4U * 3U + 1U);
  EXPECT_EQ(read->item.width, 300U);
}

TEST(ModelMedia, TilesCountWithoutPaddingAndWithNewlines) {
  wire::VisionCard tiles{.image_token = 7,
                         .fit = wire::MediaFit::kTiles,
                         .width = 56,
                         .height = 56,
                         .pinpoints = {56, 112, 112, 56, 112, 112},
                         .filter = wire::MediaFilter::kBicubic,
                         .patch_size = 14,
                         .merge_size = 1,
                         .tiles_max = 9};
  const Result<ReadMedia> read = Read(tiles, 90, 70);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->item.count, 16U + 6 * (8 + 1)) << "as transformers counts it";
  EXPECT_EQ(read->item.width, 90U) << "the worker cuts";
  tiles.tiles_max = 1;
  EXPECT_EQ(Read(tiles, 112, 112)->item.count, 16U + 4 * (4 + 1)) << "scaled down to one tile";
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
}

wire::VisionCard WithFilms(wire::FilmCard film) {
  wire::VisionCard card = kSmart;
  card.video_token = 8;
  film.frames_min = 4;
  film.frames_max = 768;
  card.film = film;
  return card;
}

wire::VisionCard Plain() { return WithFilms({.pixels_min = 28 * 28, .pixels_max = 112 * 112}); }

/// Every frame of a film has its own grey.
FilmGetter Greys(media::FilmInfo info) {
  return [info](const std::string& url, const FilmPlanner& plan) -> Result<ShownFilm> {
    EXPECT_EQ(url, "u");
    ShownFilm out{.info = info, .plan = {}, .rgb = {}};
    PX_TRY(out.plan, plan(info));
    for (const std::uint32_t frame : out.plan.frames) {
      out.rgb.insert(out.rgb.end(), 3 * out.plan.resizing.size.pixel_count(),
                     static_cast<std::uint8_t>(frame));
    }
    return out;
  };
}

Result<ReadMedia> ReadFilm(const wire::VisionCard& card, const media::FilmInfo& info) {
  return ModelMedia(card, {}, {}, Greys(info)).Read(Part(wire::MediaKind::kVideo));
}

TEST(ModelMedia, AVideoIsShownByTwoFramesOfEachSecondInTheTowersSize) {
  const Result<ReadMedia> read =
      ReadFilm(Plain(), {.size = {.width = 400, .height = 200}, .frames = 90, .seconds = 3.0});
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_TRUE(read->rows.empty());
  const wire::MediaItem& item = read->item;
  EXPECT_EQ(item.kind, wire::MediaKind::kVideo);
  EXPECT_EQ(item.frames, 6U);
  EXPECT_EQ(item.width, 140U);
  EXPECT_EQ(item.height, 56U);
  EXPECT_EQ(item.count, 3U * 5 * 2);
  EXPECT_EQ(item.seconds_per_frame, 0.5F);
  const std::size_t frame = 3U * 140 * 56;
  ASSERT_EQ(item.pixels.size(), 6 * frame);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(static_cast<std::uint8_t>(item.pixels[i * frame]), 15 * i);
  }
  EXPECT_EQ(item.digest, wire::MediaDigest(item));
  EXPECT_EQ(read->pixels, 6U * 140 * 56);
}

TEST(ModelMedia, RowsOfATimedVideoStandAloneBehindTheirTimes) {
  const wire::VisionCard card = WithFilms({.pixels_min = 28 * 28,
                                           .pixels_max = 1 << 20,
                                           .bounds_all_frames = true,
                                           .with_ends = true,
                                           .timed = true,
                                           .start_token = 20,
                                           .end_token = 21});
  wire::VisionCard five = card;
  five.film->frames = 5;
  const Result<ReadMedia> read =
      ReadFilm(five, {.size = {.width = 56, .height = 28}, .frames = 60, .seconds = 2.0});
  ASSERT_TRUE(read) << read.error().ToString();
  // Frames 0, 15 (14.75), 30 (29.5), 44 (44.25) and 59 of 30 a second; the last one fills its row.
  ASSERT_EQ(read->rows.size(), 3U);
  EXPECT_EQ(read->rows[0].words, "<0.2 seconds>");
  EXPECT_EQ(read->rows[1].words, "<1.2 seconds>");
  EXPECT_EQ(read->rows[2].words, "<2.0 seconds>");
  EXPECT_EQ(read->start_mark, 20);
  EXPECT_EQ(read->end_mark, 21);
  EXPECT_EQ(read->rows[0].item.frames, 2U);
  EXPECT_EQ(read->rows[2].item.frames, 1U);
  for (const ReadMedia::Row& row : read->rows) {
    EXPECT_EQ(row.item.count, 2U);
    EXPECT_EQ(row.item.digest, wire::MediaDigest(row.item));
  }
  EXPECT_EQ(static_cast<std::uint8_t>(read->rows[1].item.pixels[0]), 30);
}

TEST(ModelMedia, AFrameOfManyHasAnEqualShareOfTheBounds) {
  wire::FilmCard film{.pixels_min = 28 * 28, .pixels_max = 8 * 56 * 56, .bounds_all_frames = true};
  const media::FilmInfo two{.size = {.width = 112, .height = 112}, .frames = 2, .seconds = 1.0};
  EXPECT_EQ(PlanFilm(two, WithFilms(film), *WithFilms(film).film)->resizing.size,
            (media::ImageSize{112, 112}));
  film.pixels_max = 2 * 1024 * 28 * 28;
  const media::FilmInfo large{.size = {.width = 896, .height = 896}, .frames = 2, .seconds = 1.0};
  EXPECT_EQ(PlanFilm(large, WithFilms(film), *WithFilms(film).film)->resizing.size,
            (media::ImageSize{896, 896}));
  film.shares_bounds = true;  // 768 blocks a frame: 27.7 of a side
  EXPECT_EQ(PlanFilm(large, WithFilms(film), *WithFilms(film).film)->resizing.size,
            (media::ImageSize{756, 756}));
}

TEST(ModelMedia, VideosThatCannotBeShownNameTheirField) {
  const media::FilmInfo thin{.size = {.width = 4000, .height = 2}, .frames = 9, .seconds = 1.0};
  EXPECT_EQ(ReadFilm(Plain(), thin).error().param(), "here");
  wire::VisionCard many = Plain();
  many.film->frames = 12;
  EXPECT_EQ(ReadFilm(many, {.size = {.width = 56, .height = 56}, .frames = 9, .seconds = 1.0})
                .error()
                .detail(),
            "here: 12 frames cannot be taken from the 9 of a video");
  const ModelMedia without(Plain(), {});
  EXPECT_EQ(without.Read(Part(wire::MediaKind::kVideo)).error().code(), Code::kUnsupported);
}

TEST(ModelMedia, PlaceholdersAreTheCards) {
  const ModelMedia media(kSmart, {});
  EXPECT_EQ(media.Placeholder(wire::MediaKind::kImage), 7);
  EXPECT_EQ(media.Placeholder(wire::MediaKind::kVideo), std::nullopt);
}

}  // namespace
}  // namespace pixii::frontend
