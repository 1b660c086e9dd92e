#include "media/video/avi_muxer.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace pixii::media {
namespace {

std::uint32_t Number(std::string_view bytes, std::size_t at) {
  std::uint32_t out = 0;
  for (std::size_t i = 4; i-- > 0;) {
    out = out << 8 | static_cast<unsigned char>(bytes.at(at + i));
  }
  return out;
}

struct Chunk {
  std::string id;
  std::size_t at = 0;  // of its id
  std::string_view content;
};

std::vector<Chunk> Chunks(std::string_view bytes, std::size_t base) {
  std::vector<Chunk> out;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::uint32_t size = Number(bytes, at + 4);
    EXPECT_LE(size, bytes.size() - at - 8);
    out.push_back({.id = std::string(bytes.substr(at, 4)),
                   .at = base + at,
                   .content = bytes.substr(at + 8, size)});
    at += 8 + size + size % 2;
  }
  EXPECT_EQ(at, bytes.size());
  return out;
}

TEST(WriteAvi, HasHeadersPicturesAndAnIndexThatFindsThem) {
  const std::vector<std::string> pictures = {"first", "second", "3"};
  const auto written = WriteAvi({.size = {64, 48}, .rate = 12500, .scale = 1000}, pictures);
  ASSERT_TRUE(written);
  const std::string_view file = *written;
  EXPECT_EQ(file.substr(0, 4), "RIFF");
  EXPECT_EQ(Number(file, 4), file.size() - 8);
  EXPECT_EQ(file.substr(8, 4), "AVI ");
  const std::vector<Chunk> top = Chunks(file.substr(12), 12);
  ASSERT_EQ(top.size(), 3U);
  EXPECT_EQ(top[0].content.substr(0, 4), "hdrl");
  const std::vector<Chunk> headers = Chunks(top[0].content.substr(4), 0);
  ASSERT_EQ(headers[0].id, "avih");
  ASSERT_EQ(headers[0].content.size(), 56U);
  EXPECT_EQ(Number(headers[0].content, 0), 80'000U) << "microseconds of a picture";
  EXPECT_EQ(Number(headers[0].content, 16), 3U);
  EXPECT_EQ(Number(headers[0].content, 32), 64U);
  EXPECT_EQ(Number(headers[0].content, 36), 48U);
  const std::vector<Chunk> stream = Chunks(headers[1].content.substr(4), 0);
  ASSERT_EQ(stream[0].content.size(), 56U);
  EXPECT_EQ(stream[0].content.substr(0, 8), "vidsMJPG");
  EXPECT_EQ(Number(stream[0].content, 24), 12500U);
  EXPECT_EQ(Number(stream[0].content, 32), 3U);
  ASSERT_EQ(stream[1].content.size(), 40U);
  EXPECT_EQ(stream[1].content.substr(16, 4), "MJPG");
  ASSERT_EQ(top[1].content.substr(0, 4), "movi");
  EXPECT_EQ(top[2].id, "idx1");
  const std::size_t base = top[1].at + 8;  // of the list's type: offsets count from there
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const std::string_view entry = top[2].content.substr(16 * i, 16);
    EXPECT_EQ(entry.substr(0, 4), "00dc");
    const std::size_t at = base + Number(entry, 8);
    EXPECT_EQ(at % 2, 0U);
    EXPECT_EQ(file.substr(at, 4), "00dc");
    EXPECT_EQ(Number(file, at + 4), pictures[i].size());
    EXPECT_EQ(file.substr(at + 8, Number(entry, 12)), pictures[i]);
  }
}

TEST(WriteAvi, RefusesNothingAndTooMuch) {
  EXPECT_FALSE(WriteAvi({.size = {16, 16}}, {}));
  const std::vector<std::string> one = {"a"};
  EXPECT_FALSE(WriteAvi({.size = {0, 16}}, one));
  EXPECT_FALSE(WriteAvi({.size = {16, 16}, .rate = 0}, one));
}

}  // namespace
}  // namespace pixii::media
