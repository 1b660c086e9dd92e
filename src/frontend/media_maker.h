// What the frontend needs of whoever makes videos and pictures.
//
// Thread: the frontend's loop; `done` is called on it, later, never inside the call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/messages/media.h"

namespace pixii::frontend {

using wire::MediaKind;  // what is made is what may be shown

/// As records have it: new ones go to the end.
enum class MediaFormat : std::uint8_t { kMp4, kPng, kJpeg, kWebp, kWebm, kAvi };

/// "mp4": of files' names and of output_format.
std::string_view MediaFormatName(MediaFormat format);
/// "video/mp4".
std::string_view MediaFormatType(MediaFormat format);

/// What shall be made.
struct MediaSpec {
  MediaKind kind = MediaKind::kVideo;
  std::string prompt = {};
  std::string negative_prompt = {};
  std::int32_t width = 832;   // pixels
  std::int32_t height = 480;  // pixels
  std::int32_t frames = 81;   // of a video; 1 of pictures
  std::int32_t steps = 50;
  double guidance_scale = 5.0;
  double frames_per_second = 16.0;
  std::uint64_t seed = 0;   // of the first; the others have the seeds after it
  std::uint32_t count = 1;  // pictures; 1 of a video
  MediaFormat format = MediaFormat::kMp4;
  std::int32_t quality = 90;  // of JPEG and WebP, 0 .. 100
  /// URL of the picture that a video begins with; null: none. Records do not keep it.
  std::shared_ptr<const std::string> input_reference = nullptr;
};

/// What a model makes where a request says nothing.
struct MediaModel {
  std::string name;
  std::int64_t created = 0;      // seconds since 1970
  MediaSpec defaults;            // of a video, its format too; pictures have its sides
  std::int32_t frames_unit = 4;  // a video has one frame more than a multiple of it
  bool takes_image = false;      // what it makes begins with a picture that requests bring
};

/// How far a job is behind a turn.
struct MediaTurn {
  std::uint32_t steps_done = 0;  // of the job, in all
  double progress = 0;           // 0 .. 1
  bool done = false;
  std::vector<std::string> files;  // once it is done: one of a video, one of each picture
};

class MediaMaker {
 public:
  using OnTurn = std::function<void(Result<MediaTurn>)>;

  virtual ~MediaMaker() = default;

  virtual const MediaModel& model() const = 0;

  /// Whether the model can make it. Errors: kInvalidArgument, kTooLarge; naming field, value and
  /// limit.
  virtual Result<void> Check(const MediaSpec& spec) const = 0;

  /// Does the next step of `job`, which begins with its first turn. Pre: no turn is under way.
  /// Errors: kCancelled if it was interrupted, those of the model; the job is then forgotten.
  virtual void Turn(const std::string& job, const MediaSpec& spec, OnTurn done) = 0;

  /// The turn under way ends soon, within its step; the job is then forgotten.
  virtual void Interrupt() = 0;

  /// Forgets a job that has no turn under way.
  virtual void Drop(const std::string& job) = 0;
};

}  // namespace pixii::frontend
