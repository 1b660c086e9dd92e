#include "media/video/video_file.h"

#include <gtest/gtest.h>

#include <map>
#include <span>
#include <string>
#include <vector>

#include "media/decode.h"

namespace pixii::media {
namespace {

TEST(VideoFileWriter, WritesPicturesOfUnitValues) {
  auto writer = VideoFileWriter::Create({.size = {16, 8}, .frames_per_second = 12.5});
  ASSERT_TRUE(writer.has_value());
  const std::vector<float> picture(16 * 8 * 3, 0.5F);
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(writer->Add(picture).has_value());
  }
  const auto file = writer->Finish();
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->substr(4, 8), "ftypisom");
  const std::size_t header = file->find("mdhd");
  ASSERT_NE(header, std::string::npos);
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>((*file)[at]); };
  EXPECT_EQ(byte(header + 18) << 8 | byte(header + 19), 12500);  // ticks of a second
  EXPECT_EQ(byte(header + 22) << 8 | byte(header + 23), 4000);
}

TEST(VideoFileWriter, PicturesAreTheSameWhateverTheyLieIn) {
  const std::vector<float> grey(32 * 16 * 3, 0.25F);
  std::map<VideoContainer, std::string> files;
  for (const VideoContainer container :
       {VideoContainer::kMp4, VideoContainer::kWebm, VideoContainer::kAvi}) {
    auto writer = VideoFileWriter::Create({.size = {32, 16}, .container = container});
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->Add(grey));
    ASSERT_TRUE(writer->Add(grey));
    const auto file = writer->Finish();
    ASSERT_TRUE(file);
    files[container] = *file;
  }
  // The first sample, which is behind all that describes it in MP4 and in the block of WebM.
  const std::string& mp4 = files[VideoContainer::kMp4];
  const std::string sample = mp4.substr(mp4.find("mdat") + 4, 16);
  EXPECT_NE(files[VideoContainer::kWebm].find(sample), std::string::npos);
  // AVI has JPEG files that show the same.
  const std::string& avi = files[VideoContainer::kAvi];
  const std::size_t at = avi.find("00dc");
  const auto size = static_cast<std::size_t>(static_cast<unsigned char>(avi[at + 4])) |
                    static_cast<std::size_t>(static_cast<unsigned char>(avi[at + 5])) << 8;
  const auto image =
      Decode(std::span(reinterpret_cast<const std::uint8_t*>(avi.data()) + at + 8, size), {});
  ASSERT_TRUE(image) << image.error().ToString();
  EXPECT_EQ(image->size, (ImageSize{32, 16}));
  EXPECT_NEAR(image->rgb[0], 64, 2);
  EXPECT_EQ(DefaultContainer(), VideoContainer::kMp4) << "this library encodes VP9";
}

TEST(VideoFileWriter, RefusesRatesOutOfRangeAndFilesWithoutPictures) {
  for (const double rate : {0.0, -1.0, 1e6}) {
    const auto writer = VideoFileWriter::Create({.size = {16, 8}, .frames_per_second = rate});
    ASSERT_FALSE(writer.has_value());
    EXPECT_EQ(writer.error().param(), "fps");
  }
  auto empty = VideoFileWriter::Create({.size = {16, 8}});
  EXPECT_FALSE(empty->Finish().has_value());
}

}  // namespace
}  // namespace pixii::media
