#include "media/video/video_file.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

namespace pixii::media {
namespace {

constexpr std::uint32_t kTicksOfPicture = 1000;
constexpr double kRateMin = 0.1;
constexpr double kRateMax = 240.0;

}  // namespace

Result<VideoFileWriter> VideoFileWriter::Create(const VideoFileOptions& options) {
  if (!(options.frames_per_second >= kRateMin && options.frames_per_second <= kRateMax)) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("fps is {}, must be {} to {}", options.frames_per_second, kRateMin, kRateMax),
        "fps");
  }
  VideoTrack track{.size = options.size,
                   .timescale = static_cast<std::uint32_t>(
                       std::lround(options.frames_per_second * kTicksOfPicture)),
                   .sample_duration = kTicksOfPicture,
                   .samples = {}};
  PX_TRY(Vp9Encoder encoder, Vp9Encoder::Create({.size = options.size,
                                                 .timescale = track.timescale,
                                                 .picture_duration = kTicksOfPicture,
                                                 .quality = options.quality}));
  return VideoFileWriter(std::move(encoder), std::move(track));
}

Result<void> VideoFileWriter::Add(std::span<const float> picture) {
  std::vector<std::uint8_t> rgb;
  rgb.reserve(picture.size());
  for (const float value : picture) {
    rgb.push_back(ByteFromUnit(value));
  }
  return encoder_.Add(YuvFromRgb(track_.size, rgb));
}

Result<std::string> VideoFileWriter::Finish() {
  PX_CHECK_OK(encoder_.Finish());
  track_.samples = encoder_.TakeSamples();
  return WriteMp4(track_);
}

}  // namespace pixii::media
