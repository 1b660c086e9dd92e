// `pixii media`: one image or video file, decoded in the sandbox, and what a model makes of an
// image.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/command.h"
#include "config/option.h"

namespace pixii::apps {

struct MediaCommandFlags {
  std::string raw;
  std::string embeddings;
  std::string model = "tiny-vlm";
  bool exif = false;
  std::string resize;
  std::string filter = "bicubic";
  std::string alpha = "drop";
  std::string deep_grey = "clip";
  std::int64_t bytes_max = std::int64_t{64} << 20;
  std::int64_t side_max = 32'768;
  std::int64_t pixels_max = std::int64_t{64} << 20;
  std::int64_t frames_max = 1'000;
  std::int64_t frames = 0;
  double fps = 2.0;
  std::int64_t video_frames_max = 20'000;
  std::int64_t memory_max = std::int64_t{1} << 30;
  std::int64_t cpu_time_max = 10'000'000'000;
  std::int64_t time_max = 30'000'000'000;
};

/// Rows whose targets are the fields of `flags`, which outlives them.
std::vector<config::Option> RowsOf(MediaCommandFlags& flags);

int RunMedia(const Arguments& arguments);

}  // namespace pixii::apps
