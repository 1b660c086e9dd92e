// What a picture costs before a model sees it: decoding, resizing, normalising, beside
// libjpeg-turbo's own decoding, and what keeping a tower's features saves.
//
// Thread: the caller's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/report.h"
#include "media/patches.h"
#include "model/vision_tower.h"

namespace pixii::bench {

struct MediaBenchOptions {
  std::string jpeg = {};  // a file's bytes; empty: DrawJpeg's
  media::PatchSpec processor = {};
  std::uint32_t repeats = 15;  // runs of each case, interleaved
};

/// A JPEG of slopes and noise, 4:2:0, quality 90.
std::string DrawJpeg(std::uint32_t width, std::uint32_t height);

/// Figures decode, patches (decoded, resized, normalised, cut) and clip (resized to 336x336), each
/// in megapixels of the file a second with libjpeg-turbo's decoding as limit; tower (pictures/s)
/// and kept (share of a tower's time that kept features save). Errors: kInvalidArgument for a file
/// that is no JPEG; those of the tower.
Result<std::vector<Figure>> BenchMedia(model::VisionTower& tower, const MediaBenchOptions& options);

}  // namespace pixii::bench
