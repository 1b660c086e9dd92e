#include "media/video/mp4_muxer.h"

#include <gtest/gtest.h>

#include <map>
#include <string_view>

namespace pixii::media {
namespace {

std::uint32_t Number(std::string_view bytes, std::size_t at, int size = 4) {
  std::uint32_t value = 0;
  for (int i = 0; i < size; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes.at(at + static_cast<std::size_t>(i)));
  }
  return value;
}

/// Where each box of the file begins, by its path; boxes that hold boxes are gone into.
void FindBoxes(std::string_view file, std::size_t begin, std::size_t end, const std::string& path,
               std::map<std::string, std::size_t>& out) {
  while (begin < end) {
    const std::size_t size = Number(file, begin);
    ASSERT_GE(size, 8U);
    ASSERT_LE(begin + size, end);
    const std::string type(file.substr(begin + 4, 4));
    const std::string name = path + "/" + type;
    out[name] = begin;
    if (type == "moov" || type == "trak" || type == "mdia" || type == "minf" || type == "stbl" ||
        type == "dinf") {
      FindBoxes(file, begin + 8, begin + size, name, out);
    } else if (type == "stsd" || type == "dref") {
      FindBoxes(file, begin + 16, begin + size, name, out);
    } else if (type == "vp09") {
      FindBoxes(file, begin + 8 + 78, begin + size, name, out);
    }
    begin += size;
  }
}

VideoTrack Track() {
  return {.size = {640, 480},
          .timescale = 16000,
          .sample_duration = 1000,
          .samples = {{"first", true}, {"second!", false}, {"3", true}}};
}

TEST(WriteMp4, PutsEverythingThatDescribesThePicturesInFrontOfThem) {
  const auto written = WriteMp4(Track());
  ASSERT_TRUE(written.has_value());
  const std::string& file = *written;
  std::map<std::string, std::size_t> at;
  FindBoxes(file, 0, file.size(), "", at);
  const std::string table = "/moov/trak/mdia/minf/stbl";
  for (const char* name :
       {"/ftyp", "/moov/mvhd", "/moov/trak/tkhd", "/moov/trak/mdia/mdhd", "/moov/trak/mdia/hdlr",
        "/moov/trak/mdia/minf/vmhd", "/moov/trak/mdia/minf/dinf/dref/url ", "/mdat"}) {
    EXPECT_TRUE(at.contains(name)) << name;
  }
  EXPECT_LT(at["/moov"], at["/mdat"]);
  EXPECT_EQ(Number(file, at["/moov/trak/mdia/mdhd"] + 20), 16000U);
  EXPECT_EQ(Number(file, at["/moov/trak/mdia/mdhd"] + 24), 3000U);
  EXPECT_EQ(Number(file, at["/moov/trak/tkhd"] + 84) >> 16, 640U);
  EXPECT_EQ(Number(file, at["/moov/trak/tkhd"] + 88) >> 16, 480U);
  // Samples: how long, how large, where, which can stand alone.
  EXPECT_EQ(Number(file, at[table + "/stts"] + 16), 3U);
  EXPECT_EQ(Number(file, at[table + "/stts"] + 20), 1000U);
  const std::size_t sizes = at[table + "/stsz"];
  EXPECT_EQ(Number(file, sizes + 16), 3U);
  const std::size_t offset = Number(file, at[table + "/stco"] + 16);
  EXPECT_EQ(offset, at["/mdat"] + 8);
  EXPECT_EQ(file.substr(offset, Number(file, sizes + 20)), "first");
  EXPECT_EQ(file.substr(offset + 5, Number(file, sizes + 24)), "second!");
  EXPECT_EQ(file.substr(offset + 12), "3");
  const std::size_t keys = at[table + "/stss"];
  EXPECT_EQ(Number(file, keys + 12), 2U);
  EXPECT_EQ(Number(file, keys + 16), 1U);
  EXPECT_EQ(Number(file, keys + 20), 3U);
}

TEST(WriteMp4, NamesTheCodecAndItsColours) {
  const std::string file = *WriteMp4(Track());
  std::map<std::string, std::size_t> at;
  FindBoxes(file, 0, file.size(), "", at);
  const std::string entry = "/moov/trak/mdia/minf/stbl/stsd/vp09";
  const std::size_t codec = at[entry + "/vpcC"];
  ASSERT_NE(codec, 0U);
  EXPECT_EQ(Number(file, codec + 8), 1U << 24);   // version 1
  EXPECT_EQ(Number(file, codec + 12, 1), 0U);     // profile
  EXPECT_EQ(Number(file, codec + 13, 1), 30U);    // 640 x 480 at 16 a second: level 3
  EXPECT_EQ(Number(file, codec + 14, 1), 0x82U);  // 8 bits, 4:2:0, limited range
  EXPECT_EQ(Number(file, codec + 15, 3), 0x010101U);
  const std::size_t color = at[entry + "/colr"];
  EXPECT_EQ(file.substr(color + 8, 4), "nclx");
  EXPECT_EQ(Number(file, color + 12), 0x00010001U);
  EXPECT_EQ(Number(file, color + 16, 3), 0x000100U);  // the matrix; then limited range
}

TEST(WriteMp4, RefusesWhatNoFileCanHold) {
  for (const auto& change : {+[](VideoTrack& track) { track.samples.clear(); },
                             +[](VideoTrack& track) { track.size.width = 0; },
                             +[](VideoTrack& track) { track.size.height = 65536; },
                             +[](VideoTrack& track) { track.timescale = 0; }}) {
    VideoTrack track = Track();
    change(track);
    const auto written = WriteMp4(track);
    ASSERT_FALSE(written.has_value());
    EXPECT_EQ(written.error().code(), Code::kInvalidArgument);
  }
  VideoTrack track = Track();
  track.sample_duration = 0xFFFFFFFF;
  const auto written = WriteMp4(track);
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().code(), Code::kTooLarge);
}

}  // namespace
}  // namespace pixii::media
