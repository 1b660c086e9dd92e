// From pictures to the bytes of a video file.
//
// Thread: one owner.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "media/video/vp9_encoder.h"

namespace pixii::media {

struct VideoFileOptions {
  PictureSize size;
  double frames_per_second = 16.0;  // 0.1 to 240
  std::int32_t quality = 20;        // Vp9Options
};

class VideoFileWriter final {
 public:
  /// Errors: kInvalidArgument naming what is out of range.
  static Result<VideoFileWriter> Create(const VideoFileOptions& options);

  /// `picture` [height, width, 3] in 0 .. 1.
  Result<void> Add(std::span<const float> picture);

  /// The MP4 file. Errors: kInvalidArgument if nothing was added; kTooLarge.
  Result<std::string> Finish();

 private:
  VideoFileWriter(Vp9Encoder encoder, VideoTrack track)
      : encoder_(std::move(encoder)), track_(std::move(track)) {}

  Vp9Encoder encoder_;
  VideoTrack track_;
};

}  // namespace pixii::media
