#include "model/vision_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "media/patches.h"
#include "model/check_lines.h"
#include "model/vision_layout.h"
#include "model/vision_processor.h"
#include "model/vision_tower.h"

namespace pixii::model {
namespace {

tl::unexpected<Error> BadGolden(const LogitsGolden& entry, std::string_view what) {
  return Fail(Code::kDataCorrupt, fmt::format("golden case {}: {}", entry.name, what), entry.name);
}

std::vector<PatchGrid> GridsOf(const VisionSpec& spec, const VisionGolden& golden) {
  std::vector<PatchGrid> out;
  for (std::size_t i = 0; i < golden.images.size(); ++i) {
    if (golden.grids.empty()) {
      const std::int32_t side = spec.image_size / spec.patch_size;
      out.push_back({1, side, side});
    } else {
      const auto* grid = golden.grids.data() + 3 * i;
      out.push_back({grid[0], grid[1], grid[2]});
    }
  }
  return out;
}

/// [3, side, side] to rows of patches.
std::vector<float> PatchesOf(const VisionSpec& spec, const PatchGrid& grid,
                             std::span<const float> pixels) {
  const std::int64_t side = spec.image_size;
  const std::int64_t patch = spec.patch_size;
  std::vector<float> out;
  for (const PatchPlace& place : PatchPlaces(grid, spec.merge_size)) {
    const std::int64_t top = place.row * patch;
    for (std::int64_t channel = 0; channel < 3; ++channel) {
      for (std::int64_t y = top; y < top + patch; ++y) {
        const auto row = pixels.begin() + (channel * side + y) * side + place.col * patch;
        out.insert(out.end(), row, row + patch);
      }
    }
  }
  return out;
}

/// Largest difference in grey levels.
CheckLine ComparePixels(std::string name, std::span<const float> ours,
                        std::span<const float> golden, const media::PatchSpec& spec,
                        double levels_max) {
  CheckLine line{.name = std::move(name), .limit = levels_max, .count = golden.size()};
  const std::size_t plane = std::size_t{spec.frames_per_row} * spec.patch_size * spec.patch_size;
  line.error_max = ours.size() == golden.size() ? 0.0 : HUGE_VAL;
  for (std::size_t i = 0; i < std::min(ours.size(), golden.size()); ++i) {
    const double level = spec.scale / double{spec.deviation[i / plane % 3]};
    line.error_max =
        std::max(line.error_max, std::abs(double{ours[i]} - double{golden[i]}) / level);
  }
  line.passed = line.error_max <= levels_max;
  if (!line.passed) {
    line.detail =
        fmt::format("{} values, golden {}, compared in grey levels", ours.size(), golden.size());
  }
  return line;
}

class VisionChecker final {
 public:
  VisionChecker(VisionTower& tower, const media::PatchSpec& processor, std::string folder,
                bool three_axes, const CheckOptions& options, std::vector<CheckLine>& lines)
      : tower_(tower),
        processor_(processor),
        folder_(std::move(folder)),
        three_axes_(three_axes),
        options_(options),
        lines_(lines) {}

  Result<SequenceMedia> Run(const LogitsGolden& entry) {
    const VisionSpec& spec = tower_.spec();
    const VisionGolden& golden = *entry.vision;
    const std::vector<PatchGrid> grids = GridsOf(spec, golden);
    PX_TRY(const std::vector<VisionInput> inputs, CutPixels(entry, grids));
    PX_CHECK_OK(CheckPixels(entry, inputs));
    SequenceMedia media;
    std::vector<std::int32_t> counts;
    std::vector<MediaGrid> places;
    for (const PatchGrid& grid : grids) {
      PX_CHECK_OK(CheckGrid(spec, grid));
      counts.push_back(static_cast<std::int32_t>(TokenCount(spec, grid, {})));
      places.push_back(spec.media_grid(grid));
    }
    PX_TRY(const auto spans, FindPlaceholders(entry.prompt, spec.tokens.image, counts));
    std::vector<float> features;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      PX_TRY(VisionFeatures rows, tower_.Encode(inputs[i]));
      features.insert(features.end(), rows.rows_data.begin(), rows.rows_data.end());
      media.items.push_back({.begin = spans[i].begin,
                             .features = std::make_shared<const VisionFeatures>(std::move(rows)),
                             .mutual_count = spec.mutual_rows ? spans[i].count : 0});
    }
    if (features.size() != golden.features.size()) {
      return BadGolden(entry, fmt::format("has {} values of features, the tower makes {}",
                                          golden.features.size(), features.size()));
    }
    lines_.push_back(
        CompareValues(entry.name + ".features", features, golden.features, options_.tolerance));
    PX_CHECK_OK(CheckOrder(entry, inputs, media));
    if (three_axes_) {
      RopePositions positions =
          MakeRopePositions(static_cast<std::int32_t>(entry.prompt.size()), spans, places);
      if (!golden.positions.empty()) {
        lines_.push_back(
            CompareIntegers(entry.name + ".positions", positions.values, golden.positions));
      }
      media.rope = std::move(positions.values);
      media.rope_delta = positions.delta;
    }
    return media;
  }

