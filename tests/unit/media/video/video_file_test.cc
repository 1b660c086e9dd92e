#include "media/video/video_file.h"

#include <gtest/gtest.h>

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
