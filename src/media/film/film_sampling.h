// Which frames of a video a model is shown.
//
// Thread: pure functions.
// Source: transformers' video processors of Qwen2-VL and Qwen3-VL (facts only).
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "media/film/film_info.h"

namespace pixii::media {

enum class Spacing : std::uint8_t {
  kFromFirst,  // every (frames / count)-th, rounded down: Qwen2-VL
  kEnds,       // from the first to the last one, rounded to the nearest even: Qwen3-VL
};

struct Sampling {
  double frames_per_second = 2.0;
  std::uint32_t frames = 0;  // so many, whatever the time; 0: by frames_per_second
  std::uint32_t frames_min = 4;
  std::uint32_t frames_max = 768;
  std::uint32_t multiple = 2;  // counts are brought down to a multiple, where there are as many
  Spacing spacing = Spacing::kFromFirst;

  friend bool operator==(const Sampling&, const Sampling&) = default;
};

/// Positions among the frames that are shown, ascending, at least one. Errors: kInvalidArgument for
/// more frames than the video has.
Result<std::vector<std::uint32_t>> SampleFrames(const FilmInfo& info, const Sampling& sampling);

}  // namespace pixii::media
