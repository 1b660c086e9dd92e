#include "engine/model_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "model/vision_layout.h"

namespace pixii::engine {

namespace {

wire::MediaFit FitOf(media::Fit fit) {
  switch (fit) {
    case media::Fit::kExact:
      return wire::MediaFit::kExact;
    case media::Fit::kCrop:
      return wire::MediaFit::kCrop;
    case media::Fit::kSmart:
      return wire::MediaFit::kSmart;
    case media::Fit::kTiles:
      break;
  }
  return wire::MediaFit::kTiles;
}

wire::MediaFilter FilterOf(media::Filter filter) {
  switch (filter) {
    case media::Filter::kBilinear:
      return wire::MediaFilter::kBilinear;
    case media::Filter::kBicubic:
      return wire::MediaFilter::kBicubic;
    case media::Filter::kLanczos:
      break;
  }
  return wire::MediaFilter::kLanczos;
}

wire::FilmCard MakeFilmCard(const model::VisionSpec& spec, const model::VideoProcessor& videos) {
  return {.pixels_min = videos.patches.pixels_min,
          .pixels_max = videos.patches.pixels_max,
          .bounds_all_frames = videos.bounds_all_frames,
          .shares_bounds = videos.shares_bounds,
          .frames_per_second = videos.sampling.frames_per_second,
          .frames = videos.sampling.frames,
          .frames_min = videos.sampling.frames_min,
          .frames_max = videos.sampling.frames_max,
          .with_ends = videos.sampling.spacing == media::Spacing::kEnds,
          .timed = spec.timed_frames,
          .start_token = spec.tokens.vision_start,
          .end_token = spec.tokens.vision_end};
}

wire::VisionCard MakeCard(const model::VisionSpec& spec, const media::PatchSpec& processor,
                          const std::optional<model::VideoProcessor>& videos) {
  wire::VisionCard card{.image_token = spec.tokens.image,
                        .fit = FitOf(processor.fit),
                        .width = processor.size.width,
                        .height = processor.size.height,
                        .short_side = processor.short_side,
                        .pixels_min = processor.pixels_min,
                        .pixels_max = processor.pixels_max,
                        .filter = FilterOf(processor.filter),
                        .patch_size = processor.patch_size,
                        .merge_size = processor.merge_size,
                        .frames_per_row = processor.frames_per_row,
                        .tokens_more = spec.has_class_token() && !spec.drop_first ? 1U : 0U,
                        .tiles_max = static_cast<std::uint32_t>(spec.tiles.tiles_max),
                        .has_axes = spec.three_positions,
                        .frame_begin = spec.framed ? spec.tokens.vision_start : -1,
                        .frame_end = spec.framed ? spec.tokens.vision_end : -1};
  card.row_levels = static_cast<std::uint32_t>(spec.deepstack_layers.size());
  card.row_size = static_cast<std::uint32_t>(spec.out_size) * (1 + card.row_levels);
  for (const media::ImageSize& size : processor.pinpoints) {
    card.pinpoints.push_back(size.width);
    card.pinpoints.push_back(size.height);
  }
  if (videos) {
    card.video_token = spec.tokens.video;
    card.film = MakeFilmCard(spec, *videos);
  }
  return card;
}

media::ImageSize SizeOf(const wire::MediaItem& item) {
  return {.width = item.width, .height = item.height};
}

model::PatchGrid GridOf(const media::Patches& patches) {
  return {.frames = static_cast<std::int32_t>(patches.frames),
          .rows = static_cast<std::int32_t>(patches.rows),
          .cols = static_cast<std::int32_t>(patches.cols)};
}

}  // namespace

ModelEncoder::ModelEncoder(model::VisionSpec spec, std::shared_ptr<model::VisionTower> tower,
                           media::PatchSpec processor, std::optional<model::VideoProcessor> videos)
    : spec_(std::move(spec)),
      tower_(std::move(tower)),
      processor_(std::move(processor)),
      videos_(std::move(videos)),
      card_(MakeCard(spec_, processor_, videos_)) {}

Result<MediaEncoder::Shape> ModelEncoder::Measure(const wire::MediaItem& item) const {
  if (item.kind == wire::MediaKind::kVideo) {
    return MeasureFilm(item);
  }
  if (item.frames != 1) {
    return Fail(Code::kInvalidArgument, "a picture has one frame", "media");
  }
  PX_TRY(const media::Patches plan, media::PlanPatches(SizeOf(item), processor_));
  const model::PatchGrid grid = GridOf(plan);
  PX_CHECK_OK(model::CheckGrid(spec_, grid));
  return Shape{.tokens = static_cast<std::uint32_t>(model::TokenCount(spec_, grid, SizeOf(item))),
               .grid = spec_.media_grid(grid)};
}

// Frames come in the tower's size: how large that is may hang on frames that are in other items.
Result<MediaEncoder::Shape> ModelEncoder::MeasureFilm(const wire::MediaItem& item) const {
  const model::VisionSpec& spec = spec_;
  if (!videos_) {
    return Fail(Code::kUnsupported, "the model is shown pictures, not videos", "media");
  }
  const auto side = static_cast<std::uint32_t>(spec.patch_size * spec.merge_size);
  if (item.frames == 0 || item.height == 0 || item.width == 0 || item.height % side != 0 ||
      item.width % side != 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} frames of {} x {} pixels are not whole blocks of {}", item.frames,
                            item.height, item.width, side),
                "media");
  }
  const auto frames_per_row = static_cast<std::uint32_t>(spec.frames_per_row);
  const model::PatchGrid grid{
      .frames = static_cast<std::int32_t>((item.frames - 1) / frames_per_row + 1),
      .rows = static_cast<std::int32_t>(item.height) / spec.patch_size,
      .cols = static_cast<std::int32_t>(item.width) / spec.patch_size};
  PX_CHECK_OK(model::CheckGrid(spec, grid));
  if (spec.timed_frames && grid.frames != 1) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} frames are more than one row of {}", item.frames, frames_per_row),
                "media");
  }
  constexpr double kSecondsMax = 1e6;  // from frame to frame
  const double row_seconds = double{item.seconds_per_frame} * frames_per_row;
  if (!(row_seconds >= 0.0 && row_seconds <= kSecondsMax)) {
    return Fail(Code::kInvalidArgument, "its frames lie no time apart that could be", "media");
  }
  const std::int64_t tokens = spec.projected_rows(grid);
  if (tokens > model::kMediaTokensMax) {
    return Fail(
        Code::kTooLarge,
        fmt::format("it takes {} tokens, at most {} are allowed", tokens, model::kMediaTokensMax),
        "media");
  }
  return Shape{.tokens = static_cast<std::uint32_t>(tokens),
               .grid = spec.media_grid(grid, row_seconds)};
}

