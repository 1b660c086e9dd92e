#include "media/film/film_sampling.h"

#include <algorithm>
#include <cmath>

#include "media/media_noun.h"

namespace pixii::media {

namespace {

double CountOf(const FilmInfo& info, const Sampling& sampling) {
  const double wanted = sampling.frames_per_second * info.frames / info.frames_per_second();
  return std::clamp<double>(wanted, sampling.frames_min,
                            std::max(sampling.frames_max, sampling.frames_min));
}

}  // namespace

Result<std::vector<std::uint32_t>> SampleFrames(const FilmInfo& info, const Sampling& sampling) {
  const std::uint32_t multiple = std::max<std::uint32_t>(sampling.multiple, 1);
  std::uint64_t count = 0;
  if (sampling.frames > 0) {
    count = sampling.frames;
    if (sampling.spacing == Spacing::kFromFirst) {
      count = static_cast<std::uint64_t>(std::nearbyint(static_cast<double>(count) / multiple)) *
              multiple;
      count = std::max<std::uint64_t>(count, multiple);
    }
    if (count > info.frames) {
      return Fail(
          Code::kInvalidArgument,
          fmt::format("{} frames cannot be taken from the {} of a video", count, info.frames),
          kFilm.noun);
    }
  } else {
    count = static_cast<std::uint64_t>(
        std::min<double>(CountOf(info, sampling), static_cast<double>(info.frames)));
    // A video of fewer frames than a row of patches holds is filled up by its last one.
    if (sampling.spacing == Spacing::kFromFirst && count > multiple) {
      count -= count % multiple;
    }
    count = std::max<std::uint64_t>(count, 1);
  }
  std::vector<std::uint32_t> out;
  out.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    double place = 0.0;
    if (sampling.spacing == Spacing::kFromFirst) {
      place = std::floor(static_cast<double>(i) *
                         (static_cast<double>(info.frames) / static_cast<double>(count)));
    } else if (count > 1) {
      place = std::nearbyint(static_cast<double>(i) * (static_cast<double>(info.frames - 1) /
                                                       static_cast<double>(count - 1)));
    }
    out.push_back(std::min(static_cast<std::uint32_t>(place), info.frames - 1));
  }
  return out;
}

}  // namespace pixii::media
