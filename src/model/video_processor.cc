#include "model/video_processor.h"

#include <fmt/format.h>

#include <utility>

#include "model/config_reader.h"
#include "model/vision_processor.h"

namespace pixii::model {
namespace {

constexpr std::string_view kOwnFile = "video_preprocessor_config.json";
constexpr std::string_view kCommonFile = "processor_config.json";
constexpr std::string_view kPicturesFile = "preprocessor_config.json";
constexpr std::int64_t kFramesMax = 65'536;
constexpr double kFpsMax = 1'000.0;

bool IsSet(const ConfigReader& config, std::string_view key) {
  const wire::Json* value = config.Find(key);
  return value != nullptr && !value->is_null();
}

Result<void> ReadSampling(const ConfigReader& config, media::Sampling& out) {
  if (IsSet(config, "fps") && IsSet(config, "num_frames")) {
    return config.Bad("fps", "and num_frames are both set");
  }
  if (IsSet(config, "fps")) {
    PX_TRY(out.frames_per_second, config.Number("fps", {1e-3, kFpsMax}));
  }
  for (const auto& [key, value] : {std::pair{"num_frames", &out.frames},
                                   {"min_frames", &out.frames_min},
                                   {"max_frames", &out.frames_max}}) {
    if (IsSet(config, key)) {
      PX_TRY(const std::int64_t frames, config.Int(key, {1, kFramesMax}));
      *value = static_cast<std::uint32_t>(frames);
    }
  }
  if (out.frames_min > out.frames_max) {
    return config.Bad("min_frames", fmt::format("is above the {} of max_frames", out.frames_max));
  }
  return {};
}

Result<VideoProcessor> ReadProcessor(const ConfigReader& config, std::string_view text,
                                     std::string_view file_name, bool pictures,
                                     const VisionSpec& spec) {
  VideoProcessor out;
  PX_TRY(out.patches, ParseVisionProcessor(text, file_name, spec));
  out.sampling.multiple = static_cast<std::uint32_t>(spec.frames_per_row);
  out.sampling.spacing = spec.timed_frames ? media::Spacing::kEnds : media::Spacing::kFromFirst;
  if (!pictures) {
    PX_CHECK_OK(ReadSampling(config, out.sampling));
  }
  out.bounds_all_frames = spec.timed_frames;
  if (IsSet(config, "cap_pixels_per_frame")) {
    PX_TRY(out.shares_bounds, config.Bool("cap_pixels_per_frame", false));
  }
  return out;
}

}  // namespace

Result<VideoProcessor> ParseVideoProcessor(std::string_view text, std::string_view file_name,
                                           bool pictures, const VisionSpec& spec) {
  PX_TRY(const wire::Json json, ParseConfigJson(text, file_name));
  const ConfigReader config(json, std::string(file_name));
  for (const std::string_view part : {"video_processor", "image_processor"}) {
    if (config.Find(part) != nullptr) {
      PX_TRY(const ConfigReader inner, config.Object(part));
      return ReadProcessor(inner, config.Find(part)->Dump(), file_name,
                           pictures || part == "image_processor", spec);
    }
  }
  return ReadProcessor(config, text, file_name, pictures, spec);
}

Result<std::optional<VideoProcessor>> LoadVideoProcessor(const CheckpointFolder& folder,
                                                         const VisionSpec& spec) {
  if (!spec.shows_videos()) {
    return std::optional<VideoProcessor>();
  }
  const std::string_view name = folder.Has(kOwnFile)        ? kOwnFile
                                : folder.Has(kPicturesFile) ? kPicturesFile
                                                            : kCommonFile;
  PX_TRY(const std::string text, folder.ReadText(name, kConfigSizeMax));
  PX_TRY(VideoProcessor out, ParseVideoProcessor(text, name, name == kPicturesFile, spec));
  return std::optional(std::move(out));
}

}  // namespace pixii::model
