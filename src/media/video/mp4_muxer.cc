#include "media/video/mp4_muxer.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string_view>

namespace pixii::media {
namespace {

constexpr std::int32_t kSideMax = 65535;  // a sample entry's
constexpr std::uint32_t kFixedOne = 0x00010000;
constexpr std::uint16_t kUndetermined = 0x55C4;  // the language "und"

/// Numbers of a box, big end first.
class Bytes final {
 public:
  Bytes& U8(std::uint32_t value) { return Put(value, 1); }

  Bytes& U16(std::uint32_t value) { return Put(value, 2); }

  Bytes& U32(std::uint64_t value) { return Put(value, 4); }

  Bytes& Zeros(std::size_t count) {
    text_.append(count, '\0');
    return *this;
  }

  Bytes& Text(std::string_view text) {
    text_ += text;
    return *this;
  }

  const std::string& text() const { return text_; }

 private:
  Bytes& Put(std::uint64_t value, int bytes) {
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
      text_ += static_cast<char>(value >> shift & 0xFF);
    }
    return *this;
  }

  std::string text_;
};

std::string Box(std::string_view type, std::initializer_list<std::string_view> parts) {
  std::size_t size = 8;
  for (const std::string_view part : parts) {
    size += part.size();
  }
  Bytes out;
  out.U32(size).Text(type);
  for (const std::string_view part : parts) {
    out.Text(part);
  }
  return out.text();
}

std::string Box(std::string_view type, const Bytes& content) { return Box(type, {content.text()}); }

/// Version and flags, then the rest.
Bytes Full(std::uint32_t version, std::uint32_t flags) {
  Bytes out;
  out.U32(std::uint64_t{version} << 24 | flags);
  return out;
}

/// No turn, no scale.
void AppendMatrix(Bytes& out) {
  out.U32(kFixedOne).Zeros(12).U32(kFixedOne).Zeros(12).U32(0x40000000);
}

std::uint64_t Duration(const VideoTrack& track) {
  return std::uint64_t{track.sample_duration} * track.samples.size();
}

std::string MovieHeader(const VideoTrack& track) {
  Bytes out = Full(0, 0);
  out.Zeros(8).U32(track.timescale).U32(Duration(track));
  out.U32(kFixedOne).U16(0x0100).Zeros(10);  // speed, loudness
  AppendMatrix(out);
  out.Zeros(24).U32(2);  // the next track's number
  return Box("mvhd", out);
}

std::string TrackHeader(const VideoTrack& track) {
  Bytes out = Full(0, 3);  // enabled, in the movie
  out.Zeros(8).U32(1).Zeros(4).U32(Duration(track)).Zeros(16);
  AppendMatrix(out);
  out.U16(static_cast<std::uint32_t>(track.size.width)).Zeros(2);
  out.U16(static_cast<std::uint32_t>(track.size.height)).Zeros(2);
  return Box("tkhd", out);
}

std::string MediaHeader(const VideoTrack& track) {
  Bytes out = Full(0, 0);
  out.Zeros(8).U32(track.timescale).U32(Duration(track)).U16(kUndetermined).Zeros(2);
  return Box("mdhd", out);
}

std::string Handler() {
  Bytes out = Full(0, 0);
  out.Zeros(4).Text("vide").Zeros(12).Text("video").Zeros(1);
  return Box("hdlr", out);
}

/// Lowest level of VP9 whose picture and sample rate hold this track (VP9 levels, annex A).
std::uint32_t Vp9Level(const VideoTrack& track) {
  struct Level {
    std::uint32_t number;
    std::uint64_t picture;  // luma samples
    std::uint64_t rate;     // luma samples a second
  };

  constexpr Level kLevels[] = {
      {10, 36864, 829440},       {11, 73728, 2764800},      {20, 122880, 4608000},
      {21, 245760, 9216000},     {30, 552960, 20736000},    {31, 983040, 36864000},
      {40, 2228224, 83558400},   {41, 2228224, 160432128},  {50, 8912896, 311951360},
      {51, 8912896, 588251136},  {52, 8912896, 1176502272}, {60, 35651584, 1176502272},
      {61, 35651584, 2353004544}};
  const std::uint64_t picture =
      static_cast<std::uint64_t>(track.size.width) * static_cast<std::uint64_t>(track.size.height);
  const std::uint64_t rate = picture * track.timescale / track.sample_duration;
  for (const Level& level : kLevels) {
    if (picture <= level.picture && rate <= level.rate) {
      return level.number;
    }
  }
  return 62;
}

std::string SampleDescription(const VideoTrack& track) {
  Bytes entry;
  entry.Zeros(6).U16(1).Zeros(16);
  entry.U16(static_cast<std::uint32_t>(track.size.width));
  entry.U16(static_cast<std::uint32_t>(track.size.height));
  entry.U32(0x00480000).U32(0x00480000).Zeros(4).U16(1);  // 72 dots an inch, a frame a sample
  entry.Zeros(32).U16(24).U16(0xFFFF);                    // no name, 24 bits
  Bytes codec = Full(1, 0);
  codec.U8(0).U8(Vp9Level(track)).U8(8 << 4 | 1 << 1);  // 8 bits, 4:2:0 with chroma beside, limited
  codec.U8(1).U8(1).U8(1).U16(0);                       // BT.709; no further data
  Bytes color;
  color.Text("nclx").U16(1).U16(1).U16(1).U8(0);  // BT.709 in limited range
  const std::string vp09 = Box("vp09", {entry.text(), Box("vpcC", codec), Box("colr", color)});
  return Box("stsd", {Full(0, 0).U32(1).text(), vp09});
}

/// All samples in one chunk at `offset` bytes of the file.
std::string SampleTable(const VideoTrack& track, std::uint64_t offset) {
  const std::size_t count = track.samples.size();
  Bytes keys = Full(0, 0);
  keys.U32(static_cast<std::uint64_t>(
      std::count_if(track.samples.begin(), track.samples.end(),
                    [](const VideoSample& sample) { return sample.key; })));
  Bytes sizes = Full(0, 0);
  sizes.U32(0).U32(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (track.samples[i].key) {
      keys.U32(i + 1);
    }
    sizes.U32(track.samples[i].bytes.size());
  }
  return Box("stbl", {SampleDescription(track),
                      Box("stts", Full(0, 0).U32(1).U32(count).U32(track.sample_duration)),
                      Box("stss", keys), Box("stsc", Full(0, 0).U32(1).U32(1).U32(count).U32(1)),
                      Box("stsz", sizes), Box("stco", Full(0, 0).U32(1).U32(offset))});
}

std::string Movie(const VideoTrack& track, std::uint64_t offset) {
  const std::string self = Box("url ", Full(0, 1));  // the pictures are in this file
  const std::string data = Box("dinf", {Box("dref", {Full(0, 0).U32(1).text(), self})});
  const std::string information =
      Box("minf", {Box("vmhd", Full(0, 1).Zeros(8)), data, SampleTable(track, offset)});
  const std::string media = Box("mdia", {MediaHeader(track), Handler(), information});
  return Box("moov", {MovieHeader(track), Box("trak", {TrackHeader(track), media})});
}

}  // namespace

