// From pictures to the bytes of a video file.
//
// Thread: one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "media/video/vp9_encoder.h"

namespace pixii::media {

enum class VideoContainer : std::uint8_t {
  kMp4,   // VP9
  kWebm,  // VP9
  kAvi,   // JPEG pictures
};

/// What a program that was not told gets: MP4; AVI where the library cannot encode VP9.
VideoContainer DefaultContainer();

/// Whether files can have so many pictures a second. Errors: kInvalidArgument naming fps.
Result<void> CheckFrameRate(double frames_per_second);

struct VideoFileOptions {
  PictureSize size;
  double frames_per_second = 16.0;  // 0.1 to 240
  std::int32_t quality = 20;        // Vp9Options; of AVI's pictures accordingly
  VideoContainer container = VideoContainer::kMp4;
};

class VideoFileWriter final {
 public:
  /// Errors: kInvalidArgument naming what is out of range.
  static Result<VideoFileWriter> Create(const VideoFileOptions& options);

  /// `picture` [height, width, 3] in 0 .. 1.
  Result<void> Add(std::span<const float> picture);

  /// The file. Errors: kInvalidArgument if nothing was added; kTooLarge.
  Result<std::string> Finish();

 private:
  VideoFileWriter(const VideoFileOptions& options, VideoTrack track)
      : options_(options), track_(std::move(track)) {}

  VideoFileOptions options_;
  VideoTrack track_;
  std::optional<Vp9Encoder> encoder_;  // nothing: AVI
  std::vector<std::string> pictures_;  // of AVI
};

}  // namespace pixii::media
