// Files that lie: each is refused by a sentence, before anything large is taken or gone through.
#include "media/film/film_info.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "media/decoder_child.h"
#include "media/decoder_pool.h"
#include "media/film/film_decode.h"
#include "media/film/film_index.h"
#include "media/video/vp9_encoder.h"

namespace pixii::media {
namespace {

using ::testing::HasSubstr;

media::Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string Big(std::uint64_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out += static_cast<char>(value >> shift & 0xff);
  }
  return out;
}

std::string U32(std::uint64_t value) { return Big(value, 4); }

std::string Box(const std::string& type, const std::string& body) {
  return U32(8 + body.size()) + type + body;
}

/// What differs from a file of three JPEG frames of 16x16, which lie nowhere.
struct Movie {
  std::string code = "jpeg";
  std::uint32_t width = 16;
  std::uint32_t height = 16;
  std::string sizes = U32(0) + U32(7) + U32(3);             // of 7 bytes each
  std::string times = U32(0) + U32(1) + U32(3) + U32(100);  // 100 ticks each
  std::string runs = U32(0) + U32(1) + U32(1) + U32(3) + U32(1);
  std::string chunks = U32(0) + U32(1) + U32(0);
  std::string edits = {};
  std::string descriptions = U32(1);
  std::string handler = "vide";
};

std::string Mp4(const Movie& movie) {
  const std::string entry = Box(movie.code, std::string(24, '\0') + Big(movie.width, 2) +
                                                Big(movie.height, 2) + std::string(50, '\0'));
  const std::string stbl = Box("stbl", Box("stsd", U32(0) + movie.descriptions + entry) +
                                           Box("stts", movie.times) + Box("stsc", movie.runs) +
                                           Box("stsz", movie.sizes) + Box("stco", movie.chunks));
  const std::string mdhd = Box("mdhd", U32(0) + U32(0) + U32(0) + U32(1000) + U32(300) + U32(0));
  const std::string hdlr = Box("hdlr", U32(0) + U32(0) + movie.handler + std::string(13, '\0'));
  const std::string edts = movie.edits.empty() ? "" : Box("edts", Box("elst", movie.edits));
  const std::string trak = Box("trak", Box("tkhd", U32(0) + U32(0) + U32(0) + U32(1)) + edts +
                                           Box("mdia", mdhd + hdlr + Box("minf", stbl)));
  const std::string mvhd = Box("mvhd", U32(0) + U32(0) + U32(0) + U32(1000) + U32(300));
  return Box("ftyp", "isom" + U32(0)) + Box("moov", mvhd + trak);
}

std::string Vint(std::uint64_t value) { return Big(value | std::uint64_t{1} << 56, 8); }

std::string Element(const std::string& id, const std::string& body) {
  return id + Vint(body.size()) + body;
}

const std::string kEbml = "\x1a\x45\xdf\xa3";
const std::string kSegment = "\x18\x53\x80\x67";
const std::string kTracks = "\x16\x54\xae\x6b";
const std::string kCluster = "\x1f\x43\xb6\x75";
const std::string kNoSize = "\xff";

std::string Track(const std::string& codec, const std::string& more = "") {
  return Element(
      kTracks,
      Element("\xae", Element("\xd7", "\x01") + Element("\x83", "\x01") + Element("\x86", codec) +
                          Element("\xe0", Element("\xb0", "\x10") + Element("\xba", "\x10")) +
                          more));
}

std::string Webm(const std::string& body) {
  return Element(kEbml, Element("\x42\x82", "webm")) + kSegment + kNoSize + body;
}

std::string Block(char flags, const std::string& frame) {
  return Element("\xa3", std::string("\x81\0\0", 3) + flags + frame);
}

Error ErrorOf(const std::string& file, const FilmLimits& limits = {}) {
  const Result<FilmInfo> info = ReadFilmInfo(AsBytes(file), limits);
  if (info) {
    ADD_FAILURE() << "it is read: " << info->frames << " frames";
    return {Code::kInternal, ""};
  }
  EXPECT_EQ(info.error().param(), "video");
  return info.error();
}

void ExpectRefused(const std::string& file, Code code, const std::string& why) {
  const Error error = ErrorOf(file);
  EXPECT_EQ(error.code(), code) << error.detail();
  EXPECT_THAT(error.detail(), HasSubstr(why));
}

TEST(FilmInfo, AWholeFileIsRead) {
  const FilmInfo info = *ReadFilmInfo(AsBytes(Mp4({})), {});
  EXPECT_EQ(info, (FilmInfo{.format = FilmFormat::kMp4,
                            .codec = FilmCodec::kJpeg,
                            .size = {.width = 16, .height = 16},
                            .frames = 3,
                            .seconds = 0.3}));
  EXPECT_NEAR(info.frames_per_second(), 10.0, 1e-9);
  const std::string webm =
      Webm(Track("V_VP8") + kCluster + kNoSize + Element("\xe7", "\x05") + Block('\x80', "\x10") +
           Block('\0', "\x10") + kCluster + kNoSize + Element("\xe7", "\x55") +
           Block('\0', "\x10") + Block('\0', std::string(1, '\0')));
  const FilmInfo cluster = *ReadFilmInfo(AsBytes(webm), {});
  EXPECT_EQ(cluster.frames, 3U) << "a frame of VP8 that nobody sees is none";
}

TEST(FilmInfo, WhatIsNoVideoIsRefused) {
  ExpectRefused("", Code::kInvalidArgument, "video is empty");
  ExpectRefused("<svg>", Code::kUnsupported, "its first bytes are not those of MP4, WebM, AVI");
  ExpectRefused(Box("ftyp", "isom"), Code::kInvalidArgument, "it has no box \"moov\"");
  ExpectRefused(Mp4({.handler = "soun"}), Code::kUnsupported, "it has no video track");
  ExpectRefused(Webm(Element(kTracks, "")), Code::kUnsupported, "it has no video track");
}

TEST(FilmInfo, CodecsThatAreNotReadAreNamed) {
  ExpectRefused(Mp4({.code = "hvc1"}), Code::kUnsupported, "its codec is HEVC (\"hvc1\")");
  ExpectRefused(Mp4({.code = "encv"}), Code::kUnsupported, "encrypted (\"encv\")");
  ExpectRefused(Mp4({.code = "x\n\xff"
                             "1"}),
                Code::kUnsupported, "of another kind (\"x??1\")");
  ExpectRefused(Webm(Track("V_THEORA\n")), Code::kUnsupported, "(\"V_THEORA?\")");
  ExpectRefused(Webm(Track("V_VP9", Element("\x6d\x80", ""))), Code::kUnsupported,
                "compressed or encrypted once more");
  ExpectRefused(Mp4({.descriptions = U32(2)}), Code::kUnsupported, "of 2 kinds in turn");
}

TEST(FilmInfo, BoxesThatPassTheirEndOrSayNothingAreRefused) {
  const std::string whole = Mp4({});
  const std::size_t moov = whole.find("moov") - 4;
  for (const std::uint64_t size : {2U, 7U}) {
    std::string file = whole;
    file.replace(moov, 4, U32(size));
    ExpectRefused(file, Code::kInvalidArgument, "says that it has");
  }
  for (const std::uint64_t size : {0xffff'ffffULL, 0x8000'0000ULL}) {
    std::string file = whole;
    file.replace(moov, 4, U32(size));
    ExpectRefused(file, Code::kInvalidArgument, "video is truncated");
  }
  std::string wide = Box("ftyp", "isom") + U32(1) + "moov" + Big(~0ULL, 8);
  ExpectRefused(wide, Code::kInvalidArgument, "video is truncated");
  // A thousand boxes around each other, and one that is its own beginning, end all the same.
  std::string deep = "x";
  for (int i = 0; i < 1000; ++i) {
    deep = Box("moov", deep);
  }
  ExpectRefused(Box("ftyp", "isom") + deep, Code::kInvalidArgument, "it has no box \"mvhd\"");
}

TEST(FilmInfo, FramesThatAreClaimedAreCountedBeforeTheyAreThere) {
  ExpectRefused(Mp4({.sizes = U32(0) + U32(7) + U32(1'000'000'000)}), Code::kTooLarge,
                "it has 1000000000 frames, above the limit frames_max of 20000");
  ExpectRefused(Mp4({.sizes = U32(0) + U32(0) + U32(20'000)}), Code::kInvalidArgument,
                "the table of 20000 sizes ends early");
  ExpectRefused(Mp4({.chunks = U32(0) + U32(0x4000'0000)}), Code::kInvalidArgument,
                "its table \"stco\" of 1073741824 entries");
  // Runs that say four thousand million samples give those that there are.
  EXPECT_EQ(ReadFilmInfo(AsBytes(Mp4({.times = U32(0) + U32(1) + U32(~0U) + U32(100),
                                      .runs = U32(0) + U32(1) + U32(1) + U32(~0U) + U32(1)})),
                         {})
                ->frames,
            3U);
  ExpectRefused(Mp4({.runs = U32(0) + U32(0)}), Code::kInvalidArgument, "places of 0 of them");
  ExpectRefused(Mp4({.sizes = U32(0) + U32(7) + U32(0)}), Code::kInvalidArgument,
                "it shows no frame");
  std::string many = Track("V_VP8") + kCluster + kNoSize;
  for (int i = 0; i < 30; ++i) {
    many += Block('\x80', "\x10");
  }
  EXPECT_THAT(ErrorOf(Webm(many), {.frames_max = 20}).detail(),
              HasSubstr("it has at least 21 frames, above the limit frames_max of 20"));
}

TEST(FilmInfo, FramesOutsideOfTheFileAreRefused) {
  ExpectRefused(Mp4({.chunks = U32(0) + U32(1) + U32(0xffff'fff0)}), Code::kInvalidArgument,
                "frame 0 lies at byte 4294967280");
  ExpectRefused(Mp4({.sizes = U32(0) + U32(0xffff'ffff) + U32(3)}), Code::kInvalidArgument,
                "video is truncated: frame 0");
}

TEST(FilmInfo, SizesAreHeldToTheLimits) {
  EXPECT_THAT(ErrorOf(Mp4({.width = 65'535, .height = 65'535})).detail(),
              HasSubstr("width 65535 pixels, above the limit side_max of 8192"));
  EXPECT_THAT(ErrorOf(Mp4({.width = 8'000, .height = 8'000})).detail(),
              HasSubstr("64000000 pixels, above the limit pixels_max of 16777216"));
  ExpectRefused(Mp4({.width = 0}), Code::kInvalidArgument, "its size is 0x16");
  EXPECT_THAT(ErrorOf(Mp4({}), {.bytes_max = 100}).detail(), HasSubstr("limit bytes_max of 100"));
}

TEST(FilmInfo, AnEditListCutsAndSeveralPiecesAreRefused) {
  const auto edit = [](std::uint32_t duration, std::uint32_t begin) {
    return U32(duration) + U32(begin) + U32(0x10000);
  };
  const auto frames = [](const std::string& edits) {
    return ReadFilmInfo(AsBytes(Mp4({.edits = edits})), {})->frames;
  };
  EXPECT_EQ(frames(U32(0) + U32(1) + edit(300, 0)), 3U);
  EXPECT_EQ(frames(U32(0) + U32(1) + edit(0, 100)), 2U);
  EXPECT_EQ(frames(U32(0) + U32(2) + edit(50, ~0U) + edit(100, 100)), 1U) << "after a pause";
  ExpectRefused(Mp4({.edits = U32(0) + U32(2) + edit(100, 0) + edit(100, 200)}), Code::kUnsupported,
                "several pieces by an edit list");
  ExpectRefused(Mp4({.edits = U32(0) + U32(1) + edit(100, 900)}), Code::kInvalidArgument,
                "it shows no frame");
}

TEST(FilmInfo, ElementsOfMatroskaThatLieAreRefused) {
  ExpectRefused(Webm(std::string("\0\0\0", 3)), Code::kInvalidArgument, "it ends in an element");
  ExpectRefused(Webm(kTracks + Vint(0x00ff'ffff'ffff'fffe)), Code::kInvalidArgument,
                "passes its end");
  ExpectRefused(Webm(kTracks + kNoSize), Code::kInvalidArgument, "passes its end");
  ExpectRefused(Webm(Element(kTracks, Element("\xae", "\xd7\x88\x01"))), Code::kInvalidArgument,
                "passes the one around it");
  ExpectRefused(Webm(Track("V_VP8") + Block('\x82', "\x10")), Code::kUnsupported,
                "several frames lie in one block");
  ExpectRefused(Webm(Track("V_VP8") + Element("\xa3", "\x81")), Code::kInvalidArgument,
                "a block of it ends early");
  ExpectRefused(Webm(Track("V_VP8")), Code::kInvalidArgument, "it shows no frame");
}

std::string Little(std::uint32_t value) {
  const std::string big = U32(value);
  return {big.rbegin(), big.rend()};
}

std::string Chunk(const std::string& id, const std::string& body) {
  return id + Little(static_cast<std::uint32_t>(body.size())) + body;
}

TEST(FilmInfo, ChunksOfAviThatLieAreRefused) {
  const auto avi = [](const std::string& codec, const std::string& movie) {
    const std::string strh = "vids" + codec + std::string(12, '\0') + Little(1) + Little(5);
    const std::string strf = Little(40) + Little(16) + Little(16) + Little(1) + codec;
    return "RIFF" + Little(0) + "AVI " +
           Chunk("LIST", "strl" + Chunk("strh", strh) + Chunk("strf", strf)) +
           Chunk("LIST", "movi" + movie);
  };
  EXPECT_EQ(
      ReadFilmInfo(
          AsBytes(avi("MJPG", Chunk("00dc", "ab") + Chunk("01wb", "cd") + Chunk("00dc", ""))), {})
          ->frames,
      1U);
  ExpectRefused(avi("XVID", ""), Code::kUnsupported, "its codec is \"XVID\"");
  ExpectRefused(avi("MJPG", "00dc" + Little(~0U)), Code::kInvalidArgument,
                "its chunk \"00dc\" of 4294967295 bytes has 0");
  ExpectRefused("RIFF" + Little(4) + "AVI LIST" + Little(3) + "strl", Code::kInvalidArgument,
                "the list of a stream passes its end");
}

std::vector<VideoSample> Vp9(PictureSize size, int count) {
  Vp9Encoder encoder = *Vp9Encoder::Create({.size = size});
  const std::size_t bytes = 3 * static_cast<std::size_t>(size.width) * size.height;
  for (int i = 0; i < count; ++i) {
    const std::vector<std::uint8_t> rgb(bytes, static_cast<std::uint8_t>(40 * i));
    EXPECT_TRUE(encoder.Add(YuvFromRgb(size, rgb)).has_value());
  }
  EXPECT_TRUE(encoder.Finish().has_value());
  return encoder.TakeSamples();
}

DecoderPoolOptions Honest() {
  return {.command = {"/proc/self/exe", std::string(kDecoderCommand)}};
}

TEST(FilmInfo, AVideoThatThisProgramWroteIsRead) {
  const VideoTrack track{.size = {.width = 40, .height = 24},
                         .timescale = 8'000,
                         .samples = Vp9({.width = 40, .height = 24}, 5)};
  const std::string file = *WriteMp4(track);
  const FilmInfo info = *ReadFilmInfo(AsBytes(file), {});
  EXPECT_EQ(info.frames, 5U);
  EXPECT_NEAR(info.frames_per_second(), 8.0, 1e-9);
  const std::uint32_t frames[] = {0, 4};
  const auto rgb = DecoderPool(Honest()).DecodeFrames(AsBytes(file), {.frames = frames});
  ASSERT_TRUE(rgb.has_value()) << rgb.error().detail();
  EXPECT_NEAR(rgb->front(), 0, 3);
  EXPECT_NEAR(rgb->back(), 160, 3);
}

TEST(FilmInfo, AVideoThatChangesItsSizeIsRefused) {
  std::vector<VideoSample> samples = Vp9({.width = 40, .height = 24}, 2);
  const std::vector<VideoSample> larger = Vp9({.width = 4'000, .height = 24}, 1);
  samples.insert(samples.end(), larger.begin(), larger.end());
  const std::string file = *WriteMp4({.size = {.width = 40, .height = 24}, .samples = samples});
  const std::uint32_t last[] = {2};
  const auto rgb = DecoderPool(Honest()).DecodeFrames(AsBytes(file), {.frames = last});
  ASSERT_FALSE(rgb.has_value());
  EXPECT_EQ(rgb.error().code(), Code::kUnsupported);
  EXPECT_THAT(rgb.error().detail(), HasSubstr("frame 2 is 4000x24, the video 40x24"));
  const std::uint32_t first[] = {1};
  EXPECT_TRUE(DecoderPool(Honest()).DecodeFrames(AsBytes(file), {.frames = first}).has_value());
}

TEST(FilmInfo, MoreThanMayBeTakenIsRefusedBeforeItIsDecoded) {
  const std::string file = *WriteMp4(
      {.size = {.width = 40, .height = 24}, .samples = Vp9({.width = 40, .height = 24}, 3)});
  DecoderPool pool(Honest());
  const std::uint32_t frames[] = {0, 1, 2};
  const auto large = pool.DecodeFrames(
      AsBytes(file), {.frames = frames, .limits = {.frame_bytes_max = 3 * 40 * 24 * 3 - 1}});
  ASSERT_FALSE(large.has_value());
  EXPECT_EQ(large.error().code(), Code::kTooLarge);
  EXPECT_THAT(large.error().detail(), HasSubstr("above the limit frame_bytes_max of 8639"));
  const std::uint32_t beyond[] = {0, 3};
  EXPECT_THAT(pool.DecodeFrames(AsBytes(file), {.frames = beyond}).error().detail(),
              HasSubstr("2 frames up to 3 cannot be taken from the 3 of a video"));
  EXPECT_EQ(pool.DecodeFrames(AsBytes(file), {}).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(pool.started(), 0U);
}

TEST(FilmInfo, BytesThatNoDecoderTakesAreAnErrorOfTheirVideoAlone) {
  std::vector<VideoSample> samples = Vp9({.width = 40, .height = 24}, 3);
  samples[1].bytes.assign(samples[1].bytes.size(), '\x3c');
  const std::string file = *WriteMp4({.size = {.width = 40, .height = 24}, .samples = samples});
  DecoderPool pool(Honest());
  const std::uint32_t last[] = {2};
  const auto rgb = pool.DecodeFrames(AsBytes(file), {.frames = last});
  ASSERT_FALSE(rgb.has_value());
  EXPECT_EQ(rgb.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(rgb.error().detail(), HasSubstr("video is corrupt: frame 1"));
  EXPECT_EQ(pool.started(), 1U);
}

}  // namespace
}  // namespace pixii::media