 private:
  /// The pixels of each picture as patches.
  Result<std::vector<VisionInput>> CutPixels(const LogitsGolden& entry,
                                             std::span<const PatchGrid> grids) {
    const VisionSpec& spec = tower_.spec();
    const std::span<const float> pixels = entry.vision->pixels;
    std::vector<VisionInput> out;
    patches_.clear();
    std::size_t at = 0;
    for (const PatchGrid& grid : grids) {
      const std::size_t size = spec.image_size > 0
                                   ? 3 * static_cast<std::size_t>(spec.image_size) *
                                         static_cast<std::size_t>(spec.image_size)
                                   : static_cast<std::size_t>(grid.patches() * spec.patch_values());
      if (at + size > pixels.size()) {
        return BadGolden(entry, "has fewer pixels than its grids");
      }
      const std::span<const float> own = pixels.subspan(at, size);
      out.push_back(
          {grid, spec.image_size > 0 ? patches_.emplace_back(PatchesOf(spec, grid, own)) : own});
      at += size;
    }
    if (at != pixels.size()) {
      return BadGolden(entry, "has more pixels than its grids");
    }
    return out;
  }

  /// Nothing where the picture is not there.
  Result<std::optional<media::Image>> ReadImage(const std::string& name) {
    for (const char* place : {"images", "../../images"}) {
      Result<media::Image> image =
          options_.read_image(fmt::format("{}/{}/{}", folder_, place, name));
      if (image) {
        return std::optional(*std::move(image));
      }
      if (image.error().code() != Code::kNotFound) {
        return Fail(image.error());
      }
    }
    return std::nullopt;
  }

  /// Pictures from their files, against the pixels of the golden file.
  Result<void> CheckPixels(const LogitsGolden& entry, std::span<const VisionInput> inputs) {
    for (std::size_t i = 0; i < inputs.size() && options_.read_image; ++i) {
      PX_TRY(const std::optional<media::Image> image, ReadImage(entry.vision->images[i]));
      if (!image) {
        continue;
      }
      PX_TRY(const media::Patches patches, media::MakePatches(*image, processor_));
      lines_.push_back(ComparePixels(fmt::format("{}.pixels.{}", entry.name, i), patches.values,
                                     inputs[i].patches, processor_, options_.grey_levels_max));
    }
    return {};
  }

  /// The last picture first: bits do not follow from what was encoded before.
  Result<void> CheckOrder(const LogitsGolden& entry, std::span<const VisionInput> inputs,
                          const SequenceMedia& media) {
    std::vector<float> first;
    std::vector<float> again;
    for (std::size_t i = inputs.size(); i-- > 0;) {
      PX_TRY(const VisionFeatures rows, tower_.Encode(inputs[i]));
      for (const auto& [from, to] :
           {std::pair{media.items[i].features.get(), &first}, std::pair{&rows, &again}}) {
        to->insert(to->end(), from->rows_data.begin(), from->rows_data.end());
        to->insert(to->end(), from->layers_data.begin(), from->layers_data.end());
      }
    }
    lines_.push_back(CompareBits(entry.name + " pictures reversed", again, first));
    return {};
  }

  VisionTower& tower_;
  const media::PatchSpec& processor_;
  std::string folder_;  // of the golden files
  bool three_axes_;
  const CheckOptions& options_;
  std::vector<CheckLine>& lines_;
  std::vector<std::vector<float>> patches_;  // of the case at hand
};

}  // namespace

Result<std::vector<SequenceMedia>> CheckVision(const std::string& folder, const ModelConfig& config,
                                               kernels::Operators& operators, const Golden& golden,
                                               const CheckOptions& options,
                                               std::vector<CheckLine>& lines) {
  PX_TRY(const CheckpointFolder opened, CheckpointFolder::Open(folder));
  PX_TRY(const media::PatchSpec processor, LoadVisionProcessor(opened, *config.vision));
  PX_TRY(const auto tower,
         VisionTower::Load(folder, operators, {.compute = kernels::ComputeType::kF32}));
  VisionChecker checker(*tower, processor,
                        options.golden_folder.empty() ? folder : options.golden_folder,
                        config.vision->three_positions, options, lines);
  std::vector<SequenceMedia> out(golden.logits.size());
  for (std::size_t i = 0; i < golden.logits.size(); ++i) {
    if (golden.logits[i].vision) {
      PX_TRY(out[i], checker.Run(golden.logits[i]));
    }
  }
  return out;
}

}  // namespace pixii::model
