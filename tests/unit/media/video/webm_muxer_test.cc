#include "media/video/webm_muxer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <string>
#include <string_view>
#include <vector>

namespace pixii::media {
namespace {

struct Piece {
  std::uint32_t id = 0;
  std::size_t at = 0;  // of its first byte in the file
  std::string_view content;
};

std::uint64_t Number(std::string_view bytes) {
  std::uint64_t out = 0;
  for (const char byte : bytes) {
    out = out << 8 | static_cast<unsigned char>(byte);
  }
  return out;
}

/// A reader of its own: the elements that `bytes`, which begin at `base`, are made of.
std::vector<Piece> Read(std::string_view bytes, std::size_t base = 0) {
  std::vector<Piece> out;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::size_t begin = at;
    const auto length = [&] {
      return static_cast<std::size_t>(std::countl_zero(static_cast<unsigned char>(bytes.at(at)))) +
             1;
    };
    const std::size_t id_length = length();
    const auto id = static_cast<std::uint32_t>(Number(bytes.substr(at, id_length)));
    at += id_length;
    const std::size_t size_length = length();
    std::uint64_t size = Number(bytes.substr(at, size_length));
    size &= (std::uint64_t{1} << (7 * size_length)) - 1;
    at += size_length;
    EXPECT_LE(size, bytes.size() - at);
    out.push_back({.id = id, .at = base + begin, .content = bytes.substr(at, size)});
    at += size;
  }
  return out;
}

const Piece* Find(const std::vector<Piece>& pieces, std::uint32_t id) {
  for (const Piece& piece : pieces) {
    if (piece.id == id) {
      return &piece;
    }
  }
  return nullptr;
}

std::uint64_t NumberOf(const Piece& master, std::uint32_t id) {
  const std::vector<Piece> inside = Read(master.content);
  const Piece* found = Find(inside, id);
  EXPECT_NE(found, nullptr) << std::hex << id;
  return found == nullptr ? 0 : Number(found->content);
}

TEST(WriteWebm, DescribesThePicturesAndWhereToJumpInFrontOfThem) {
  VideoTrack track{.size = {640, 360}, .timescale = 12000, .sample_duration = 1000, .samples = {}};
  for (int i = 0; i < 150; ++i) {
    track.samples.push_back({"picture " + std::to_string(i), i % 100 == 0});
  }
  const auto written = WriteWebm(track);
  ASSERT_TRUE(written);
  const std::string& file = *written;
  const std::vector<Piece> top = Read(file);
  ASSERT_EQ(top.size(), 2U);
  EXPECT_EQ(top[0].id, 0x1A45DFA3U);
  EXPECT_EQ(Find(Read(top[0].content), 0x4282)->content, "webm");
  ASSERT_EQ(top[1].id, 0x18538067U);
  const std::size_t segment_begin = file.size() - top[1].content.size();
  const std::vector<Piece> segment = Read(top[1].content, segment_begin);
  ASSERT_GE(segment.size(), 4U);
  EXPECT_EQ(segment[0].id, 0x1549A966U);
  EXPECT_EQ(NumberOf(segment[0], 0x2AD7B1), 1'000'000U);
  EXPECT_EQ(std::bit_cast<double>(NumberOf(segment[0], 0x4489)), 12'500.0);
  EXPECT_EQ(segment[1].id, 0x1654AE6BU);
  const std::vector<Piece> tracks = Read(segment[1].content);
  const std::vector<Piece> entry = Read(tracks.at(0).content);
  EXPECT_EQ(Find(entry, 0x86)->content, "V_VP9");
  const Piece& video = *Find(entry, 0xE0);
  EXPECT_EQ(NumberOf(video, 0xB0), 640U);
  EXPECT_EQ(NumberOf(video, 0xBA), 360U);
  EXPECT_EQ(NumberOf(*Find(Read(video.content), 0x55B0), 0x55B1), 1U) << "BT.709";
  EXPECT_EQ(segment[2].id, 0x1C53BB6BU);
  // Each cue leads to a cluster whose first block stands alone.
  const std::vector<Piece> cues = Read(segment[2].content);
  ASSERT_EQ(cues.size(), 2U);
  for (std::size_t i = 0; i < cues.size(); ++i) {
    const std::vector<Piece> cue = Read(cues[i].content);
    const std::size_t at = segment_begin + NumberOf(*Find(cue, 0xB7), 0xF1);
    const auto cluster = std::ranges::find(segment, at, &Piece::at);
    ASSERT_NE(cluster, segment.end());
    EXPECT_EQ(cluster->id, 0x1F43B675U);
    EXPECT_EQ(NumberOf(*cluster, 0xE7), Number(Find(cue, 0xB3)->content));
    EXPECT_EQ(Find(Read(cluster->content), 0xA3)->content[3], '\x80');
  }
  // All pictures in their order, each at its time.
  std::size_t count = 0;
  for (const Piece& piece : segment) {
    if (piece.id != 0x1F43B675) {
      continue;
    }
    const std::uint64_t cluster_at = NumberOf(piece, 0xE7);
    for (const Piece& block : Read(piece.content)) {
      if (block.id != 0xA3) {
        continue;
      }
      ASSERT_LT(count, track.samples.size());
      EXPECT_EQ(block.content[0], '\x81');
      EXPECT_EQ(cluster_at + Number(block.content.substr(1, 2)), (count * 1000 + 6) / 12);
      EXPECT_EQ(block.content[3] == '\x80', track.samples[count].key);
      EXPECT_EQ(block.content.substr(4), track.samples[count].bytes);
      ++count;
    }
  }
  EXPECT_EQ(count, track.samples.size());
}

TEST(WriteWebm, LargePicturesHaveLongSizes) {
  for (const std::size_t size : {120U, 122U, 123U, 124U, 16'378U, 16'379U, 16'380U, 2'097'148U}) {
    const VideoTrack track{.size = {16, 16}, .samples = {{std::string(size, 'x'), true}}};
    const auto written = WriteWebm(track);
    ASSERT_TRUE(written);
    const std::vector<Piece> segment = Read(Read(*written).at(1).content);
    const Piece& cluster = segment.back();
    EXPECT_EQ(Find(Read(cluster.content), 0xA3)->content.size(), size + 4);
  }
}

TEST(WriteWebm, RefusesWhatNobodyCouldPlay) {
  EXPECT_FALSE(WriteWebm({.size = {16, 16}, .samples = {}}));
  EXPECT_FALSE(WriteWebm({.size = {16, 16}, .samples = {{"a", false}}}));
  EXPECT_FALSE(WriteWebm({.size = {0, 16}, .samples = {{"a", true}}}));
  EXPECT_FALSE(WriteWebm({.size = {16, 16}, .timescale = 0, .samples = {{"a", true}}}));
}

}  // namespace
}  // namespace pixii::media