// Row by row of frames: no row of a tower sees another one, and scratch memory is as for a picture.
Result<model::VisionFeatures> ModelEncoder::EncodeFilm(const wire::MediaItem& item) {
  media::PatchSpec exact = videos_->patches;
  exact.fit = media::Fit::kExact;
  exact.size = SizeOf(item);
  const std::size_t frame_bytes = exact.size.pixel_count() * media::kImageChannels;
  model::VisionFeatures out;
  for (std::uint32_t begin = 0; begin < item.frames; begin += exact.frames_per_row) {
    std::vector<media::Image> row;
    for (std::uint32_t i = begin; i < std::min(begin + exact.frames_per_row, item.frames); ++i) {
      const auto* pixels =
          reinterpret_cast<const std::uint8_t*>(item.pixels.data()) + i * frame_bytes;
      row.push_back({.size = exact.size, .rgb = {pixels, pixels + frame_bytes}});
    }
    PX_TRY(const media::Patches patches, media::MakeVideoPatches(row, exact));
    PX_TRY(model::VisionFeatures made,
           tower_->Encode(
               {.grid = GridOf(patches), .patches = patches.values, .source = SizeOf(item)}));
    out.rows += made.rows;
    out.size = made.size;
    out.levels = made.levels;
    out.rows_data.insert(out.rows_data.end(), made.rows_data.begin(), made.rows_data.end());
    out.layers_data.insert(out.layers_data.end(), made.layers_data.begin(), made.layers_data.end());
  }
  return out;
}

Result<model::VisionFeatures> ModelEncoder::Encode(const wire::MediaItem& item) {
  if (!tower_) {
    return Fail(Code::kUnavailable,
                "no worker that encodes pictures has encoded this one, and the one that computes "
                "the prompt has no tower (--no-vision-tower)");
  }
  if (item.kind == wire::MediaKind::kVideo) {
    return EncodeFilm(item);
  }
  media::Image image{.size = SizeOf(item), .rgb = {}};
  image.rgb.assign(item.pixels.begin(), item.pixels.end());
  PX_TRY(const media::Patches patches, media::MakePatches(image, processor_));
  return tower_->Encode(
      {.grid = GridOf(patches), .patches = patches.values, .source = SizeOf(item)});
}

}  // namespace pixii::engine
