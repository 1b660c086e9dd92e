#include "media/video/video_file.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>
#include <vector>

#include "media/encode.h"
#include "media/video/avi_muxer.h"
#include "media/video/webm_muxer.h"

namespace pixii::media {
namespace {

constexpr std::uint32_t kTicksOfPicture = 1000;
constexpr double kRateMin = 0.1;
constexpr double kRateMax = 240.0;

/// VP9's 0 best .. 63 smallest as JPEG's 100 best .. 0.
std::int32_t JpegQuality(std::int32_t quality) { return 100 - quality * 100 / 63; }

}  // namespace

VideoContainer DefaultContainer() {
  return HasVp9Encoder() ? VideoContainer::kMp4 : VideoContainer::kAvi;
}

Result<void> CheckFrameRate(double frames_per_second) {
  if (!(frames_per_second >= kRateMin && frames_per_second <= kRateMax)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("fps is {}, must be {} to {}", frames_per_second, kRateMin, kRateMax),
                "fps");
  }
  return {};
}

Result<VideoFileWriter> VideoFileWriter::Create(const VideoFileOptions& options) {
  PX_CHECK_OK(CheckFrameRate(options.frames_per_second));
  VideoTrack track{.size = options.size,
                   .timescale = static_cast<std::uint32_t>(
                       std::lround(options.frames_per_second * kTicksOfPicture)),
                   .sample_duration = kTicksOfPicture,
                   .samples = {}};
  const std::uint32_t timescale = track.timescale;
  VideoFileWriter out(options, std::move(track));
  if (options.container != VideoContainer::kAvi) {
    PX_TRY(out.encoder_, Vp9Encoder::Create({.size = options.size,
                                             .timescale = timescale,
                                             .picture_duration = kTicksOfPicture,
                                             .quality = options.quality}));
  }
  return out;
}

Result<void> VideoFileWriter::Add(std::span<const float> picture) {
  std::vector<std::uint8_t> rgb;
  rgb.reserve(picture.size());
  for (const float value : picture) {
    rgb.push_back(ByteFromUnit(value));
  }
  if (encoder_) {
    return encoder_->Add(YuvFromRgb(track_.size, rgb));
  }
  const Image image{.size = {static_cast<std::uint32_t>(track_.size.width),
                             static_cast<std::uint32_t>(track_.size.height)},
                    .rgb = std::move(rgb)};
  PX_TRY(pictures_.emplace_back(),
         EncodeImage(image, ImageFileFormat::kJpeg, JpegQuality(options_.quality)));
  return {};
}

Result<std::string> VideoFileWriter::Finish() {
  if (!encoder_) {
    return WriteAvi(
        {.size = track_.size, .rate = track_.timescale, .scale = track_.sample_duration},
        pictures_);
  }
  PX_CHECK_OK(encoder_->Finish());
  track_.samples = encoder_->TakeSamples();
  return options_.container == VideoContainer::kWebm ? WriteWebm(track_) : WriteMp4(track_);
}

}  // namespace pixii::media
