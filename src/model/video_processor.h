// How a checkpoint wants its videos: video_preprocessor_config.json as values, or what its
// pictures' file says where it has none.
//
// Thread: pure functions.
// Source: transformers' video processors of Qwen2-VL and Qwen3-VL (facts only). They show every
// frame unless told otherwise; here two of a second are taken where a file does not say.
#pragma once

#include <optional>
#include <string_view>

#include "base/result.h"
#include "media/film/film_sampling.h"
#include "media/patches.h"
#include "model/checkpoint_folder.h"
#include "model/vision_spec.h"

namespace pixii::model {

struct VideoProcessor {
  media::PatchSpec patches;  // its bounds of pixels: of a frame, or of all together
  bool bounds_all_frames = false;
  /// Where bounds are for all frames: one frame has an equal share of them at most.
  bool shares_bounds = false;
  media::Sampling sampling;

  friend bool operator==(const VideoProcessor&, const VideoProcessor&) = default;
};

/// Nothing: the model is shown no videos. Errors: as LoadVisionProcessor.
Result<std::optional<VideoProcessor>> LoadVideoProcessor(const CheckpointFolder& folder,
                                                         const VisionSpec& spec);

/// `text` of a file for videos, `pictures` of one for pictures alone. Errors: as
/// ParseVisionProcessor. Pre: spec.shows_videos().
Result<VideoProcessor> ParseVideoProcessor(std::string_view text, std::string_view file_name,
                                           bool pictures, const VisionSpec& spec);

}  // namespace pixii::model
