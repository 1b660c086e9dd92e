#include "model/video_processor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "media/patches.h"
#include "model/config.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;

std::string Config(const std::string& architecture, const std::string& tokens) {
  return R"({"architectures": [")" + architecture + R"("], "image_token_id": 500, )" + tokens +
         R"("text_config": {"head_dim": 16, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 512,
    "max_position_embeddings": 256},
  "vision_config": {"depth": 3, "hidden_size": 32, "intermediate_size": 40, "num_heads": 2,
    "out_hidden_size": 32, "fullatt_block_indexes": [1], "deepstack_visual_indexes": [0],
    "num_position_embeddings": 9}})";
}

constexpr const char* kTokens =
    R"("video_token_id": 501, "vision_start_token_id": 502, "vision_end_token_id": 503, )";

VisionSpec Spec(const std::string& architecture, const std::string& tokens = kTokens) {
  const auto config = ParseConfig(Config(architecture, tokens), "");
  EXPECT_TRUE(config) << config.error().ToString();
  return *config->vision;
}

VisionSpec Qwen25() { return Spec("Qwen2_5_VLForConditionalGeneration"); }

VisionSpec Qwen3() { return Spec("Qwen3VLForConditionalGeneration"); }

constexpr const char* kFile = "video_preprocessor_config.json";

TEST(VideoProcessor, OfAFileForVideosItsOwnNumbersCount) {
  const auto read = ParseVideoProcessor(
      R"({"size": {"shortest_edge": 100352, "longest_edge": 602112}, "fps": 1.5,
          "min_frames": 6, "max_frames": 60, "num_frames": null})",
      kFile, false, Qwen25());
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->patches.pixels_min, 100'352U);
  EXPECT_EQ(read->patches.pixels_max, 602'112U);
  EXPECT_FALSE(read->bounds_all_frames);
  EXPECT_EQ(read->sampling, (media::Sampling{.frames_per_second = 1.5,
                                             .frames_min = 6,
                                             .frames_max = 60,
                                             .multiple = 2,
                                             .spacing = media::Spacing::kFromFirst}));
}

TEST(VideoProcessor, OfAFileForPicturesTheBoundsCountAndTwoFramesOfASecondAreTaken) {
  const auto read = ParseVideoProcessor(R"({"min_pixels": 3136, "max_pixels": 12544, "fps": 9})",
                                        "preprocessor_config.json", true, Qwen25());
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->patches.pixels_max, 12'544U);
  EXPECT_EQ(read->sampling, media::Sampling{});
}

TEST(VideoProcessor, BoundsOfQwen3AreForAllFramesTogether) {
  const auto read = ParseVideoProcessor(
      R"({"video_processor": {"size": {"shortest_edge": 4096, "longest_edge": 25165824},
                              "cap_pixels_per_frame": true, "num_frames": 8}})",
      "processor_config.json", false, Qwen3());
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_TRUE(read->bounds_all_frames);
  EXPECT_TRUE(read->shares_bounds);
  EXPECT_EQ(read->sampling.frames, 8U);
  EXPECT_EQ(read->sampling.spacing, media::Spacing::kEnds);
}

TEST(VideoProcessor, NumbersThatCannotBeAreRefusedByName) {
  const auto error = [](const std::string& text) {
    const auto read = ParseVideoProcessor(text, kFile, false, Qwen25());
    EXPECT_FALSE(read);
    return read ? "" : read.error().detail();
  };
  EXPECT_THAT(error(R"({"fps": 0})"), HasSubstr("fps"));
  EXPECT_THAT(error(R"({"fps": 2, "num_frames": 4})"), HasSubstr("num_frames are both set"));
  EXPECT_THAT(error(R"({"min_frames": 9, "max_frames": 4})"), HasSubstr("above the 4"));
  EXPECT_THAT(error(R"({"max_frames": 1000000})"), HasSubstr("max_frames"));
  EXPECT_THAT(error(R"({"temporal_patch_size": 4})"), HasSubstr("temporal_patch_size"));
}

TEST(VideoProcessor, OnlyTowersThatMergeFramesShowVideos) {
  EXPECT_TRUE(Qwen25().shows_videos());
  EXPECT_TRUE(Qwen3().shows_videos());
  EXPECT_FALSE(Spec("Qwen2_5_VLForConditionalGeneration", "").shows_videos());
  EXPECT_FALSE(Spec("Qwen3VLForConditionalGeneration", R"("video_token_id": 501, )").shows_videos())
      << "its frames stand between marks";
}

// The reference's function, written down again: a video of 10 frames.
TEST(SmartFilmSize, SharesTheBoundsAmongItsFrames) {
  const auto size = [](std::uint32_t width, std::uint32_t height, std::uint32_t frames,
                       std::uint64_t most) {
    return *media::SmartFilmSize({.width = width, .height = height}, frames, 2, 32, 4096, most);
  };
  EXPECT_EQ(size(640, 360, 10, 25'165'824), (media::ImageSize{640, 352}));
  // sqrt(10 * 360 * 640 / 786432) = 1.7116: 360 / 1.7116 = 210.3, 640 / 1.7116 = 373.9.
  EXPECT_EQ(size(640, 360, 10, 786'432), (media::ImageSize{352, 192}));
  // Below one block a side is brought to it first, and then all to the least: 2 * 32 * 32 < 4096,
  // sqrt(4096 / (2 * 32 * 32)) = 1.414.
  EXPECT_EQ(size(8, 8, 2, 786'432), (media::ImageSize{64, 64}));
  EXPECT_EQ(size(64, 64, 1, 786'432), (media::ImageSize{64, 64})) << "one frame fills a row";
  // 11 frames round to 12 (5.5 to the even 6): 12 * 64 * 64 is past 49151, 11 * 64 * 64 is not.
  EXPECT_EQ(size(64, 64, 11, 49'151), (media::ImageSize{64, 64}));
  EXPECT_EQ(size(96, 96, 11, 110'000), (media::ImageSize{96, 96}));
}

TEST(MakeVideoPatches, OfOnePictureAgainAndAgainAreThePicturesRows) {
  media::Image image{.size = {.width = 56, .height = 28}, .rgb = {}};
  for (std::size_t i = 0; i < 56U * 28 * 3; ++i) {
    image.rgb.push_back(static_cast<std::uint8_t>(i * 7 % 251));
  }
  media::PatchSpec spec{.fit = media::Fit::kSmart,
                        .size = {},
                        .pixels_min = 28 * 28,
                        .pixels_max = 112 * 112,
                        .pinpoints = {},
                        .mean = {0.5F, 0.4F, 0.3F},
                        .deviation = {0.2F, 0.3F, 0.4F},
                        .patch_size = 14,
                        .merge_size = 2,
                        .frames_per_row = 2};
  const media::Patches picture = *media::MakePatches(image, spec);
  spec.fit = media::Fit::kExact;
  spec.size = image.size;
  for (const std::size_t count : {1U, 2U}) {
    const std::vector<media::Image> frames(count, image);
    const media::Patches video = *media::MakeVideoPatches(frames, spec);
    EXPECT_EQ(video.frames, 1U);
    EXPECT_EQ(video.values, picture.values) << count;
  }
}

}  // namespace
}  // namespace pixii::model
