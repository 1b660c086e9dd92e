#include "model/vision_processor.h"

#include <fmt/format.h>

#include "model/config_reader.h"

namespace pixii::model {
namespace {

constexpr std::string_view kOwnFile = "preprocessor_config.json";
constexpr std::string_view kCommonFile = "processor_config.json";
constexpr std::int64_t kPixelsMax = std::int64_t{1} << 32;

struct Sides {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t shortest = 0;  // not 0: the short side alone is said
};

/// {"height", "width"}, {"shortest_edge"} or an integer.
Result<Sides> ReadSides(const ConfigReader& config, std::string_view key) {
  Sides out;
  const wire::Json* value = config.Find(key);
  if (value == nullptr) {
    return config.Bad(key, "is missing");
  }
  const IntRange range = {1, kImageSideMax};
  if (!value->is_object()) {
    PX_TRY(out.height, config.Int(key, range));
    out.width = out.height;
    out.shortest = out.height;
    return out;
  }
  PX_TRY(const ConfigReader sides, config.Object(key));
  if (sides.Find("shortest_edge") != nullptr) {
    PX_TRY(out.shortest, sides.Int("shortest_edge", range));
    return out;
  }
  PX_TRY(out.height, sides.Int("height", range));
  PX_TRY(out.width, sides.Int("width", range));
  return out;
}

Result<std::array<float, 3>> ReadThree(const ConfigReader& config, std::string_view key,
                                       float fallback) {
  std::array<float, 3> out = {fallback, fallback, fallback};
  const wire::Json* value = config.Find(key);
  if (value == nullptr) {
    return out;
  }
  const bool list = value->is_array() && value->array().size() == out.size();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const wire::Json* item = list ? &value->array()[i] : nullptr;
    const auto number = item != nullptr && item->is_number() ? item->AsDouble() : std::nullopt;
    if (!number || !(*number > -1000.0 && *number < 1000.0)) {
      return config.Bad(key, "is not a list of three numbers");
    }
    out[i] = static_cast<float>(*number);
  }
  return out;
}

Result<void> ReadNumbers(const ConfigReader& config, media::PatchSpec& out) {
  // Pillow's numbers.
  PX_TRY(const std::int64_t filter, config.Int("resample", {0, 5}, 3));
  if (filter == 1) {
    out.filter = media::Filter::kLanczos;
  } else if (filter == 2) {
    out.filter = media::Filter::kBilinear;
  } else if (filter == 3) {
    out.filter = media::Filter::kBicubic;
  } else {
    return config.Unsupported("resample", "is not built; this build runs 1, 2 and 3");
  }
  for (const std::string_view key : {"do_resize", "do_rescale", "do_convert_rgb"}) {
    PX_TRY(const bool on, config.Bool(key, true));
    if (!on) {
      return config.Unsupported(key, "is not built");
    }
  }
  PX_TRY(out.scale, config.Number("rescale_factor", {1e-9, 1e3}, 1.0 / 255.0));
  PX_TRY(const bool normalize, config.Bool("do_normalize", true));
  if (normalize) {
    PX_TRY(out.mean, ReadThree(config, "image_mean", 0.0F));
    PX_TRY(out.deviation, ReadThree(config, "image_std", 1.0F));
    for (const float value : out.deviation) {
      if (value <= 0.0F) {
        return config.Bad("image_std", "is not positive");
      }
    }
  }
  return {};
}

/// Areas, by either name that configs have had for them.
Result<void> ReadAreas(const ConfigReader& config, const VisionSpec& spec, media::PatchSpec& out) {
  const std::int64_t block = std::int64_t{spec.patch_size} * spec.merge_size;
  std::int64_t least = 4 * block * block;
  std::int64_t most = 1280 * block * block;
  if (config.Find("size") != nullptr) {
    PX_TRY(const ConfigReader size, config.Object("size"));
    PX_TRY(least, size.Int("shortest_edge", {1, kPixelsMax}, least));
    PX_TRY(most, size.Int("longest_edge", {1, kPixelsMax}, most));
  }
  PX_TRY(least, config.Int("min_pixels", {1, kPixelsMax}, least));
  PX_TRY(most, config.Int("max_pixels", {1, kPixelsMax}, most));
  if (least > most) {
    return config.Bad("min_pixels", fmt::format("is above the {} of max_pixels", most));
  }
  out.fit = media::Fit::kSmart;
  out.pixels_min = static_cast<std::uint64_t>(least);
  out.pixels_max = static_cast<std::uint64_t>(most);
  for (const auto& [key, wanted] :
       {std::pair{"patch_size", spec.patch_size}, std::pair{"merge_size", spec.merge_size},
        std::pair{"temporal_patch_size", spec.frames_per_row}}) {
    PX_TRY(const std::int64_t value, config.Int(key, {1, kImageSideMax}, wanted));
    if (value != wanted) {
      return config.Bad(key, fmt::format("(here {}) is not the tower's {}", value, wanted));
    }
  }
  return {};
}

Result<void> ReadFixed(const ConfigReader& config, const VisionSpec& spec, media::PatchSpec& out) {
  const auto side = static_cast<std::uint32_t>(spec.image_size);
  out.size = {side, side};
  if (!spec.tiles.pinpoints.empty()) {
    out.fit = media::Fit::kTiles;
    out.pinpoints = spec.tiles.pinpoints;
    return {};
  }
  if (config.Has("do_pan_and_scan")) {
    PX_TRY(const bool scans, config.Bool("do_pan_and_scan", false));
    if (scans) {
      return config.Unsupported("do_pan_and_scan", "is not built");
    }
  }
  PX_TRY(const Sides size, ReadSides(config, "size"));
  PX_TRY(const bool crop, config.Bool("do_center_crop", false));
  Sides last = size;
  if (crop) {
    PX_TRY(last, ReadSides(config, "crop_size"));
    if (size.shortest == 0) {
      return config.Unsupported("size", "is not a shortest_edge to be cropped");
    }
    out.fit = media::Fit::kCrop;
    out.short_side = static_cast<std::uint32_t>(size.shortest);
  }
  if (last.height != spec.image_size || last.width != spec.image_size) {
    return config.Bad(crop ? "crop_size" : "size",
                      fmt::format("is not the {} x {} of the tower", side, side));
  }
  return {};
}

Result<media::PatchSpec> ReadProcessor(const ConfigReader& config, const VisionSpec& spec) {
  media::PatchSpec out;
  out.patch_size = static_cast<std::uint32_t>(spec.patch_size);
  out.merge_size = static_cast<std::uint32_t>(spec.merge_size);
  out.frames_per_row = static_cast<std::uint32_t>(spec.frames_per_row);
  PX_CHECK_OK(ReadNumbers(config, out));
  if (spec.image_size > 0) {
    PX_CHECK_OK(ReadFixed(config, spec, out));
  } else {
    PX_CHECK_OK(ReadAreas(config, spec, out));
  }
  return out;
}

}  // namespace

Result<media::PatchSpec> ParseVisionProcessor(std::string_view text, std::string_view file_name,
                                              const VisionSpec& spec) {
  PX_TRY(const wire::Json json, ParseConfigJson(text, file_name));
  const ConfigReader config(json, std::string(file_name));
  if (config.Find("image_processor") != nullptr) {
    PX_TRY(const ConfigReader inner, config.Object("image_processor"));
    return ReadProcessor(inner, spec);
  }
  return ReadProcessor(config, spec);
}

Result<media::PatchSpec> LoadVisionProcessor(const CheckpointFolder& folder,
                                             const VisionSpec& spec) {
  const std::string_view name = folder.Has(kOwnFile) ? kOwnFile : kCommonFile;
  PX_TRY(const std::string text, folder.ReadText(name, kConfigSizeMax));
  return ParseVisionProcessor(text, name, spec);
}

}  // namespace pixii::model
