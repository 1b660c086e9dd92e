#include "media/video/webm_muxer.h"

#include <fmt/format.h>

#include <bit>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace pixii::media {
namespace {

constexpr std::uint64_t kTickNanoseconds = 1'000'000;  // the guidelines want milliseconds
constexpr std::uint64_t kClusterTicksMax = 5000;       // blocks count from theirs in 16 bits
constexpr int kPositionBytes = 8;  // so that cues are as long wherever they lead

// Identifiers, as the registry of RFC 9559 has them.
constexpr std::uint32_t kEbml = 0x1A45DFA3;
constexpr std::uint32_t kSegment = 0x18538067;
constexpr std::uint32_t kInfo = 0x1549A966;
constexpr std::uint32_t kTracks = 0x1654AE6B;
constexpr std::uint32_t kCues = 0x1C53BB6B;
constexpr std::uint32_t kCluster = 0x1F43B675;

std::string BigEnd(std::uint64_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out += static_cast<char>(value >> shift & 0xFF);
  }
  return out;
}

int BytesOf(std::uint64_t value) {
  return value == 0 ? 1 : static_cast<int>((std::bit_width(value) + 7) / 8);
}

/// A size as EBML has it: so many zeros in front as bytes follow.
std::string Size(std::uint64_t size) {
  int bytes = 1;
  while (size >= (std::uint64_t{1} << (7 * bytes)) - 1) {
    ++bytes;
  }
  return BigEnd(size | std::uint64_t{1} << (7 * bytes), bytes);
}

std::string Element(std::uint32_t id, std::initializer_list<std::string_view> parts) {
  std::size_t size = 0;
  for (const std::string_view part : parts) {
    size += part.size();
  }
  std::string out = BigEnd(id, BytesOf(id)) + Size(size);
  for (const std::string_view part : parts) {
    out += part;
  }
  return out;
}

std::string Number(std::uint32_t id, std::uint64_t value) {
  return Element(id, {BigEnd(value, BytesOf(value))});
}

std::string Real(std::uint32_t id, double value) {
  return Element(id, {BigEnd(std::bit_cast<std::uint64_t>(value), 8)});
}

std::string Head() {
  return Element(kEbml, {Number(0x4286, 1), Number(0x42F7, 1), Number(0x42F2, 4), Number(0x42F3, 8),
                         Element(0x4282, {"webm"}), Number(0x4287, 4), Number(0x4285, 2)});
}

/// When sample `index` is shown, in milliseconds.
std::uint64_t TicksAt(const VideoTrack& track, std::size_t index) {
  const std::uint64_t ticks = std::uint64_t{track.sample_duration} * index;
  return (ticks * 1000 + track.timescale / 2) / track.timescale;
}

std::string Description(const VideoTrack& track) {
  const double milliseconds = 1000.0 * track.sample_duration / track.timescale;
  const std::string info =
      Element(kInfo, {Number(0x2AD7B1, kTickNanoseconds),
                      Real(0x4489, milliseconds * static_cast<double>(track.samples.size())),
                      Element(0x4D80, {"pixii"}), Element(0x5741, {"pixii"})});
  const std::string color =
      Element(0x55B0, {Number(0x55B1, 1), Number(0x55B2, 8), Number(0x55B3, 1), Number(0x55B4, 1),
                       Number(0x55B9, 1), Number(0x55BA, 1), Number(0x55BB, 1)});
  const std::string video = Element(
      0xE0, {Number(0xB0, static_cast<std::uint64_t>(track.size.width)),
             Number(0xBA, static_cast<std::uint64_t>(track.size.height)), Number(0x9A, 2), color});
  const std::string entry = Element(
      0xAE,
      {Number(0xD7, 1), Number(0x73C5, 1), Number(0x83, 1), Number(0x9C, 0),
       Element(0x22B59C, {"und"}), Element(0x86, {"V_VP9"}),
       Number(0x23E383, std::uint64_t{track.sample_duration} * 1'000'000'000 / track.timescale),
       video});
  return info + Element(kTracks, {entry});
}

struct Cluster {
  std::uint64_t ticks = 0;
  bool key = false;  // its first can be jumped to
  std::string bytes;
};

std::vector<Cluster> Clusters(const VideoTrack& track) {
  std::vector<Cluster> out;
  std::string blocks;
  const auto close = [&] {
    if (!out.empty()) {
      out.back().bytes = Element(kCluster, {Number(0xE7, out.back().ticks), blocks});
      blocks.clear();
    }
  };
  for (std::size_t i = 0; i < track.samples.size(); ++i) {
    const VideoSample& sample = track.samples[i];
    const std::uint64_t ticks = TicksAt(track, i);
    if (out.empty() || sample.key || ticks - out.back().ticks > kClusterTicksMax) {
      close();
      out.push_back({.ticks = ticks, .key = sample.key, .bytes = {}});
    }
    blocks += Element(
        0xA3, {"\x81", BigEnd(ticks - out.back().ticks, 2),
               sample.key ? std::string_view("\x80") : std::string_view("\0", 1), sample.bytes});
  }
  close();
  return out;
}

/// Where the clusters that can be jumped to begin, behind `front` bytes of the segment.
std::string Cues(const std::vector<Cluster>& clusters, std::uint64_t front) {
  std::string points;
  std::uint64_t at = front;
  for (const Cluster& cluster : clusters) {
    if (cluster.key) {
      points += Element(
          0xBB, {Number(0xB3, cluster.ticks),
                 Element(0xB7, {Number(0xF7, 1), Element(0xF1, {BigEnd(at, kPositionBytes)})})});
    }
    at += cluster.bytes.size();
  }
  return Element(kCues, {points});
}

}  // namespace

Result<std::string> WriteWebm(const VideoTrack& track) {
  if (track.samples.empty() || !track.samples.front().key || track.timescale == 0 ||
      track.sample_duration == 0 || track.size.width < 1 || track.size.height < 1) {
    return Fail(Code::kInvalidArgument,
                fmt::format("no WebM file of {} samples of {} x {}, {} of {} ticks each",
                            track.samples.size(), track.size.width, track.size.height,
                            track.sample_duration, track.timescale));
  }
  const std::vector<Cluster> clusters = Clusters(track);
  std::string body = Description(track);
  body += Cues(clusters, body.size() + Cues(clusters, 0).size());
  for (const Cluster& cluster : clusters) {
    body += cluster.bytes;
  }
  return Head() + Element(kSegment, {body});
}

}  // namespace pixii::media