Result<std::string> WriteMp4(const VideoTrack& track) {
  const PictureSize& size = track.size;
  if (track.samples.empty() || track.timescale == 0 || track.sample_duration == 0 ||
      size.width < 1 || size.width > kSideMax || size.height < 1 || size.height > kSideMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("no MP4 file of {} samples of {} x {}, {} of {} ticks each",
                            track.samples.size(), size.width, size.height, track.sample_duration,
                            track.timescale));
  }
  Bytes brand;
  brand.Text("isom").U32(0x200).Text("isomiso2mp41");
  std::string out = Box("ftyp", brand);
  std::uint64_t data_size = 8;
  for (const VideoSample& sample : track.samples) {
    data_size += sample.bytes.size();
  }
  // The offset has the same size whatever it is.
  const std::uint64_t offset = out.size() + Movie(track, 0).size() + 8;
  if (offset + data_size > kMp4SizeMax || Duration(track) > 0xFFFFFFFF) {
    return Fail(Code::kTooLarge,
                fmt::format("the video would have {} bytes and {} ticks, an MP4 file of this kind "
                            "holds {} of each",
                            offset + data_size, Duration(track), kMp4SizeMax));
  }
  out += Movie(track, offset);
  out += Bytes().U32(data_size).Text("mdat").text();
  for (const VideoSample& sample : track.samples) {
    out += sample.bytes;
  }
  return out;
}

}  // namespace pixii::media
